/* Dirties memory until it is told no or has had enough. fill MIB */
#include "semper_test.h"

int main(int argc, char **argv) {
    long mib = atol(argc > 1 ? argv[1] : "64");
    uint64_t hash = 1;
    for (long i = 0; i < mib; i++) {
        uint64_t *piece = malloc(1 << 20);
        if (!piece) {
            printf("no more memory\n");
            return 9;
        }
        for (int at = 0; at < 1 << 17; at++)
            mix(&hash, piece[at] = next_random());
    }
    printf("%ld MiB: %016llx\n", mib, (unsigned long long)hash);
    return 0;
}
