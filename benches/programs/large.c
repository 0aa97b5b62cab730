/* large MIB UPDATES: works on so much memory: fills it, reads it in order, updates random pages, adds everything up. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 2048) * 256, updates = argument(argc, argv, 2, 100000);
    uint64_t *at = memory(pages), state = 88172645463325252, hash = 0, wrong = 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    fill(at, pages, 0);
    say("fill", clock_ns(CLOCK_MONOTONIC) - start);
    start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t page = 0; page < pages; page++)
        wrong += at[page * WORDS] != mix(page);
    say("read", clock_ns(CLOCK_MONOTONIC) - start);
    start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < updates; i++) {
        uint64_t random = next_random(&state);
        at[(random >> 12) % pages * WORDS + (random & (WORDS - 1))] ^= random;
    }
    say("update", clock_ns(CLOCK_MONOTONIC) - start);
    for (uint64_t i = 0; i < pages * WORDS; i++)
        hash = mix(hash ^ at[i]);
    say("wrong", wrong);
    say("result", hash);
    return 0;
}
