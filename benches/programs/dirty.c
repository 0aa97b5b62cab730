/* dirty MIB: fills its memory with new content whenever a line comes in, and waits for the next. */
#include "timing.h"

int main(int argc, char **argv)
{
    uint64_t pages = argument(argc, argv, 1, 1024) * 256;
    uint64_t *at = memory(pages);
    char line[16];
    for (uint64_t salt = 1; fgets(line, sizeof line, stdin); salt++) {
        fill(at, pages, salt << 32);
        say("ready", pages);
    }
    return 0;
}
