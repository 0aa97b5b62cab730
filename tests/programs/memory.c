/* Writes and reads all over a large array, allocates and frees, and prints a checksum as it goes.
 * memory MIB ROUNDS */
#include "semper_test.h"

int main(int argc, char **argv) {
    size_t words = (size_t)atol(argc > 1 ? argv[1] : "8") << 17;
    int rounds = atoi(argc > 2 ? argv[2] : "100");
    uint64_t *array = calloc(words, 8), hash = 14695981039346656037ull;
    if (!array) {
        puts("no memory");
        return 1;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < 40000; i++) {
            uint64_t random = next_random();
            array[random % words] += random;
            mix(&hash, array[(random >> 20) % words]);
        }
        char *pieces[64];
        for (int i = 0; i < 64; i++) {
            size_t size = 16 + next_random() % 20000;
            pieces[i] = malloc(size);
            memset(pieces[i], round + i, size);
            mix(&hash, (uint64_t)pieces[i][size / 2]);
        }
        for (int i = 0; i < 64; i++)
            free(pieces[i]);
        printf("round %d: %016llx\n", round, (unsigned long long)hash);
    }
    for (size_t i = 0; i < words; i++)
        mix(&hash, array[i]);
    printf("all: %016llx\n", (unsigned long long)hash);
    return 7;
}
