/* paced MIB RATE: fills its memory and then writes into random pages, RATE MiB of them in a second, a hundredth of that at once. Each second it says
   for how long it was away at most, by the wall clock, in nanoseconds: 10 ms are its own pause. */
#include "timing.h"

enum { SLICE_NS = 10000000, SLICES = 100 };

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 4096) * 256, each = argument(argc, argv, 2, 50) * 256 / SLICES;
    uint64_t *at = memory(pages), state = 88172645463325252, away = 0;
    fill(at, pages, 0);
    say("ready", pages);
    uint64_t next = clock_ns(CLOCK_MONOTONIC), before = clock_ns(CLOCK_REALTIME);
    for (uint64_t slice = 1;; slice++) {
        for (uint64_t i = 0; i < each; i++)
            at[(next_random(&state) >> 12) % pages * WORDS + 1] = state;
        next += SLICE_NS;
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        if (now < next)
            usleep((next - now) / 1000);
        else
            next = now;
        now = clock_ns(CLOCK_REALTIME);
        if (now - before > away)
            away = now - before;
        before = now;
        if (slice % SLICES == 0) {
            say("away", away);
            away = 0;
        }
    }
}
