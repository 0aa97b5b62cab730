/* Maps, advises and unmaps small blocks, thousands of times, as allocators do; every page must hold what was put there, new
 * ones zeros. Prints a checksum as it goes. blocks ROUNDS */
#define _GNU_SOURCE
#include "semper_test.h"
#include <errno.h>
#include <sys/mman.h>

enum { BLOCKS = 256, PAGE = 4096 };

static struct {
    unsigned char *at;
    size_t pages;
    uint64_t value;
} blocks[BLOCKS];

static void fail(const char *what) {
    printf("%s\n", what);
    exit(1);
}

static void take(int i) {
    size_t pages = 1 + next_random() % 20, length = pages * PAGE - next_random() % PAGE;
    unsigned char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        fail("no memory");
    blocks[i].at = at;
    blocks[i].pages = pages;
    blocks[i].value = next_random();
    for (size_t page = 0; page < pages; page++) {
        for (size_t byte = 0; byte < PAGE; byte += 512)
            if (at[page * PAGE + byte])
                fail("new memory is not zero");
        *(uint64_t *)(at + page * PAGE) = blocks[i].value + page;
    }
}

static void leave(int i, uint64_t *hash) {
    for (size_t page = 0; page < blocks[i].pages; page++) {
        if (*(uint64_t *)(blocks[i].at + page * PAGE) != blocks[i].value + page)
            fail("a page has changed");
        mix(hash, blocks[i].value + page);
    }
    /* Freed and written again is used. */
    if (madvise(blocks[i].at, PAGE, MADV_FREE))
        fail("advice was refused");
    *(uint64_t *)blocks[i].at = 1;
    if (*(volatile uint64_t *)blocks[i].at != 1)
        fail("a freed page cannot be used again");
    if (munmap(blocks[i].at, blocks[i].pages * PAGE))
        fail("munmap was refused");
    if (madvise(blocks[i].at, PAGE, MADV_FREE) == 0 || errno != ENOMEM)
        fail("advice on what is not mapped was taken");
}

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "100");
    uint64_t hash = 14695981039346656037ull;
    for (int i = 0; i < BLOCKS; i++)
        take(i);
    for (int round = 0; round < rounds; round++) {
        for (int n = 0; n < 100; n++) {
            int i = (int)(next_random() % BLOCKS);
            leave(i, &hash);
            take(i);
        }
        if (round % 10 == 0)
            printf("round %d: %016llx\n", round, (unsigned long long)hash);
    }
    printf("all: %016llx\n", (unsigned long long)hash);
    return 5;
}
