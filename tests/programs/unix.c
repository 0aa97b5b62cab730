/* Unix sockets, timers and signals as descriptors: what each call says, the same natively and under Semper. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void said(const char *what, long value) {
    if (value < 0) printf("%s: %ld, errno %d\n", what, value, errno);
    else printf("%s: %ld\n", what, value);
    fflush(stdout);
}

static int ready(int fd) {
    struct pollfd one = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };
    poll(&one, 1, 0);
    return one.revents;
}

static void pair_of(int kind, const char *name) {
    int fds[2], value;
    socklen_t length = sizeof value;
    char buffer[64];
    printf("-- %s\n", name);
    said("socketpair", socketpair(AF_UNIX, kind, 0, fds));
    said("type", getsockopt(fds[0], SOL_SOCKET, SO_TYPE, &value, &length) ? -1 : value);
    said("domain", getsockopt(fds[0], SOL_SOCKET, SO_DOMAIN, &value, &length) ? -1 : value);
    said("ready at first", ready(fds[0]));
    said("sent", send(fds[0], "hello", 5, 0));
    said("sent", write(fds[0], "world!", 6));
    said("ready", ready(fds[1]));
    said("waiting", ioctl(fds[1], FIONREAD, &value) ? -1 : value);
    said("looked", recv(fds[1], buffer, 3, MSG_PEEK));
    said("received", recv(fds[1], buffer, 3, 0));
    printf("%.3s\n", buffer);
    said("received", recv(fds[1], buffer, sizeof buffer, 0));
    said("received", recv(fds[1], buffer, sizeof buffer, MSG_DONTWAIT));
    said("received", recv(fds[1], buffer, sizeof buffer, MSG_DONTWAIT));
    struct iovec parts[2] = { { "one ", 4 }, { "two", 3 } }, into = { buffer, 5 };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    said("sendmsg", sendmsg(fds[1], &message, 0));
    message = (struct msghdr){ .msg_iov = &into, .msg_iovlen = 1 };
    said("recvmsg", recvmsg(fds[0], &message, 0));
    printf("%.5s, flags %x\n", buffer, message.msg_flags);
    if (kind != SOCK_STREAM) {
        said("empty sent", send(fds[0], "", 0, 0));
        said("empty received", recv(fds[1], buffer, sizeof buffer, MSG_DONTWAIT));
        send(fds[0], "a long message", 14, 0);
        said("its whole length", recv(fds[1], buffer, 4, MSG_TRUNC));
    }
    said("shutdown", shutdown(fds[0], SHUT_WR));
    said("ready", ready(fds[1]));
    said("ready, the one that shut", ready(fds[0]));
    said("received at the end", recv(fds[1], buffer, sizeof buffer, MSG_DONTWAIT));
    said("sent after that", send(fds[0], "x", 1, MSG_NOSIGNAL));
    said("the other way", send(fds[1], "back", 4, 0));
    said("close", close(fds[1]));
    said("ready when the other is gone", ready(fds[0]));
    said("received", recv(fds[0], buffer, sizeof buffer, 0));
    said("received", recv(fds[0], buffer, sizeof buffer, MSG_DONTWAIT));
    said("close", close(fds[0]));
    // Something unread is a reset for who is left.
    socketpair(AF_UNIX, kind, 0, fds);
    send(fds[0], "unread", 6, 0);
    close(fds[1]);
    if (kind == SOCK_STREAM) {
        said("ready after a reset", ready(fds[0]));
        said("received", recv(fds[0], buffer, sizeof buffer, 0));
        said("received", recv(fds[0], buffer, sizeof buffer, 0));
    }
    signal(SIGPIPE, SIG_IGN);
    said("sent to nobody", send(fds[0], "x", 1, 0));
    close(fds[0]);
}

static socklen_t name(struct sockaddr_un *at, const char *path) {
    memset(at, 0, sizeof *at);
    at->sun_family = AF_UNIX;
    size_t length = strlen(path);
    memcpy(at->sun_path + (*path == '@'), path + (*path == '@'), length - (*path == '@'));
    return offsetof(struct sockaddr_un, sun_path) + length + (*path != '@');
}

static void named(const char *path) {
    struct sockaddr_un at, from;
    socklen_t length = name(&at, path), told = sizeof from;
    char buffer[16];
    printf("-- %s\n", *path == '@' ? "a name" : "a path");
    int client = socket(AF_UNIX, SOCK_STREAM, 0), server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    said("ready before anything", ready(client));
    said("nobody there", connect(client, (void *)&at, length));
    said("listen without a name", listen(socket(AF_UNIX, SOCK_SEQPACKET, 0), 5));
    said("bind", bind(server, (void *)&at, length));
    said("bind again", bind(server, (void *)&at, length));
    said("bind another", bind(client, (void *)&at, length));
    said("nobody listens", connect(client, (void *)&at, length));
    said("listen", listen(server, 1));
    said("ready", ready(server));
    said("other kind", connect(socket(AF_UNIX, SOCK_SEQPACKET, 0), (void *)&at, length));
    said("connect", connect(client, (void *)&at, length));
    said("connect again", connect(client, (void *)&at, length));
    said("ready", ready(server));
    // It can be written to before it is accepted.
    said("sent", send(client, "early", 5, 0));
    int more[3];
    for (int i = 0; i < 3; i++) {
        more[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        said("more", connect(more[i], (void *)&at, length));
    }
    int peer = accept4(server, (void *)&from, &told, SOCK_NONBLOCK);
    printf("accepted %d, from %d bytes\n", peer >= 0, told);
    said("received", recv(peer, buffer, sizeof buffer, 0));
    told = sizeof from;
    said("its own name", getsockname(peer, (void *)&from, &told));
    printf("%d bytes, same %d\n", told, told == length && !memcmp(&from, &at, length));
    told = sizeof from;
    said("its peer's name", getpeername(client, (void *)&from, &told));
    printf("%d bytes, same %d\n", told, told == length && !memcmp(&from, &at, length));
    told = 4;
    said("cut name", getpeername(client, (void *)&from, &told));
    printf("%d bytes\n", told);
    struct ucred who;
    told = sizeof who;
    said("peer's user", getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &told));
    printf("%d bytes, itself %d\n", told, who.pid == getpid() && who.uid == getuid());
    said("no option of TCP", setsockopt(peer, 6, 1, &(int){ 1 }, 4));
    said("room again", connect(more[2], (void *)&at, length));
    said("close listener", close(server));
    said("not accepted, ready", ready(more[0]));
    said("not accepted, received", recv(more[0], buffer, sizeof buffer, 0));
    said("accepted, sent", send(client, "more", 4, 0));
    said("accepted, received", recv(peer, buffer, sizeof buffer, 0));
    int late = socket(AF_UNIX, SOCK_STREAM, 0);
    said("late", connect(late, (void *)&at, length));
    if (*path != '@') {
        struct stat about;
        said("stat", stat(path, &about));
        printf("mode %o\n", about.st_mode & S_IFMT);
        said("open", open(path, O_RDWR));
        said("bind where a path is", bind(late, (void *)&at, length));
        said("unlink", unlink(path));
    }
    said("bind anew", bind(late, (void *)&at, length));
    if (*path != '@') unlink(path);
    struct stat about;
    fstat(late, &about);
    printf("mode %o\n", about.st_mode & S_IFMT);
    close(late), close(client), close(peer), close(more[0]), close(more[1]), close(more[2]);
}

static void full(void) {
    int fds[2];
    printf("-- full\n");
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds);
    static char much[60000];
    long total = 0, got;
    while ((got = write(fds[0], much, sizeof much)) > 0) total += got;
    said("the last", got);
    printf("enough %d, writable %d\n", total >= 180000, !!(ready(fds[0]) & POLLOUT));
    while ((got = read(fds[1], much, sizeof much)) > 0) total -= got;
    printf("left %ld, writable %d\n", total, !!(ready(fds[0]) & POLLOUT));
    close(fds[0]), close(fds[1]);
}

static void edges(void) {
    int fds[2], epoll = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN | EPOLLET | EPOLLRDHUP, .data.u32 = 7 };
    printf("-- edges\n");
    socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
    said("add", epoll_ctl(epoll, EPOLL_CTL_ADD, fds[0], &event));
    said("nothing", epoll_wait(epoll, &event, 1, 0));
    write(fds[1], "a", 1);
    said("one", epoll_wait(epoll, &event, 1, 0));
    said("told", epoll_wait(epoll, &event, 1, 0));
    write(fds[1], "b", 1);
    said("another", epoll_wait(epoll, &event, 1, 0));
    shutdown(fds[1], SHUT_WR);
    said("its end", epoll_wait(epoll, &event, 1, 0));
    printf("%x\n", event.events);
    close(fds[0]), close(fds[1]), close(epoll);
}

static void timers(void) {
    struct itimerspec set = { .it_value = { 0, 20000000 }, .it_interval = { 0, 10000000 } }, old;
    uint64_t count = 0;
    printf("-- timers\n");
    said("wrong clock", timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    said("unset", read(timer, &count, 8));
    said("ready", ready(timer));
    said("set", timerfd_settime(timer, 0, &set, NULL));
    said("not yet", read(timer, &count, 8));
    struct pollfd one = { .fd = timer, .events = POLLIN };
    said("poll", poll(&one, 1, 5000));
    said("short", read(timer, &count, 4));
    said("read", read(timer, &count, 8));
    printf("went off %d\n", count >= 1);
    usleep(60000);
    said("read", read(timer, &count, 8));
    printf("went off more often %d\n", count >= 4);
    said("gettime", timerfd_gettime(timer, &old));
    printf("interval %ld, left %d\n", old.it_interval.tv_nsec, old.it_value.tv_nsec <= 10000000);
    set = (struct itimerspec){ .it_value = { 0, 30000000 } };
    said("set once", timerfd_settime(timer, 0, &set, &old));
    fcntl(timer, F_SETFL, 0);
    said("read, waiting", read(timer, &count, 8));
    printf("once %ld\n", (long)count);
    said("ready", ready(timer));
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int wall = timerfd_create(CLOCK_REALTIME, 0);
    set = (struct itimerspec){ .it_value = { now.tv_sec, now.tv_nsec } };
    said("set to a time", timerfd_settime(wall, TFD_TIMER_ABSTIME, &set, NULL));
    said("read", read(wall, &count, 8));
    set.it_value.tv_nsec = 2000000000;
    said("no time", timerfd_settime(wall, 0, &set, NULL));
    said("no timer", timerfd_settime(0, 0, &set, NULL));
    int epoll = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    set = (struct itimerspec){ .it_value = { 0, 10000000 }, .it_interval = { 0, 10000000 } };
    timerfd_settime(timer, 0, &set, NULL);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    // That it goes off more often before it is read is no edge.
    for (int i = 0; i < 3; i++) said("edge", epoll_wait(epoll, &event, 1, i ? 30 : 5000));
    read(timer, &count, 8);
    said("edge", epoll_wait(epoll, &event, 1, 5000));
    said("write", write(timer, &count, 8));
    close(timer), close(wall), close(epoll);
}

static void signals(void) {
    sigset_t set;
    struct signalfd_siginfo infos[4];
    printf("-- signals\n");
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    said("nothing", read(fd, infos, sizeof infos));
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    said("ready", ready(fd));
    said("short", read(fd, infos, 100));
    said("read", read(fd, infos, sizeof infos));
    printf("%d from itself %d, code %d\n", infos[0].ssi_signo, infos[0].ssi_pid == getpid(), infos[0].ssi_code);
    union sigval value = { .sival_int = 42 };
    sigqueue(getpid(), SIGUSR1, value);
    said("read", read(fd, infos, sizeof infos));
    printf("%d with %d, code %d\n", infos[0].ssi_signo, infos[0].ssi_int, infos[0].ssi_code);
    ualarm(20000, 0);
    struct pollfd one = { .fd = fd, .events = POLLIN };
    said("poll", poll(&one, 1, 5000));
    said("read", read(fd, infos, sizeof infos));
    printf("%d, code %d\n", infos[0].ssi_signo, infos[0].ssi_code);
    sigdelset(&set, SIGUSR1);
    said("changed", signalfd(fd, &set, 0) == fd);
    kill(getpid(), SIGUSR1);
    said("not its own", ready(fd));
    fcntl(fd, F_SETFL, 0);
    ualarm(20000, 0);
    said("read, waiting", read(fd, infos, sizeof infos));
    said("no signals", signalfd(0, &set, 0));
    close(fd);
}

int main(void) {
    pair_of(SOCK_STREAM, "stream");
    pair_of(SOCK_SEQPACKET, "messages");
    pair_of(SOCK_DGRAM, "datagrams");
    int fds[2];
    said("of TCP", socketpair(AF_INET, SOCK_STREAM, 0, fds));
    said("of nothing", socketpair(AF_UNIX, SOCK_RAW + 4, 0, fds));
    named("socket");
    named("@socket of semper's tests");
    full();
    edges();
    timers();
    signals();
    puts("done");
}
