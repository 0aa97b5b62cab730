// Counters of eventfd, alone and in poll and epoll: says what each call answers.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static void say(const char *what, long result) {
    printf("%s %ld %d\n", what, result, result < 0 ? errno : 0);
    errno = 0;
}

static int counter;

static void rung(int signal) {
    (void)signal;
    uint64_t one = 1;
    if (write(counter, &one, 8) != 8) _exit(9);
}

static long ready(int fd, short events) {
    struct pollfd entry = {fd, events, 0};
    return poll(&entry, 1, 0) < 0 ? -1 : entry.revents;
}

static long take(int fd) {
    uint64_t value = 77;
    return read(fd, &value, 8) == 8 ? (long)value : -1;
}

static long add(int fd, uint64_t value) {
    return write(fd, &value, 8);
}

int main(void) {
    char small[4];
    say("wrong flags", eventfd(0, 2));
    counter = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC);
    say("close on exec", fcntl(counter, F_GETFD));
    say("without waiting", (fcntl(counter, F_GETFL) & O_NONBLOCK) != 0);
    say("ready", ready(counter, POLLIN | POLLOUT));
    say("too short", read(counter, small, 4));
    say("too short", write(counter, small, 4));
    say("first", take(counter));
    say("nothing left", take(counter));
    say("ready", ready(counter, POLLIN | POLLOUT));
    say("add", add(counter, 40));
    say("add", add(counter, 2));
    say("sum", take(counter));
    say("not a number", add(counter, UINT64_MAX));
    say("the most", add(counter, UINT64_MAX - 1));
    say("full", ready(counter, POLLIN | POLLOUT));
    say("no room", add(counter, 1));
    say("room for none", add(counter, 0));
    say("all", take(counter) == -2);
    say("pread", pread(counter, small, 4, 0));
    struct stat status;
    say("fstat", fstat(counter, &status));
    say("type", status.st_mode & S_IFMT);

    int turns = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    say("one", take(turns));
    say("one", take(turns));
    say("none", take(turns));

    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 5}, events[2];
    say("watch", epoll_ctl(epoll, EPOLL_CTL_ADD, counter, &event));
    say("nothing", epoll_wait(epoll, events, 2, 0));
    add(counter, 1);
    say("woken", epoll_wait(epoll, events, 2, 0));
    say("by whom", (long)events[0].data.u64);
    say("once", epoll_wait(epoll, events, 2, 0));
    add(counter, 1);
    say("again, though it was not read", epoll_wait(epoll, events, 2, 0));
    say("both", take(counter));

    // Only the program's own handler can end this wait.
    struct sigaction action = {.sa_handler = rung};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval soon = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    say("interrupted", epoll_wait(epoll, events, 2, 5000));
    say("by its handler", take(counter));
    int waits = eventfd(0, 0), held = counter;
    counter = waits;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    say("waited for", take(waits));
    say("closed", close(held));
    say("gone", take(held));
    return 0;
}
