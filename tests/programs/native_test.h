/* What native programs of the tests share. */
#include "semper_domain.h"

static inline uint64_t number(const char *text) {
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

static inline void say(const char *what, uint64_t value) {
    char digits[21];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + value % 10), value /= 10;
    while (value);
    semper_print(what);
    semper_write(digits + at, sizeof digits - at);
    semper_print("\n");
}
