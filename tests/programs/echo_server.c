// Echoes, one connection after the other, with calls that wait: `echo_server PORT [PORT_TO_CONNECT_TO]`. A connection that begins with `B` gets 4 MiB
// by one write instead. What each call says is printed.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char burst[4 << 20];

static long said(const char *what, long result) {
    printf("%s %ld %d\n", what, result < 0 ? -1 : result, result < 0 ? errno : 0);
    fflush(stdout);
    return result;
}

static struct sockaddr_in at(const char *port, unsigned address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    to.sin_addr.s_addr = htonl(address);
    return to;
}

int main(int argc, char **argv) {
    if (argc > 2) {
        struct sockaddr_in to = at(argv[2], INADDR_LOOPBACK);
        int out = socket(AF_INET, SOCK_STREAM, 0);
        if (said("connect", connect(out, (void *)&to, sizeof to)) < 0) return 1;
        said("send", send(out, "ping", 4, 0));
        char answer[16];
        said("answer", recv(out, answer, 4, MSG_WAITALL));
        close(out);
    }
    struct sockaddr_in here = at(argv[1], INADDR_ANY);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (said("bind", bind(listener, (void *)&here, sizeof here)) < 0) return 1;
    if (said("listen", listen(listener, 16)) < 0) return 1;
    for (size_t i = 0; i < sizeof burst; i++) burst[i] = (char)(i % 251);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        puts(fd < 0 ? "no connection" : "accepted");
        fflush(stdout);
        char buffer[4096];
        long n;
        while ((n = read(fd, buffer, sizeof buffer)) > 0) {
            if (buffer[0] == 'B')
                said("burst", write(fd, burst, sizeof burst));
            else if (write(fd, buffer, n) != n)
                said("write", -1);
        }
        said("ended", n);
        close(fd);
    }
}
