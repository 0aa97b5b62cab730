/* What it prints depends on all that it is told: clocks, random numbers, the time-stamp counter.
   told LINES [PAUSE_MICROSECONDS [alarm | rdrand]] */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int main(int argc, char **argv) {
    long lines = argc > 1 ? atol(argv[1]) : 100;
    long pause = argc > 2 ? atol(argv[2]) : 1000;
    int alarmed = argc > 3 && !strcmp(argv[3], "alarm");
    int unrepeatable = argc > 3 && !strcmp(argv[3], "rdrand");
    uint64_t sum = 0;
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
