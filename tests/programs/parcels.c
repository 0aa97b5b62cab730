/* Receives and sends on several connections of its own that are ready at once, in all the ways in which what came can be received, and tells what
 * each call answered. parcels PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "semper_test.h"

enum { N = 12 };

static int mine[N], theirs[N];
static char buffer[1 << 20];
/* How many bytes were said to each. */
static long said[N];
static void *volatile nowhere = (void *)16;

static void tell(const char *what, int i, long got, const void *bytes) {
    if (got < 0)
        printf("%s %d: %s\n", what, i, strerror(errno));
    else
        printf("%s %d: %ld %.*s\n", what, i, got, bytes ? (int)got : 0, bytes ? (const char *)bytes : "");
}

static void open_all(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, N)) {
        perror("listen");
        exit(1);
    }
    for (int i = 0; i < N; i++) {
        theirs[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(theirs[i], (struct sockaddr *)&at, sizeof at)) {
            perror("connect");
            exit(1);
        }
        mine[i] = accept(listener, NULL, NULL);
        setsockopt(theirs[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    close(listener);
}

static void say(const char *what) {
    for (int i = 0; i < N; i++) {
        if (mine[i] < 0)
            continue;
        char words[64];
        int length = snprintf(words, sizeof words, "%s to %d", what, i);
        said[i] += length;
        if (write(theirs[i], words, length) != length)
            perror("say");
    }
}

/* Until something came on every one that is open. */
static void wait_all(void) {
    struct pollfd all[N];
    for (;;) {
        int ready = 0, open = 0;
        for (int i = 0; i < N; i++) {
            all[i] = (struct pollfd){.fd = mine[i], .events = i % 3 ? POLLIN : POLLIN | POLLOUT};
            open += mine[i] >= 0;
        }
        poll(all, N, -1);
        for (int i = 0; i < N; i++)
            ready += all[i].revents & POLLIN ? 1 : 0;
        if (ready == open)
            return;
    }
}

static void hear(int i, long wanted) {
    long got = 0;
    while (got < wanted) {
        long more = read(theirs[i], buffer + got, wanted - got);
        if (more <= 0)
            break;
        got += more;
    }
    tell("heard", i, got, got < 200 ? buffer : NULL);
    uint64_t hash = 1;
    for (long at = 0; at < got; at++)
        mix(&hash, (unsigned char)buffer[at]);
    printf("  %016llx\n", (unsigned long long)hash);
}

static void receive_in_all_ways(void) {
    char bytes[256];
    struct iovec two[2] = {{bytes, 3}, {bytes + 3, 100}};
    int left, other;
    fcntl(mine[0], F_SETFL, O_NONBLOCK);
    wait_all();
    tell("read", 0, read(mine[0], bytes, 3), bytes);
    tell("rest", 0, read(mine[0], bytes, 100), bytes);
    tell("none", 0, read(mine[0], bytes, 100), NULL);
    tell("none", 0, recv(mine[0], bytes, 100, 0), NULL);
    tell("peek", 1, recv(mine[1], bytes, 4, MSG_PEEK), bytes);
    tell("read", 1, recv(mine[1], bytes, 100, 0), bytes);
    other = dup(mine[2]);
    tell("dup", 2, read(other, bytes, 5), bytes);
    tell("read", 2, read(mine[2], bytes, 100), bytes);
    close(other);
    ioctl(mine[3], FIONREAD, &left);
    tell("left", 3, left, NULL);
    tell("read", 3, read(mine[3], bytes, 100), bytes);
    tell("bad", 4, read(mine[4], nowhere, 100), NULL);
    tell("bad", 4, write(mine[4], nowhere, 100), NULL);
    tell("read", 4, read(mine[4], bytes, 100), bytes);
    tell("pieces", 5, readv(mine[5], two, 2), bytes);
    tell("write", 6, write(mine[6], "before", 6), NULL);
    tell("read", 6, read(mine[6], bytes, 100), bytes);
    tell("write", 6, write(mine[6], " after", 6), NULL);
    tell("nothing", 7, read(mine[7], bytes, 0), NULL);
    tell("from", 7, recvfrom(mine[7], bytes, 100, 0, NULL, NULL), bytes);
    tell("wait", 8, recv(mine[8], bytes, 2, MSG_WAITALL), bytes);
    tell("only", 8, recv(mine[8], bytes, 100, MSG_DONTWAIT), bytes);
    tell("none", 8, recv(mine[8], bytes, 100, MSG_DONTWAIT), NULL);
    /* What came on one that was closed does not come on what takes its number. */
    close(mine[9]);
    other = dup(mine[0]);
    printf("taken: %d\n", other == mine[9]);
    tell("none", 9, read(other, bytes, 100), NULL);
    close(other);
    mine[9] = -1;
    /* Read-only memory, at the end of a page, and over into nothing. */
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_NONE);
    tell("end", 10, read(mine[10], pages + 4090, 6), pages + 4090);
    mprotect(pages, 4096, PROT_READ);
    tell("protected", 10, read(mine[10], pages, 2), NULL);
    mprotect(pages, 8192, PROT_READ | PROT_WRITE);
    tell("over", 10, read(mine[10], pages + 4095, 100), pages + 4095);
    tell("read", 11, read(mine[11], bytes, 100), bytes);
    hear(6, 12);
    memset(pages, 'x', 8192);
    munmap(pages + 4096, 4096);
}

/* In the order in which it was written, whatever it was written with. */
static void send_in_all_ways(void) {
    char bytes[256];
    wait_all();
    for (int i = 0; i < N; i++) {
        if (i == 9)
            continue;
        struct iovec two[2] = {{"second", 6}, {" piece,", 7}};
        if (i % 2)
            tell("read", i, read(mine[i], bytes, 100), bytes);
        tell("write", i, write(mine[i], "first,", 6), NULL);
        if (i % 3 == 0)
            tell("pieces", i, writev(mine[i], two, 2), NULL);
        tell("send", i, send(mine[i], "third,", 6, MSG_NOSIGNAL), NULL);
        if (i % 2 == 0)
            tell("read", i, read(mine[i], bytes, 100), bytes);
        tell("nothing", i, write(mine[i], "", 0), NULL);
        tell("last", i, sendto(mine[i], "last", 4, 0, NULL, 0), NULL);
    }
    memset(buffer, 'b', 90000);
    tell("large", 1, write(mine[1], buffer, 90000), NULL);
    tell("small", 1, write(mine[1], "small", 5), NULL);
    shutdown(mine[5], SHUT_WR);
    for (int i = 0; i < N; i++)
        if (i != 9)
            hear(i, 16 + (i % 3 == 0 ? 13 : 0) + (i == 1 ? 90005 : 0));
    tell("end", 5, read(theirs[5], bytes, 1), NULL);
}

/* Many that are told of once. */
static void by_edges(void) {
    char bytes[256];
    int epoll = epoll_create1(0), rounds = 3;
    long got[N] = {0};
    memset(said, 0, sizeof said);
    for (int i = 0; i < N; i++) {
        if (i == 9)
            continue;
        fcntl(mine[i], F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u32 = i}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, mine[i], &event);
    }
    for (int round = 0; round < rounds; round++) {
        say(round ? "again" : "once");
        for (int whole = 0; whole < N - 1;) {
            struct epoll_event events[N];
            int count = epoll_wait(epoll, events, N, 5000);
            if (count <= 0) {
                printf("nobody was told\n");
                return;
            }
            for (int e = 0; e < count; e++) {
                int i = events[e].data.u32;
                long more;
                while ((more = recv(mine[i], bytes, round == 1 ? 4 : 100, 0)) > 0)
                    got[i] += more;
                if (more != -1 || errno != EAGAIN)
                    tell("end", i, more, NULL);
                if (i != 5)
                    write(mine[i], ".", 1);
            }
            whole = 0;
            for (int i = 0; i < N; i++)
                whole += i != 9 && got[i] == said[i];
        }
    }
    for (int i = 0; i < N; i++)
        printf("by edges %d: %ld\n", i, got[i]);
}

