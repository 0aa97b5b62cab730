/* portion MIB: for each line with a number, writes that many random pages of its memory anew, or all if it has no more. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 1024) * 256, state = 88172645463325252;
    uint64_t *at = memory(pages);
    char line[32];
    for (uint64_t salt = 1; fgets(line, sizeof line, stdin); salt++) {
        uint64_t wanted = strtoull(line, NULL, 10);
        if (wanted >= pages)
            fill(at, pages, salt << 32);
        else
            for (uint64_t i = 0; i < wanted; i++) {
                uint64_t page = (next_random(&state) >> 12) % pages;
                fill_page(at + page * WORDS, page, salt << 32);
            }
        say("ready", wanted);
    }
    return 0;
}
