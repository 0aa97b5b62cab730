/* Two processes that answer each other over a Unix socket: sockets CALLS BYTES */
#include "timing.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char message[64 + 4096];

static void whole(int fd, size_t bytes, int sends) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = sends ? write(fd, message + done, bytes - done) : read(fd, message + done, bytes - done);
        if (n <= 0)
            exit(1);
        done += (size_t)n;
    }
}

int main(int argc, char **argv) {
    long calls = atol(argv[1]);
    /* Eight words, and the string. */
    size_t bytes = 64 + (size_t)(argc > 2 ? atol(argv[2]) : 0);
    int ends[2];
    if (bytes > sizeof message || socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        return 1;
    if (!fork()) {
        for (long n = 0; n < calls; n++) {
            whole(ends[1], bytes, 0);
            whole(ends[1], bytes, 1);
        }
        _exit(0);
    }
    uint64_t begun = clock_ns(CLOCK_MONOTONIC);
    for (long n = 0; n < calls; n++) {
        whole(ends[0], bytes, 1);
        whole(ends[0], bytes, 0);
    }
    say("elapsed", clock_ns(CLOCK_MONOTONIC) - begun);
    wait(0);
    return 0;
}
