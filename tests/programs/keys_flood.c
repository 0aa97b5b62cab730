// Invokes keys at random as fast as it can: keys_flood SEED COUNT. A timer gets it out of every wait.
#define SEMPER_LINUX
#include "../../domains/guest/include/semper_domain.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static uint64_t state;

static uint64_t dice(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void rung(int signal) {
    (void)signal;
}

int main(int argc, char **argv) {
    state = argc > 1 ? strtoull(argv[1], 0, 10) | 1 : 1;
    long count = argc > 2 ? atol(argv[2]) : 1000, told[4] = {0};
    struct sigaction action = {.sa_handler = rung};
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &often, 0);
    static char text[SEMPER_MAX_STRING];
    static struct semper_message message;
    for (long n = 0; n < count; n++) {
        for (size_t i = 0; i < sizeof message; i++) ((char *)&message)[i] = dice();
        if (dice() % 8) message.slot = dice() % 17;
        if (dice() % 8) message.order = dice() % 16;
        if (dice() % 8) message.string_len = dice() % 5000;
        if (dice() % 2) message.deadline = semper_monotonic() + dice() % 10000000;
        for (int i = 0; i < 4; i++) {
            if (dice() % 2) message.words[i] = dice() % 64;
            if (dice() % 4) message.keys[i] = dice() % 17;
            // What it holds from the start is not to be overwritten, or it would soon hold nothing.
            message.accept[i] = dice() % 2 ? 10 + dice() % 7 : dice() % 2 ? SEMPER_NO_SLOT : 17 + dice() % 200;
        }
        if (message.slot == SEMPER_OWN && dice() % 16) message.words[0] |= 10, message.words[1] |= 10;
        // Its own end is not what this is about.
        if (message.slot == SEMPER_OWN && message.order == 4) continue;
        uint64_t where = dice() % 20;
        void *at = where == 0 ? (void *)dice() : where == 1 ? (void *)(dice() % (1ull << 40)) : (void *)&message;
        long result = SEMPER_SYSCALL;
        __asm__ volatile("syscall" : "+a"(result) : "D"(at), "S"(dice() % 30 ? text : (char *)dice()) : "rcx", "r11", "memory");
        if (result != 0 && result != -4 && result != -14) {
            fprintf(stderr, "invocation %ld gave %ld\n", n, result);
            return 1;
        }
        told[result == 0 ? message.code >= SEMPER_FIRST_ERROR : result == -4 ? 2 : 3]++;
    }
    fprintf(stderr, "%ld done, %ld refused, %ld interrupted, %ld faults\n", told[0], told[1], told[2], told[3]);
    // Not by exit: standard output may be closed to it by now, in whatever way.
    _exit(0);
}
