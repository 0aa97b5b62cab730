/* scatter MIB WRITES: so many writes to random places of so much memory. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 256) * 256, writes = argument(argc, argv, 2, 1000000);
    uint64_t *at = memory(pages), state = 88172645463325252, hash = 0;
    fill(at, pages, 0);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < writes; i++) {
        uint64_t random = next_random(&state);
        at[(random >> 12) % pages * WORDS + (random & (WORDS - 1))] ^= random;
    }
    say("elapsed", clock_ns(CLOCK_MONOTONIC) - start);
    for (uint64_t i = 0; i < pages * WORDS; i++)
        hash = mix(hash ^ at[i]);
    say("result", hash);
    return 0;
}
