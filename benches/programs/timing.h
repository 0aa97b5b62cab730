/* What the programs of the figures share: a clock, a generator, and filling memory. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* splitmix64: one multiplication chain, good bits, any seed. */
static inline uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static uint64_t argument(int argc, char **argv, int index, uint64_t otherwise)
{
    return argc > index ? strtoull(argv[index], NULL, 10) : otherwise;
}

static uint64_t *memory(uint64_t pages)
{
    void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return at;
}

/* Content that does not compress and that tells which page it is: word 0 is mix(page ^ salt). */
static void fill_page(uint64_t *words, uint64_t page, uint64_t salt)
{
    uint64_t state = mix(page ^ salt) | 1;
    words[0] = mix(page ^ salt);
    for (int i = 1; i < WORDS; i++)
        words[i] = next_random(&state);
}

static void fill(uint64_t *at, uint64_t pages, uint64_t salt)
{
    for (uint64_t page = 0; page < pages; page++)
        fill_page(at + page * WORDS, page, salt);
}

static void say(const char *key, uint64_t value)
{
    printf("%s %llu\n", key, (unsigned long long)value);
    fflush(stdout);
}
