/* calls NAME COUNT: the round trip of one system call, made COUNT times. */
#include <fcntl.h>
#include <sys/syscall.h>
#include "timing.h"

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "getppid";
    uint64_t count = argument(argc, argv, 2, 100000);
    long number, a = 0, b = 0, c = 0;
    struct timespec now;
    if (!strcmp(name, "lseek")) {
        number = SYS_lseek;
        a = open("calls.scratch", O_RDWR | O_CREAT, 0600);
        if (a < 0 || write((int)a, "x", 1) != 1) {
            perror("calls.scratch");
            return 1;
        }
        c = SEEK_CUR;
    } else if (!strcmp(name, "getppid")) {
        number = SYS_getppid;
    } else if (!strcmp(name, "clock_gettime")) {
        number = SYS_clock_gettime;
        a = CLOCK_MONOTONIC;
        b = (long)&now;
    } else {
        return 2;
    }
    for (uint64_t i = 0; i < count / 10; i++)
        syscall(number, a, b, c);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < count; i++)
        syscall(number, a, b, c);
    say("elapsed", clock_ns(CLOCK_MONOTONIC) - start);
    return 0;
}
