/* Attacks whoever runs it; each attack is one argument. The worst that may happen to it is a signal; if it survives, it says so and
 * ends with 0. Never run it without Semper: some attacks make system calls at random. */
#define _GNU_SOURCE
#include "semper_test.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define STUB ((char *)0x700000000000ul)
#define CONTROL ((char *)0x600000000000ul)

static long garbage(int rounds) {
    static const long pointers[] = {0, 1, -1, 4096, 0x7fffffffffff, 0x600000000000, 0x700000000000, (long)0x8000000000000000, 0x10000};
    long done = 0;
    for (int round = 0; round < rounds; round++) {
        long number = (long)(next_random() % 470), arguments[6];
        /* Those that end, stop or block the caller by design are no attack. */
        switch (number) {
        case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_rt_sigreturn: case SYS_kill:
        case SYS_tkill: case SYS_tgkill: case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_futex: case SYS_poll:
        case SYS_ppoll: case SYS_select: case SYS_pselect6: case SYS_read: case SYS_readv: case SYS_alarm: case SYS_setitimer:
        case SYS_rt_sigtimedwait: case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_munmap: case SYS_mprotect:
        case SYS_mmap: case SYS_mremap: case SYS_brk: case SYS_arch_prctl: case SYS_close: case SYS_dup2: case SYS_dup3:
        case SYS_close_range: case SYS_madvise: case SYS_write: case SYS_writev: case SYS_vfork: case SYS_fork: case SYS_clone:
        case SYS_clone3: case SYS_rt_sigprocmask: case SYS_rt_sigaction: case SYS_sigaltstack: case SYS_timer_create:
        case SYS_timer_settime: case SYS_reboot: case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_pread64: case SYS_preadv:
        /* uretprobe and uprobe: Linux lets them pass every seccomp filter, and ends whoever calls them without being probed by SIGILL. */
        case 335: case 336:
            continue;
        }
        for (int i = 0; i < 6; i++) {
            uint64_t random = next_random();
            arguments[i] = random & 1 ? pointers[random / 2 % 9] : random & 2 ? (long)next_random() : (long)(random >> 2 & 0xff);
        }
        syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
        done++;
    }
    return done;
}

int main(int argc, char **argv) {
    if (!getenv("CONFINED"))
        return 2;
    const char *attack = argc > 1 ? argv[1] : "";
    printf("attack %s\n", attack);
    fflush(stdout);
    if (!strcmp(attack, "jump-stub"))
        ((void (*)(void))STUB)();
    else if (!strncmp(attack, "jump-stub+", 10))
        ((void (*)(void))(STUB + strtoul(attack + 10, NULL, 0)))();
    else if (!strcmp(attack, "write-stub"))
        memset(STUB, 0xcc, 4096);
    else if (!strcmp(attack, "write-control"))
        for (size_t at = 0; at < 16 * 4096; at += 8)
            *(volatile uint64_t *)(CONTROL + at) = next_random();
    else if (!strcmp(attack, "write-control-slowly"))
        for (int i = 0; i < 2000000; i++) {
            *(volatile uint64_t *)(CONTROL + next_random() % 4096 / 8 * 8) = next_random();
            if (i % 1000 == 0)
                getppid();
        }
    else if (!strcmp(attack, "unmap-control"))
        printf("%ld\n", syscall(SYS_munmap, CONTROL, 1 << 20));
    else if (!strcmp(attack, "unmap-stub"))
        printf("%ld\n", syscall(SYS_munmap, STUB, 1 << 24));
    else if (!strcmp(attack, "unmap-all"))
        printf("%ld\n", syscall(SYS_munmap, 0, 0x7ffffffff000));
    else if (!strcmp(attack, "protect-control"))
        printf("%ld\n", syscall(SYS_mprotect, CONTROL, 1 << 20, PROT_NONE));
    else if (!strcmp(attack, "protect-stub"))
        printf("%ld\n", syscall(SYS_mprotect, STUB, 1 << 24, PROT_READ | PROT_WRITE | PROT_EXEC));
    else if (!strcmp(attack, "map-over"))
        printf("%p\n", mmap(CONTROL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    else if (!strcmp(attack, "remap-control"))
        printf("%p\n", mremap(CONTROL, 4096, 8192, MREMAP_MAYMOVE));
    else if (!strcmp(attack, "own-frame")) {
        /* A signal frame of its own making, with a program counter in the stub. */
        static char fake[4096] __attribute__((aligned(64)));
        *(uint64_t *)(fake + 8 + 0xa8) = (uint64_t)STUB;
        __asm__ volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall" ::"r"(fake + 8) : "memory", "rax");
    } else if (!strcmp(attack, "block-all")) {
        sigset_t all;
        sigfillset(&all);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
        struct timespec until, time;
        clock_gettime(CLOCK_MONOTONIC, &until);
        do
            clock_gettime(CLOCK_MONOTONIC, &time);
        while (time.tv_sec < until.tv_sec + 2);
    } else if (!strcmp(attack, "stack-away"))
        __asm__ volatile("mov $1, %%rsp\n\tmov $39, %%eax\n\tsyscall\n\tud2" ::: "memory", "rax", "rcx", "r11");
    else if (!strcmp(attack, "signal-others")) {
        /* Signal 0 tells whether a real one would arrive. */
        int reached = 0;
        for (int pid = 1; pid < 70000; pid++)
            reached += pid != getpid() && syscall(SYS_kill, pid, 0) == 0;
        printf("reached %d others; all: %ld\n", reached, syscall(SYS_kill, -1, 0));
    }
    else if (!strcmp(attack, "garbage"))
        printf("calls: %s\n", garbage(20000) > 0 ? "made" : "none");
    else if (!strcmp(attack, "legacy-call")) {
        /* As a 64-bit number 20 is writev and 39 getpid: neither may be done. */
        for (long number = 20; number < 40; number += 19) {
            long answer = number;
            __asm__ volatile("int $0x80" : "+a"(answer) : "b"(1), "c"(0), "d"(0) : "memory");
            printf("legacy %ld\n", answer);
        }
    }
    else if (!strcmp(attack, "fs-base"))
        printf("%ld\n", syscall(SYS_arch_prctl, 0x1002, 0x700000000000ul));
    else
        return 2;
    printf("survived\n");
    return 0;
}
