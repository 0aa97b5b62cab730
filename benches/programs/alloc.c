/* alloc STEPS: the allocations of an interpreter: many small objects, growing buffers, now and then a large block. */
#include "timing.h"

enum { SLOTS = 1 << 16 };

static unsigned char *slots[SLOTS];

static size_t some_size(uint64_t random)
{
    uint64_t kind = random & 1023;
    if (kind == 0)
        return 128 * 1024 + (random >> 10) % (512 * 1024);
    if (kind < 32)
        return 1024 + (random >> 10) % 8192;
    return 16 + (random >> 10) % 240;
}

int main(int argc, char **argv)
{
    uint64_t steps = argument(argc, argv, 1, 1000000), state = 88172645463325252, hash = 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t n = 0; n < steps; n++) {
        uint64_t random = next_random(&state);
        unsigned char **slot = &slots[random % SLOTS];
        size_t size = some_size(random >> 16);
        if (*slot)
            hash = mix(hash ^ **slot);
        if (random >> 62) {
            free(*slot);
            *slot = malloc(size);
        } else {
            *slot = realloc(*slot, size);
        }
        if (!*slot)
            return 1;
        (*slot)[0] = (unsigned char)random;
        (*slot)[size - 1] = (unsigned char)(random >> 8);
    }
    say("elapsed", clock_ns(CLOCK_MONOTONIC) - start);
    say("result", hash);
    return 0;
}
