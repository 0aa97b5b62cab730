/* spin MIB: fills its memory, then computes in registers for ever. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 2048) * 256;
    uint64_t *at = memory(pages), x = 1;
    fill(at, pages, 0);
    say("ready", pages);
    for (;;)
        __asm__ volatile("imul $1103515245, %0, %0\n\tadd $12345, %0" : "+r"(x));
}
