/* The program's own signals: handlers, masks, alternate stack, timers, nested. signals ROUNDS */
#define _GNU_SOURCE
#include "semper_test.h"
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

static volatile sig_atomic_t usr1, usr2, alarms, nested, on_alternate;
static char alternate[65536];

static void on_usr2(int signal) {
    (void)signal;
    usr2++;
}
static void on_usr1(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)info;
    (void)context;
    char here;
    on_alternate += &here >= alternate && &here < alternate + sizeof alternate;
    usr1++;
    raise(SIGUSR2);
    nested += usr2;
}
static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "100");
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, on_usr2);
    signal(SIGALRM, on_alarm);
    uint64_t hash = 1;
    for (int round = 0; round < rounds; round++) {
        sigset_t mask, old, pending;
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR1);
        sigprocmask(SIG_BLOCK, &mask, &old);
        raise(SIGUSR1);
        sigpending(&pending);
        int held = sigismember(&pending, SIGUSR1), before = usr1;
        for (int i = 0; i < 20000; i++)
            mix(&hash, next_random());
        sigprocmask(SIG_SETMASK, &old, NULL);
        printf("%d: held %d, came %d, nested %d, alternate %d, %016llx\n", round, held, usr1 - before, nested,
               on_alternate, (unsigned long long)hash);
    }
    for (int i = 0; i < 5; i++) {
        struct itimerval timer = {.it_value.tv_usec = 30000};
        setitimer(ITIMER_REAL, &timer, NULL);
        sigset_t mask, wait;
        sigemptyset(&mask);
        sigaddset(&mask, SIGALRM);
        sigprocmask(SIG_BLOCK, &mask, &wait);
        while (alarms <= i)
            sigsuspend(&wait);
        sigprocmask(SIG_UNBLOCK, &mask, NULL);
        printf("alarm %d\n", (int)alarms);
    }
    signal(SIGUSR1, SIG_DFL);
    fflush(stdout);
    raise(SIGUSR1);
    return 0;
}
