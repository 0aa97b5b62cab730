/* Maps, protects and unmaps all the time: nearly every call has its process told to change mappings. Prints what it read in the end. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PIECES = 16, BYTES = 16384 };

int main(int argc, char **argv) {
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        unsigned char *piece[PIECES];
        for (int i = 0; i < PIECES; i++) {
            piece[i] = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (piece[i] == MAP_FAILED) return 1;
            piece[i][round % BYTES] = (unsigned char)(round + i);
            if (mprotect(piece[i], BYTES, PROT_READ)) return 2;
        }
        for (int i = 0; i < PIECES; i++) {
            sum = sum * 31 + piece[i][round % BYTES] + piece[i][(round + 1) % BYTES];
            if (munmap(piece[i], BYTES)) return 3;
        }
        if (round % (rounds / 10) == 0) printf("%ld %llu\n", round, (unsigned long long)sum), fflush(stdout);
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
