/* Writes numbered lines to standard output and standard error in a fixed, irregular order. both LINES WORK */
#include "semper_test.h"

int main(int argc, char **argv) {
    int lines = atoi(argc > 1 ? argv[1] : "100"), work = atoi(argc > 2 ? argv[2] : "1000");
    uint64_t hash = 14695981039346656037ull;
    for (int line = 0; line < lines; line++) {
        for (int i = 0; i < work; i++)
            mix(&hash, next_random());
        char text[64];
        int fd = 1 + (int)(next_random() & 1);
        int length = snprintf(text, sizeof text, "%d on %d: %016llx\n", line, fd, (unsigned long long)hash);
        if (write(fd, text, (size_t)length) != length)
            return 1;
    }
    return 4;
}
