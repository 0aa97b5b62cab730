/* Fills memory from end to end, once, and then reads it all again, twice. large MIB */
#include "semper_test.h"

int main(int argc, char **argv) {
    size_t mib = (size_t)atol(argc > 1 ? argv[1] : "64"), words = 1 << 17;
    uint64_t hash = 14695981039346656037ull, **pieces = malloc(mib * sizeof *pieces);
    for (size_t i = 0; i < mib; i++) {
        pieces[i] = malloc(words * sizeof **pieces);
        if (!pieces[i]) {
            puts("no more memory");
            return 9;
        }
        for (size_t at = 0; at < words; at++)
            pieces[i][at] = next_random();
        if (i % 8 == 7)
            printf("%zu MiB\n", i + 1);
    }
    for (int time = 1; time <= 2; time++)
        for (size_t i = 0; i < mib; i++) {
            for (size_t at = 0; at < words; at += 7)
                mix(&hash, pieces[i][at]);
            if (i % 16 == 15)
                printf("read %d, %zu MiB: %016llx\n", time, i + 1, (unsigned long long)hash);
        }
    return 6;
}
