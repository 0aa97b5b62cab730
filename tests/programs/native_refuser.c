/* A native domain that will not be stopped: refuser HOW.
 *
 * mask: goes back out of the stub by a signal frame of its own that holds every signal back, so that it hears of no freeze; then computes.
 * sleep: the same, and sleeps. post: says that it waits for a message, and computes. */
#include "semper_domain.h"

static uint64_t frame[120];
static char stack[4096];
static volatile uint64_t count;

static void compute(void) {
    for (;;) count++;
}

static void sleep(void) {
    /* A futex of the control pages that nobody wakes. */
    uint64_t at = SEMPER_CONTROL + 2048;
    for (uint64_t stub = 0x700000001000ull; stub < 0x700000003000ull; stub++)
        if (*(volatile uint16_t *)stub == 0x050f && *(volatile uint16_t *)(stub + 2) == 0x0b0f)
            __asm__ volatile("jmp *%0" : : "r"(stub), "a"(202ull), "D"(at), "S"(0ull), "d"(0ull) : "memory");
    compute();
}

static void hold_signals_back(void (*then)(void)) {
    /* ucontext: the signal stack, registers from word 5 on (rsp, rip, flags, selectors), the mask. */
    frame[2] = SEMPER_CONTROL + 0x1000, frame[4] = 0x10000;
    frame[20] = (uint64_t)stack + sizeof stack - 72, frame[21] = (uint64_t)then;
    frame[22] = 0x202, frame[23] = 0x33 | 0x2bull << 48;
    frame[37] = ~0ull;
    for (uint64_t stub = 0x700000001000ull; stub < 0x700000003000ull; stub++)
        if (*(volatile uint16_t *)stub == 0x050f)
            __asm__ volatile("mov %0, %%rsp\n\tjmp *%1" : : "r"(frame), "r"(stub), "a"(15ull) : "memory");
}

int semper_main(const struct semper_boot *boot) {
    const char *how = semper_arg(boot, 1);
    if (how[0] == 'm') hold_signals_back(compute);
    if (how[0] == 's') hold_signals_back(sleep);
    struct semper_message *message = (struct semper_message *)SEMPER_MESSAGE;
    *message = semper_message(14, 0);
    message->how = SEMPER_REPLY_AND_WAIT;
    volatile uint32_t *header = (uint32_t *)SEMPER_CONTROL;
    header[2] = 1001;
    *(volatile uint64_t *)(SEMPER_CONTROL + 16) = 0;
    __asm__ volatile("mfence" : : : "memory");
    header[0] = 1;
    compute();
    return 0;
}
