/* What it prints depends on all that it is told: clocks, random numbers, the time-stamp counter.
   told LINES [PAUSE_MICROSECONDS [alarm | rdrand | busy]] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static volatile sig_atomic_t alarms;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    a ^= b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2);
    return a * 0xff51afd7ed558ccdu;
}

__attribute__((target("rdrnd"))) static uint64_t from_the_processor(void) {
    unsigned long long number = 0;
    _rdrand64_step(&number);
    return number;
}

static int queue, ends[3][2];

/* Things of which a runtime remembers more than a program's state says: heap, small mappings, whom epoll told of last. */
static uint64_t busy(long i, uint64_t number) {
    static void *mapped[16];
    uint64_t sum = 0;
    char *pieces[6];
    for (int k = 0; k < 6; k++)
        memset(pieces[k] = malloc(60000), k, 60000);
    for (int k = 5; k >= 0; k--)
        free(pieces[k]);
    void **place = &mapped[i % 16];
    if (*place)
        munmap(*place, 4096);
    *place = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sum = mix(sum, (uint64_t)(uintptr_t)*place);
    for (int k = 0; k < 3; k++)
        madvise(mapped[i % 16], 4096, 8 /* MADV_FREE */);
    for (int k = 0; k < 3; k++)
        if (number >> k & 1 && write(ends[k][1], "x", 1) != 1)
            sum++;
    struct epoll_event event;
    while (epoll_wait(queue, &event, 1, 0) == 1) {
        char byte;
        sum = mix(sum, event.data.u32 + 1);
        if (read(ends[event.data.u32][0], &byte, 1) != 1)
            sum++;
        if (sum & 1)
            break;
    }
    return sum;
}

int main(int argc, char **argv) {
    long lines = argc > 1 ? atol(argv[1]) : 100;
    long pause = argc > 2 ? atol(argv[2]) : 1000;
    int alarmed = argc > 3 && !strcmp(argv[3], "alarm");
    int unrepeatable = argc > 3 && !strcmp(argv[3], "rdrand");
    int is_busy = argc > 3 && !strcmp(argv[3], "busy");
    uint64_t sum = 0;
    queue = epoll_create1(0);
    for (int k = 0; k < 3; k++) {
        struct epoll_event event = {.events = EPOLLIN | (k == 2 ? EPOLLET : 0), .data.u32 = (uint32_t)k};
        if (pipe2(ends[k], O_NONBLOCK) || epoll_ctl(queue, EPOLL_CTL_ADD, ends[k][0], &event))
            return 2;
    }
    if (alarmed) {
        signal(SIGALRM, on_alarm);
        struct itimerval every = {{0, 7000}, {0, 7000}};
        setitimer(ITIMER_REAL, &every, 0);
    }
    for (long i = 0; i < lines; i++) {
        struct timespec wall, monotonic, pausing = {0, pause * 1000};
        uint64_t number;
        clock_gettime(CLOCK_REALTIME, &wall);
        clock_gettime(CLOCK_MONOTONIC, &monotonic);
        if (getrandom(&number, sizeof number, 0) != sizeof number)
            return 1;
        sum = mix(sum, number);
        sum = mix(sum, (uint64_t)wall.tv_nsec);
        sum = mix(sum, (uint64_t)monotonic.tv_nsec);
        sum = mix(sum, __rdtsc());
        if (unrepeatable && from_the_processor() & 1)
            getrandom(&number, sizeof number, 0);
        if (is_busy)
            sum = mix(sum, busy(i, number));
        if (alarmed) {
            for (volatile int n = 0; n < 300000; n++)
                ;
            sum = mix(sum, (uint64_t)alarms);
        }
        printf("%ld %016lx\n", i, sum);
        fflush(stdout);
        nanosleep(&pausing, 0);
    }
    return 0;
}
