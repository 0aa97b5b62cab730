/* An event loop: messages go round through Unix sockets, streams and sequenced packets, timers tick, signals are read, connections come and
   go. What it prints does not depend on time. */
#define _GNU_SOURCE
#include "semper_test.h"
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>

enum { PAIRS = 4, STREAM = 100, TIMER, SIGNALS, LISTENER, CLIENT, SERVED };

static int epoll, pairs[PAIRS][2], stream[2], timer, signals, listener, client = -1, served = -1;
static uint64_t hash = 1;
static long rounds, streamed, taken, connections, ticks;

static void fail(const char *what) {
    perror(what);
    exit(9);
}

static void watch(int fd, unsigned events, unsigned what) {
    struct epoll_event event = { .events = events, .data.u32 = what };
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("watch");
}

static void dial(void) {
    struct sockaddr_un at = { AF_UNIX, "/tmp/loop" };
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(client, (void *)&at, sizeof at)) fail("connect");
    dprintf(client, "connection %ld", connections);
    shutdown(client, SHUT_WR);
    watch(client, EPOLLIN, CLIENT);
}

static void pass(int at) {
    char buffer[512];
    ssize_t got = recv(pairs[at][1], buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0) fail("recv");
    for (ssize_t i = 0; i < got; i++) mix(&hash, (unsigned char)buffer[i]);
    size_t length = 1 + next_random() % 300;
    for (size_t i = 0; i < length; i++) buffer[i] = (char)(hash >> (i % 56));
    if (send(pairs[(at + 1) % PAIRS][0], buffer, length, 0) < 0) fail("send");
    rounds++;
}

int main(int argc, char **argv) {
    long wanted = argc > 1 ? atol(argv[1]) : 1000;
    struct itimerspec every = { { 0, 2000000 }, { 0, 2000000 } };
    struct sockaddr_un at = { AF_UNIX, "/tmp/loop" };
    sigset_t set;
    unlink(at.sun_path);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < PAIRS; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pairs[i])) fail("socketpair");
        watch(pairs[i][1], EPOLLIN | (i & 1 ? EPOLLET : 0), i);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, stream)) fail("socketpair");
    watch(stream[1], EPOLLIN, STREAM);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, 0, &every, NULL);
    watch(timer, EPOLLIN, TIMER);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_NONBLOCK);
    watch(signals, EPOLLIN, SIGNALS);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4)) fail("listen");
    watch(listener, EPOLLIN, LISTENER);
    dial();
    send(pairs[0][0], "begin", 5, 0);

    static char much[40000];
    while (rounds < wanted || connections < 50 || ticks < 20) {
        struct epoll_event events[8];
        int count = epoll_wait(epoll, events, 8, -1);
        if (count < 0) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            unsigned what = events[i].data.u32;
            uint64_t expired;
            struct signalfd_siginfo info;
            ssize_t got;
            if (what < PAIRS) {
                if (rounds >= wanted) {
                    char rest[512];
                    recv(pairs[what][1], rest, sizeof rest, 0);
                    continue;
                }
                pass((int)what);
                if (rounds % 16 == 0) {
                    memset(much, (int)(hash & 0xff), sizeof much);
                    if (write(stream[0], much, sizeof much) < 0) { /* full: what is there is read first */ }
                }
                if (rounds % 8 == 0) sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = (int)rounds });
                if (rounds % (wanted / 40) == 0) printf("%ld %016lx\n", rounds, hash), fflush(stdout);
            } else if (what == STREAM) {
                if ((got = read(stream[1], much, sizeof much)) > 0) streamed += got;
            } else if (what == TIMER) {
                if (read(timer, &expired, 8) == 8) ticks += (long)expired;
            } else if (what == SIGNALS) {
                while (read(signals, &info, sizeof info) > 0) taken += info.ssi_int;
            } else if (what == LISTENER) {
                served = accept(listener, NULL, NULL);
                watch(served, EPOLLIN, SERVED);
            } else if (what == SERVED) {
                char buffer[64];
                if ((got = recv(served, buffer, sizeof buffer, 0)) > 0) send(served, buffer, (size_t)got, 0);
                else close(served);
            } else {
                char buffer[64] = "", wanted_text[64];
                if ((got = recv(client, buffer, sizeof buffer - 1, 0)) > 0) {
                    snprintf(wanted_text, sizeof wanted_text, "connection %ld", connections);
                    if (strcmp(buffer, wanted_text)) return printf("%s instead of %s\n", buffer, wanted_text), 8;
                } else {
                    close(client);
                    if (++connections < 50) dial();
                }
            }
        }
    }
    long left = 0;
    for (ssize_t got; (got = read(stream[1], much, sizeof much)) > 0;) left += got;
    for (struct signalfd_siginfo info; read(signals, &info, sizeof info) > 0;) taken += info.ssi_int;
    printf("%d streamed, signals %ld, %ld connections\n", streamed + left > 0, taken, connections);
    return (int)(hash & 63);
}