/* Who gets less than there was room for has all, and waits for an edge. */
static void by_large_edges(void) {
    int epoll = epoll_create1(0);
    long got[N] = {0};
    memset(buffer, 'l', 10000);
    for (int i = 0; i < N; i++) {
        if (i == 9)
            continue;
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u32 = i}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, mine[i], &event);
    }
    for (int i = 0; i < N; i++)
        if (i != 9)
            write(theirs[i], buffer, 10000);
    for (int whole = 0; whole < N - 1;) {
        struct epoll_event events[N];
        int count = epoll_wait(epoll, events, N, 5000);
        if (count <= 0) {
            printf("nobody was told, and %d have all\n", whole);
            return;
        }
        for (int e = 0; e < count; e++) {
            int i = events[e].data.u32;
            long more;
            do {
                more = read(mine[i], buffer, 65536);
                got[i] += more > 0 ? more : 0;
            } while (more == 65536);
            whole += got[i] == 10000;
        }
    }
    /* One that was told of, and read to its end, is told of alone. */
    struct pollfd two[2] = {{.fd = mine[0], .events = POLLIN}, {.fd = mine[1], .events = POLLIN}};
    write(theirs[0], "left", 4);
    write(theirs[1], "right", 5);
    do
        poll(two, 2, -1);
    while (!(two[0].revents && two[1].revents));
    tell("right", 1, read(mine[1], buffer, 100), buffer);
    write(theirs[1], "more", 4);
    poll(two + 1, 1, -1);
    tell("more", 1, read(mine[1], buffer, 100), buffer);
    tell("peek", 0, recv(mine[0], buffer, 100, MSG_PEEK), buffer);
    tell("left", 0, read(mine[0], buffer, 100), buffer);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    open_all(atoi(argv[1]));
    say("hello");
    receive_in_all_ways();
    say("more");
    send_in_all_ways();
    by_edges();
    by_large_edges();
    /* Where the other end is gone. */
    say("bye");
    wait_all();
    close(theirs[0]);
    char bytes[64];
    tell("bye", 0, read(mine[0], bytes, sizeof bytes), bytes);
    tell("bye", 1, read(mine[1], bytes, sizeof bytes), bytes);
    puts("done");
    return 0;
}
