/* Fills a block of memory twice, rests, and then reads it. twice SECONDS */
#include "semper_test.h"
#include <time.h>

static uint64_t block[1 << 18];

static void rest(double seconds) {
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&time, 0);
}

static void fill(const char *name, uint64_t with) {
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        block[i] = i * with;
    puts(name);
    fflush(stdout);
}

int main(int argc, char **argv) {
    fill("one", 0x9e3779b97f4a7c15ull);
    rest(0.4);
    fill("two", 0xc2b2ae3d27d4eb4full);
    rest(argc > 1 ? atof(argv[1]) : 1);
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        mix(&hash, block[i]);
    printf("sum %016llx\n", (unsigned long long)hash);
    return 3;
}
