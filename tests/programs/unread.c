/* Serves two clients at a time: waits until both have sent something, receives from the first alone, answers it, and waits until the first is
 * gone, or computes without a call, so many million turns; then receives from the second. What a client sent goes back to it, and to nobody
 * else. unread PORT [MILLIONS] */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "semper_test.h"

static int wait_both(struct pollfd *both) {
    do
        poll(both, 2, -1);
    while (!(both[0].revents && both[1].revents));
    return (both[0].revents | both[1].revents) & (POLLERR | POLLHUP);
}

static void echo(int fd, char *bytes, long size) {
    long got = read(fd, bytes, size);
    if (got > 0)
        write(fd, bytes, got);
}

int main(int argc, char **argv) {
    char bytes[4096];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 8))
        return 1;
    for (;;) {
        struct pollfd both[2];
        for (int i = 0; i < 2; i++)
            both[i] = (struct pollfd){.fd = accept(listener, 0, 0), .events = POLLIN};
        if (!wait_both(both)) {
            echo(both[0].fd, bytes, sizeof bytes);
            if (argc > 2) {
                for (volatile long turn = atol(argv[2]) * 1000000; turn > 0; turn--)
                    ;
            } else {
                /* Until the first has something more to say, or is gone. */
                poll(both, 1, -1);
            }
            echo(both[1].fd, bytes, sizeof bytes);
        }
        close(both[0].fd);
        close(both[1].fd);
    }
}
