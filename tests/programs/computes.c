/* Serves two clients at a time: waits until both have sent something, answers the first, computes without a call, so many million turns, and
 * answers the second. computes PORT MILLIONS */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "semper_test.h"

static void echo(int fd) {
    char bytes[4096];
    long got = read(fd, bytes, sizeof bytes);
    if (got > 0)
        write(fd, bytes, got);
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 8))
        return 1;
    for (;;) {
        struct pollfd both[2];
        for (int i = 0; i < 2; i++)
            both[i] = (struct pollfd){.fd = accept(listener, 0, 0), .events = POLLIN};
        do
            poll(both, 2, -1);
        while (!(both[0].revents && both[1].revents));
        echo(both[0].fd);
        for (volatile long turn = atol(argv[2]) * 1000000; turn > 0; turn--)
            ;
        echo(both[1].fd);
        close(both[0].fd);
        close(both[1].fd);
    }
}
