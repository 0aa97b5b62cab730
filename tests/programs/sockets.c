// Sockets as Linux has them: this program is both ends, by way of the host. `sockets PORT` prints what each call says, so that a native run
// and one under Semper can be compared.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int pipes;

static void broken(int signal) {
    (void)signal;
    pipes++;
}

static void say(const char *what, long result) {
    printf("%s: %ld, %d\n", what, result, result < 0 ? errno : 0);
}

static struct sockaddr_in here(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// What poll says once one of `events` has come, or after a while.
static int wait_for(int fd, int events) {
    struct pollfd one = {.fd = fd, .events = events};
    poll(&one, 1, 20000);
    return one.revents;
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    if (getsockopt(fd, level, name, &value, &length) < 0) return -errno;
    return value;
}

static int pair(int listener, int port, int *client) {
    struct sockaddr_in to = here(port);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(*client, (void *)&to, sizeof to) < 0) {
        say("connect", -1);
        exit(1);
    }
    return accept4(listener, NULL, NULL, 0);
}

int main(int argc, char **argv) {
    int port = atoi(argv[1]);
    char buffer[70000];
    struct stat status;
    (void)argc;
    signal(SIGPIPE, broken);

    // Made and bound.
    say("unix", socket(AF_UNIX, SOCK_STREAM | 0x400, 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    say("listener", listener);
    fstat(listener, &status);
    say("is a socket", S_ISSOCK(status.st_mode));
    int one = 1;
    say("reuse", setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    say("reuse is", option(listener, SOL_SOCKET, SO_REUSEADDR));
    say("type is", option(listener, SOL_SOCKET, SO_TYPE));
    say("domain is", option(listener, SOL_SOCKET, SO_DOMAIN));
    say("no such option", setsockopt(listener, SOL_SOCKET, 9999, &one, sizeof one));
    say("option of a file", setsockopt(1, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    say("accept before listen", accept(listener, NULL, NULL));
    struct sockaddr_in address = here(port), told;
    say("bind", bind(listener, (void *)&address, sizeof address));
    say("bind again", bind(listener, (void *)&address, sizeof address));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    say("bind another there", bind(other, (void *)&address, sizeof address));
    close(other);
    say("listens", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
    say("listen", listen(listener, 5));
    say("listens", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
    socklen_t length = sizeof told;
    say("name", getsockname(listener, (void *)&told, &length));
    say("its port", ntohs(told.sin_port) == port);
    say("peer", getpeername(listener, (void *)&told, &length));

    // Connected without waiting.
    int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    say("receive before", recv(client, buffer, 1, 0));
    int begun = connect(client, (void *)&address, sizeof address);
    say("connect", begun == 0 || errno == EINPROGRESS);
    say("is up", wait_for(client, POLLOUT));
    say("error", option(client, SOL_SOCKET, SO_ERROR));
    length = sizeof told;
    say("peer", getpeername(client, (void *)&told, &length));
    say("its port", ntohs(told.sin_port) == port);
    say("somebody came", wait_for(listener, POLLIN));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    length = sizeof told;
    int server = accept4(listener, (void *)&told, &length, SOCK_CLOEXEC);
    say("accept", server >= 0);
    say("length", length);
    say("from", told.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    say("nobody else", accept(listener, NULL, NULL));
    say("close on exec", fcntl(server, F_GETFD));
    say("waits", (fcntl(server, F_GETFL) & O_NONBLOCK) == 0);
    say("no delay", setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    say("no delay is", option(server, IPPROTO_TCP, TCP_NODELAY) != 0);

    // Bytes, looked at and taken, in pieces.
    say("nothing yet", recv(client, buffer, 10, 0));
    say("nor without waiting", recv(server, buffer, 10, MSG_DONTWAIT));
    struct iovec out[2] = {{"hello, ", 7}, {"world", 5}};
    say("writev", writev(client, out, 2));
    say("came", wait_for(server, POLLIN | POLLRDHUP));
    int waiting = 0;
    say("ioctl", ioctl(server, FIONREAD, &waiting));
    say("waiting", waiting);
    say("look", recv(server, buffer, 4, MSG_PEEK));
    say("read", read(server, buffer, 3));
    struct iovec in[2] = {{buffer + 3, 2}, {buffer + 5, 100}};
    struct msghdr message = {.msg_iov = in, .msg_iovlen = 2};
    say("recvmsg", recvmsg(server, &message, 0));
    say("is it", memcmp(buffer, "hello, world", 12) == 0);
    say("seek", lseek(server, 0, SEEK_SET));
    say("pread", pread(server, buffer, 1, 0));
    struct iovec answer = {"answer", 6};
    struct msghdr sent = {.msg_iov = &answer, .msg_iovlen = 1};
    say("sendmsg", sendmsg(server, &sent, MSG_NOSIGNAL));
    say("came", wait_for(client, POLLIN));
    say("recvfrom", recvfrom(client, buffer, 100, MSG_WAITALL | MSG_DONTWAIT, NULL, NULL));

    // Select, and epoll by level, by edge, once.
    fd_set reads;
    FD_ZERO(&reads);
    FD_SET(server, &reads);
    struct timeval soon = {0, 1000};
    say("select", select(server + 1, &reads, NULL, NULL, &soon));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, events[4];
    say("epoll of a file", epoll_ctl(epoll, EPOLL_CTL_ADD, open("/proc/self/exe", O_RDONLY), &event));
    say("change what is not there", epoll_ctl(epoll, EPOLL_CTL_MOD, server, &event));
    say("add", epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event));
    say("add again", epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event));
    say("nothing", epoll_wait(epoll, events, 4, 0));
    say("send", send(client, "abc", 3, 0));
    say("one", epoll_wait(epoll, events, 4, 20000));
    say("its data", events[0].data.u64 == 0x1122334455667788 && events[0].events == EPOLLIN);
    say("by level, again", epoll_wait(epoll, events, 4, 0));
    event.events = EPOLLIN | EPOLLET;
    say("by edge", epoll_ctl(epoll, EPOLL_CTL_MOD, server, &event));
    say("told", epoll_wait(epoll, events, 4, 20000));
    usleep(20000);
    while (epoll_wait(epoll, events, 4, 0) > 0) {
    }
    say("not again", epoll_wait(epoll, events, 4, 0));
    say("send", send(client, "def", 3, 0));
    say("a new edge", epoll_wait(epoll, events, 4, 20000));
    event.events = EPOLLIN | EPOLLONESHOT;
    say("once", epoll_ctl(epoll, EPOLL_CTL_MOD, server, &event));
    say("told", epoll_wait(epoll, events, 4, 20000));
    say("not again", epoll_wait(epoll, events, 4, 0));
    say("poll of epoll", poll(&(struct pollfd){epoll, POLLIN, 0}, 1, 0));
    int ends[2];
    say("pipe", pipe(ends));
    event.events = EPOLLIN;
    event.data.u64 = 7;
    say("add", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event));
    say("write", write(ends[1], "x", 1));
    say("wait", epoll_wait(epoll, events, 4, 1000));
    say("which", events[0].data.u64);
    close(ends[0]);
    say("closed", epoll_wait(epoll, events, 4, 0));
    say("delete", epoll_ctl(epoll, EPOLL_CTL_DEL, server, NULL));
    say("delete again", epoll_ctl(epoll, EPOLL_CTL_DEL, server, NULL));
    say("the rest", read(server, buffer, 100));

    // Much at once: who sends without waiting is stopped, and goes on when there is room.
    memset(buffer, 'm', sizeof buffer);
    long given = 0, got = 0;
    for (long n; (n = send(client, buffer, sizeof buffer, 0)) > 0;) given += n;
    say("stopped", -1);
    for (long n; got < given; got += n) {
        n = read(server, buffer, sizeof buffer);
        if (n <= 0) break;
    }
    say("all came", got == given);
    say("room again", wait_for(client, POLLOUT) & POLLOUT);

    // A wait with a timeout of the socket's own.
    say("timeout", setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 30000}, sizeof(struct timeval)));
    say("over", read(server, buffer, 10));

    // Half closed, then closed.
    say("shutdown", shutdown(client, SHUT_WR));
    say("send", send(client, "x", 1, MSG_NOSIGNAL));
    say("quietly", pipes);
    say("write", write(client, "x", 1));
    say("loudly", pipes);
    say("the end came", wait_for(server, POLLIN | POLLRDHUP));
    say("end", read(server, buffer, 10));
    say("the other way", send(server, "last", 4, 0));
    say("came", wait_for(client, POLLIN));
    say("read", read(client, buffer, 10));
    close(server);
    say("closed", wait_for(client, POLLIN | POLLRDHUP));
    say("end", read(client, buffer, 10));
    say("no socket", shutdown(epoll, SHUT_WR));
    close(client);

    // Waiting ends, and a reset is told.
    fcntl(listener, F_SETFL, 0);
    server = pair(listener, port, &client);
    say("pair", server >= 0);
    say("write", write(client, "unread", 6));
    say("came", wait_for(server, POLLIN));
    struct linger hard = {1, 0};
    say("linger", setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    close(client);
    say("reset", wait_for(server, POLLRDHUP));
    while (read(server, buffer, 100) > 0) {
    }
    say("its error", -1);
    say("then", read(server, buffer, 100));
    say("write", send(server, "x", 1, MSG_NOSIGNAL));
    close(server);

    // Nobody listens any more.
    say("shutdown", shutdown(listener, SHUT_RDWR));
    say("accept", accept(listener, NULL, NULL));
    close(listener);
    client = socket(AF_INET, SOCK_STREAM, 0);
    say("refused", connect(client, (void *)&address, sizeof address));
    close(client);
    client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    begun = connect(client, (void *)&address, sizeof address);
    if (begun < 0 && errno == EINPROGRESS) {
        wait_for(client, POLLOUT);
        errno = option(client, SOL_SOCKET, SO_ERROR);
    }
    say("refused", -1);
    puts("done");
    return 0;
}
