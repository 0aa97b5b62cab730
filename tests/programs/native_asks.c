/* A native program that asks what the processor is: native_asks [wait] */
#include "semper_domain.h"

static void ask(uint32_t leaf, uint32_t *w) {
    __asm__ volatile("cpuid" : "=a"(w[0]), "=b"(w[1]), "=c"(w[2]), "=d"(w[3]) : "a"(leaf), "c"(0));
}

static char *hex(char *to, uint32_t word) {
    for (int shift = 28; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[word >> shift & 15];
    *to++ = ' ';
    return to;
}

static void tell(void) {
    uint32_t one[4], seven[4];
    char line[64], *end = line;
    ask(1, one), ask(7, seven);
    end = hex(hex(end, one[2]), seven[1]);
    end[-1] = '\n', *end = 0;
    semper_print(line);
}

static uint64_t life(void) {
    struct semper_message message = semper_message(SEMPER_RESTART, 1);
    semper_invoke(&message, 0, 0);
    return message.got_words[1];
}

int semper_main(const struct semper_boot *boot) {
    const char *how = semper_arg(boot, 1);
    tell();
    if (how && how[0] == 'w') {
        uint64_t before = life();
        while (life() == before)
            semper_order(SEMPER_CHECKPOINT, 2, 0, 0);
        tell();
    }
    return 0;
}
