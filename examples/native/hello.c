/* The smallest domain in C: greets, counts its arguments, and shows that it buys and sells. */
#include "semper_domain.h"

static void print_number(uint64_t n) {
    char digits[20];
    int at = sizeof digits;
    do digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    semper_write(digits + at, sizeof digits - (size_t)at);
}

int semper_main(const struct semper_boot *boot) {
    int args = 0;
    while (semper_arg(boot, args)) args++;
    semper_print("hello from C with ");
    print_number((uint64_t)args - 1);
    semper_print(" arguments\n");

    /* A page from the bank (order 2) into slot 12; its bytes 0 to 7 written (order 2) and read (order 1). */
    enum { PAGE = 12 };
    uint64_t written = semper_monotonic(), read = 0;
    if (semper_get(SEMPER_BANK, 2, 0, PAGE)) semper_panic("the bank sells nothing");
    struct semper_message message = semper_message(PAGE, 2);
    if (semper_invoke(&message, &written, sizeof written)) semper_panic("the page cannot be written");
    message = semper_message(PAGE, 1);
    message.words[1] = sizeof read;
    if (semper_invoke(&message, 0, 0)) semper_panic("the page cannot be read");
    memcpy(&read, semper_string(), sizeof read);
    semper_print(read == written ? "the page holds what was written\n" : "the page is wrong\n");
    return read != written;
}
