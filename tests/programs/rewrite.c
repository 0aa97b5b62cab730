/* Takes more and more memory, and writes all that it has again each time. rewrite MIB */
#include "semper_test.h"

int main(int argc, char **argv) {
    long mib = atol(argc > 1 ? argv[1] : "64");
    uint64_t **pieces = malloc((size_t)mib * sizeof *pieces), hash = 1;
    for (long i = 0; i < mib; i++) {
        pieces[i] = malloc(1 << 20);
        if (!pieces[i]) {
            printf("no more memory\n");
            return 9;
        }
        for (long j = 0; j <= i; j++)
            for (int at = 0; at < 1 << 17; at += 64)
                mix(&hash, pieces[j][at] = next_random());
        if (i % 4 == 3) {
            printf("%ld MiB: %016llx\n", i + 1, (unsigned long long)hash);
            fflush(stdout);
        }
    }
    return 4;
}
