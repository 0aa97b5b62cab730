// A native program that takes what it can get: native_selfish fill | nodes | destroy | sell
#include "semper_domain.h"

static char *digits(char *to, uint64_t value) {
    char turned[24];
    int count = 0;
    do
        turned[count++] = '0' + value % 10;
    while (value /= 10);
    while (count)
        *to++ = turned[--count];
    return to;
}

static void say(const char *what, uint64_t count, uint32_t code) {
    char line[64], *end = digits(line, count);
    *end++ = ' ';
    end = digits(end, code & 0xff);
    *end++ = '\n';
    *end = 0;
    semper_print(what);
    semper_print(line);
}

int semper_main(const struct semper_boot *boot) {
    const char *how = semper_arg(boot, 1);
    struct semper_message message;
    uint64_t count = 0;
    uint32_t code = 0;
    switch (how[0]) {
    case 'f': { // Writes a segment, page by page.
        static char page[4096];
        code = semper_get(3, 3, 1 << 20, 12);
        while (!code && count < 1 << 20) {
            message = semper_message(12, 2);
            message.words[0] = count * 4096;
            page[0] = 1 + count % 100;
            code = semper_invoke(&message, page, sizeof page);
            count++;
        }
        say("filled ", count, code);
        return 0;
    }
    case 'n': // Buys nodes, and forgets the keys.
        while (!(code = semper_get(3, 4, 0, 12)))
            count++;
        say("nodes ", count, code);
        return 0;
    case 'd': // Destroys its own bank.
        message = semper_message(3, 12);
        break;
    default: // Sells its own domain.
        message = semper_message(3, 9);
        message.keys[0] = 9;
    }
    code = semper_invoke(&message, 0, 0);
    say("survived ", 0, code);
    return 3;
}
