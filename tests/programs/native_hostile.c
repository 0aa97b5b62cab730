/* A native domain that tries what it should not: hostile SEED ROUNDS. It is begun anew by nobody; what it does to itself is its affair. */
#include "semper_domain.h"

static uint64_t state;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t number(const char *text) {
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* An invocation of anything with anything: slots that do not exist, strings that are too long, orders that nobody has. */
static void nonsense(void) {
    volatile unsigned char *message = (unsigned char *)SEMPER_MESSAGE;
    for (unsigned i = 0; i < 64; i++)
        message[i] = (unsigned char)next();
    /* Mostly a key that is there and a likely order, so that more than the first check is met; never the own order `end`. */
    if (next() % 4)
        message[0] = (unsigned char)(next() % 17);
    message[1] = (unsigned char)(next() % 2);
    *(volatile uint32_t *)(message + 4) = (uint32_t)(next() % (next() % 2 ? 16 : 1ull << 32));
    if (message[0] == 255 && *(volatile uint32_t *)(message + 4) == 4)
        message[0] = 16;
    /* No wait for input or for ever. */
    if (message[0] == 0 && *(volatile uint32_t *)(message + 4) == 2)
        *(volatile uint32_t *)(message + 4) = 1;
    *(volatile uint64_t *)(message + 56) = 1;
    ((void (*)(void))SEMPER_INVOKE)();
}

int semper_main(const struct semper_boot *boot) {
    state = number(semper_arg(boot, 1)) * 0x9e3779b97f4a7c15ull | 1;
    for (uint64_t rounds = number(semper_arg(boot, 2)); rounds; rounds--) {
        nonsense();
        if (next() % 64 == 0) {
            /* What the stub and the kernel tell each other, but not the page's own code. */
            volatile uint64_t *header = (uint64_t *)SEMPER_CONTROL;
            header[2 + next() % 60] = next();
        }
    }
    semper_print("it came through\n");
    /* Into the stub, anywhere. */
    ((void (*)(void))(0x700000001000ull + next() % 8192))();
    return 0;
}
