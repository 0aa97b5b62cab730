/* Writes one page of a large segment, waits for a restart of the world, and reads it by key. */
#include "semper_domain.h"

enum { PAGE = 12345 };

static uint64_t life(void) {
    struct semper_message message = semper_message(SEMPER_RESTART, 1);
    semper_invoke(&message, 0, 0);
    return message.got_words[1];
}

int semper_main(const struct semper_boot *boot) {
    (void)boot;
    static char bytes[4096];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7 + 1);
    semper_get(SEMPER_BANK, 3, 20000, 12);
    struct semper_message message = semper_message(12, 2);
    message.words[0] = PAGE * 4096ull;
    semper_invoke(&message, bytes, sizeof bytes);
    uint64_t before = life();
    /* Until every kept generation has it. */
    for (int n = 0; n < 10; n++) semper_order(SEMPER_CHECKPOINT, 2, 0, 0);
    semper_print("written\n");
    while (life() == before) semper_order(SEMPER_CHECKPOINT, 2, 0, 0);
    message = semper_message(12, 1);
    message.words[0] = PAGE * 4096ull, message.words[1] = 8;
    semper_invoke(&message, 0, 0);
    char told[] = "answer 00\n";
    uint32_t error = message.code < SEMPER_FIRST_ERROR ? message.code : message.code - SEMPER_FIRST_ERROR + 1;
    told[7] += (char)(error / 10), told[8] += (char)(error % 10);
    semper_print(told);
    return 0;
}
