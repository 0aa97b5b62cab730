/* Writes MIB random MiB to a file, says how many went in and whether it was told that there is no room, and reads them back.
 * pour MIB */
#include "semper_test.h"
#include <errno.h>
#include <fcntl.h>

static uint64_t piece[1 << 13], back[1 << 13];

int main(int argc, char **argv) {
    long pieces = atol(argc > 1 ? argv[1] : "1") * 16, done = 0;
    uint64_t written = 0, read_back = 0;
    int file = open("poured", O_RDWR | O_CREAT | O_TRUNC, 0644);
    for (; done < pieces; done++) {
        for (int i = 0; i < 1 << 13; i++)
            piece[i] = next_random();
        size_t at = 0;
        while (at < sizeof piece) {
            ssize_t n = write(file, (char *)piece + at, sizeof piece - at);
            if (n < 0)
                break;
            at += n;
        }
        if (at < sizeof piece)
            break;
        for (int i = 0; i < 1 << 13; i++)
            mix(&written, piece[i]);
    }
    int full = done < pieces && errno == ENOSPC;
    lseek(file, 0, SEEK_SET);
    for (long i = 0; i < done; i++) {
        if (read(file, back, sizeof back) != sizeof back)
            return 2;
        for (int k = 0; k < 1 << 13; k++)
            mix(&read_back, back[k]);
    }
    printf("%ld %s %s\n", done / 16, full ? "full" : "all", written == read_back ? "right" : "wrong");
    return 0;
}
