/* Protections are real: each of these accesses must fault, be caught by the program's own handler, and go on. guard ROUNDS */
#define _GNU_SOURCE
#include "semper_test.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static sigjmp_buf back;
static volatile int caught, code;
static void *volatile address;

static void handler(int signal, siginfo_t *info, void *context) {
    (void)context;
    caught = signal;
    code = info->si_code;
    address = info->si_addr;
    siglongjmp(back, 1);
}

#define TRY(name, at, action)                                                                                          \
    do {                                                                                                               \
        caught = 0;                                                                                                    \
        if (!sigsetjmp(back, 1)) {                                                                                     \
            action;                                                                                                    \
        }                                                                                                              \
        printf("%s: signal %d, code %d, at offset %ld\n", name, caught, code,                                          \
               caught ? (long)((char *)address - (char *)(at)) : 0L);                                                  \
    } while (0)

static void round_of_faults(void) {
    volatile char *low = (volatile char *)(uintptr_t)strtoul("8", NULL, 10);
    char *area = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 0xc3, 4 * 4096); /* ret */
    mprotect(area + 4096, 4096, PROT_NONE);
    mprotect(area + 8192, 4096, PROT_READ);
    TRY("write to a guard page", area, area[4096] = 1);
    TRY("read from a guard page", area, code = area[4097]);
    TRY("write to a read-only page", area, area[8192 + 5] = 1);
    TRY("call into a page that is not executable", area, ((void (*)(void))(area + 12288))());
    mprotect(area + 12288, 4096, PROT_READ | PROT_EXEC);
    TRY("call into a page that is", area, ((void (*)(void))(area + 12288))());
    TRY("write to it", area, area[12288] = 1);
    munmap(area, 4096);
    TRY("read what was unmapped", area, code = area[0]);
    TRY("read the page at zero", NULL, code = *low);
    volatile int zero = 0;
    caught = 0;
    if (!sigsetjmp(back, 1))
        __asm__ volatile("xor %%edx, %%edx\n\tmov $1, %%eax\n\tidivl %0" ::"m"(zero) : "rax", "rdx");
    printf("division by zero: signal %d, code %d\n", caught, code);
    caught = 0;
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ud2");
    printf("undefined instruction: signal %d\n", caught);
    munmap(area + 4096, 3 * 4096);
}

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "1");
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    for (int round = 0; round < rounds; round++)
        round_of_faults();
    fflush(stdout);
    signal(SIGSEGV, SIG_DFL);
    *(volatile char *)(uintptr_t)strtoul("16", NULL, 10) = 1;
    return 0;
}
