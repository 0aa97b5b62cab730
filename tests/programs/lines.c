/* Numbered lines, each after a little work. lines COUNT (0: without end) [whole: each with a write of its own] */
#include "semper_test.h"

int main(int argc, char **argv) {
    long count = atol(argc > 1 ? argv[1] : "1000");
    if (argc > 2)
        setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    uint64_t hash = 14695981039346656037ull;
    for (long line = 1; !count || line <= count; line++) {
        for (int i = 0; i < 20000; i++)
            mix(&hash, next_random());
        printf("line %ld: %016llx\n", line, (unsigned long long)hash);
    }
    return 8;
}
