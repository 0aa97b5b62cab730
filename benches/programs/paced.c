/* paced MIB RATE: fills its memory and then writes into random pages, RATE MiB of them in a second, a hundredth of that at once. When it was away for
   more than a tenth of a second by the wall clock, it says for how long, in nanoseconds. */
#include "timing.h"

enum { SLICE_NS = 10000000, AWAY_NS = 100000000 };

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 4096) * 256, each = argument(argc, argv, 2, 50) * 256 / 100;
    uint64_t *at = memory(pages), state = 88172645463325252;
    fill(at, pages, 0);
    say("ready", pages);
    uint64_t next = clock_ns(CLOCK_MONOTONIC), before = clock_ns(CLOCK_REALTIME);
    for (;;) {
        for (uint64_t i = 0; i < each; i++)
            at[(next_random(&state) >> 12) % pages * WORDS + 1] = state;
        next += SLICE_NS;
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (now < next)
            usleep((next - now) / 1000);
        else
            next = now;
        now = clock_ns(CLOCK_REALTIME);
        if (now - before > AWAY_NS)
            say("away", now - before);
        before = now;
    }
}
