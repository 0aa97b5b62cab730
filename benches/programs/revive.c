/* revive MIB PAGES: fills its memory and watches the wall clock. Each time the clock has jumped, as it does over a pause
   of the machine, it says what time it is, and then how long it takes to look at PAGES pages: at random in the first half, and one
   after the other in the second half. */
#include "timing.h"

enum { JUMP_NS = 300000000 };

static uint64_t *at;
static uint64_t pages, wrong;

static void look(uint64_t page)
{
    if (at[page * WORDS] != mix(page))
        wrong++;
}

int main(int argc, char **argv)
{
    pages = argument(argc, argv, 1, 2048) * 256;
    uint64_t looks = argument(argc, argv, 2, 0), half = pages / 2;
    at = memory(pages);
    fill(at, pages, 0);
    say("ready", pages);
    for (;;) {
        uint64_t before = clock_ns(CLOCK_REALTIME), now = before, start;
        while ((now = clock_ns(CLOCK_REALTIME)) - before < JUMP_NS)
            before = now;
        say("first", now);
        if (!looks)
            continue;
        start = clock_ns(CLOCK_MONOTONIC);
        for (uint64_t i = 0; i < looks; i++)
            look(mix(i + 1) % half);
        say("random", clock_ns(CLOCK_MONOTONIC) - start);
        start = clock_ns(CLOCK_MONOTONIC);
        for (uint64_t i = 0; i < looks; i++)
            look(half + i);
        say("sequential", clock_ns(CLOCK_MONOTONIC) - start);
        say("wrong", wrong);
    }
}
