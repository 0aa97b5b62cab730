/* Maps a file as a loader of libraries does: all of it, then pieces over it with other protections and offsets, zeros behind; changes some, and
   looks at all of them again and again. */
#include "semper_test.h"
#include <fcntl.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 96, MAPS = 12 };

static unsigned char *maps[MAPS];
static uint64_t written[MAPS];

/* The byte at `at` of the file. */
static unsigned char byte(long at) {
    return (unsigned char)((at * 2654435761u) >> 13);
}

static void make(const char *name) {
    static unsigned char page[PAGE];
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    for (long i = 0; i < PAGES; i++) {
        for (long j = 0; j < PAGE; j++) page[j] = byte(i * PAGE + j);
        if (write(fd, page, PAGE) != PAGE) exit(9);
    }
    close(fd);
}

/* 0..31 to read, 32..63 to read and execute, 64..79 private and written, from 80 on zeros; each piece is a page further in the file. */
static void load(int i, const char *name) {
    int fd = open(name, O_RDONLY);
    unsigned char *at = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) exit(8);
    if (mmap(at + 32 * PAGE, 32 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fd, 33 * PAGE) == MAP_FAILED) exit(8);
    if (mmap(at + 64 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 66 * PAGE) == MAP_FAILED) exit(8);
    if (mmap(at + 80 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) exit(8);
    close(fd);
    written[i] = next_random() | 1;
    for (long n = 64; n < 96; n++) memcpy(at + n * PAGE + 100, &written[i], 8);
    mprotect(at + 64 * PAGE, 4 * PAGE, PROT_READ);
    maps[i] = at;
}

static void check(int i) {
    unsigned char *at = maps[i];
    for (long n = 0; n < PAGES; n++) {
        long shift = n < 32 ? 0 : n < 64 ? 1 : 2;
        for (long j = 0; j < PAGE; j += 61) {
            if (n >= 64 && j >= 100 && j < 108) continue;
            unsigned char wanted = n < 80 ? byte((n + shift) * PAGE + j) : 0;
            if (at[n * PAGE + j] != wanted) {
                printf("map %d page %ld byte %ld is %d, not %d\n", i, n, j, at[n * PAGE + j], wanted);
                exit(7);
            }
        }
        if (n >= 64 && memcmp(at + n * PAGE + 100, &written[i], 8)) {
            printf("map %d page %ld is not what was written\n", i, n);
            exit(6);
        }
    }
}

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 100;
    uint64_t hash = 1;
    make("library");
    for (int i = 0; i < MAPS; i++) load(i, "library");
    for (long round = 0; round < rounds; round++) {
        int i = (int)(next_random() % MAPS);
        check(i);
        munmap(maps[i], PAGES * PAGE);
        load(i, "library");
        for (int k = 0; k < MAPS; k++) check(k), mix(&hash, written[k]);
        if (round % (rounds / 20) == 0) printf("%ld %016lx\n", round, hash), fflush(stdout);
    }
    return 0;
}
