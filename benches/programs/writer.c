/* writer MIB [SECONDS]: writes into random pages at full speed and says each second how many writes it made. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 2048) * 256, seconds = argument(argc, argv, 2, UINT64_MAX);
    uint64_t *at = memory(pages), state = 88172645463325252;
    fill(at, pages, 0);
    say("ready", pages);
    for (uint64_t second = 0; second < seconds; second++) {
        uint64_t writes = 0, start = clock_ns(CLOCK_MONOTONIC), now;
        do {
            for (int i = 0; i < 16384; i++) {
                uint64_t random = next_random(&state);
                at[(random >> 12) % pages * WORDS + (random & (WORDS - 1))] = random;
            }
            writes += 16384;
            now = clock_ns(CLOCK_MONOTONIC);
        } while (now - start < 1000000000);
        say("rate", writes * 1000000000 / (now - start));
    }
    return 0;
}
