/* What the test programs share: none of them knows anything of Semper. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fixed pseudo-random sequence, so that every run of a program is the same. */
static uint64_t seed_ = 88172645463325252ull;
static inline uint64_t next_random(void) {
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    seed_ ^= seed_ << 17;
    return seed_;
}

static inline void mix(uint64_t *hash, uint64_t value) {
    *hash = (*hash ^ value) * 0x100000001b3ull;
    *hash ^= *hash >> 29;
}
