/* Asks what the processor is.
   asks          prints what it is told, and what came of code and data that look like the question
   asks ROUNDS   asks again and again, with work between that a C library chooses its ways for; prints sums, and whether an answer ever changed */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

/* The two bytes of cpuid in data, and in data amid code. */
static const volatile unsigned char data[] = {0x0f, 0xa2, 0x31, 0xc0, 0x0f, 0xa2};
extern const volatile unsigned char amid[];
__asm__(".text\n.globl amid\namid: .byte 0x0f, 0xa2, 0x06, 0x0f, 0xa2, 0x06, 0x0f, 0xa2\n.balign 16\n");

static unsigned long of_auxv(unsigned long wanted) {
    char **end = environ;
    while (*end)
        end++;
    for (unsigned long *entry = (unsigned long *)(end + 1); entry[0]; entry += 2)
        if (entry[0] == wanted)
            return entry[1];
    return 0;
}

/* mov eax, 7; xor ecx, ecx; push rbx; cpuid; mov eax, ebx; pop rbx; ret, amid instructions that do nothing. */
static const unsigned char code[] = {0x90, 0x90, 0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x53, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3};

static unsigned by_code_made_executable(void) {
    void *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(at, code, sizeof code);
    if (at == MAP_FAILED || mprotect(at, 4096, PROT_READ | PROT_EXEC))
        return 0;
    return ((unsigned (*)(void))at)();
}

static unsigned by_code_of_a_file(void) {
    int file = open("code", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, code, sizeof code) != sizeof code)
        return 0;
    void *at = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    if (at == MAP_FAILED)
        return 0;
    unsigned told = ((unsigned (*)(void))at)();
    unsigned char again[sizeof code];
    if (pread(file, again, sizeof again, 0) != sizeof again || memcmp(again, code, sizeof code))
        return 0;
    close(file);
    unlink("code");
    return told;
}

static uint64_t constants(void) {
    uint64_t first, second;
    __asm__ volatile("mov $0xa20fa20f, %k0\n\tmovabs $0x0fa20fa20fa20fa2, %1" : "=r"(first), "=r"(second));
    return first + second;
}

static void ask(unsigned leaf, unsigned *w) {
    __cpuid_count(leaf, 0, w[0], w[1], w[2], w[3]);
}

static void once(void) {
    __builtin_cpu_init();
    printf("sse4.2 %d avx %d avx2 %d bmi2 %d avx512f %d\n", !!__builtin_cpu_supports("sse4.2"), !!__builtin_cpu_supports("avx"),
           !!__builtin_cpu_supports("avx2"), !!__builtin_cpu_supports("bmi2"), !!__builtin_cpu_supports("avx512f"));
    unsigned w[4], seven[4];
    ask(1, w);
    ask(7, seven);
    printf("1 %08x %08x\n7 %08x %08x %08x\n", w[2], w[3], seven[1], seven[2], seven[3]);
    printf("hwcap is %s\n", of_auxv(16) == w[3] ? "leaf 1" : "another");
    ask(0x80000001, w);
    printf("80000001 %08x\n", w[2]);
    printf("code %s %s\n", by_code_made_executable() == seven[1] ? "same" : "other", by_code_of_a_file() == seven[1] ? "same" : "other");
    unsigned sum = 0;
    for (unsigned i = 0; i < sizeof data; i++)
        sum = sum * 31 + data[i];
    for (unsigned i = 0; i < 8; i++)
        sum = sum * 31 + amid[i];
    printf("data %u constants %llx\n", sum, (unsigned long long)constants());
}

static const unsigned steady[] = {0, 7, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004};
enum { LEAVES = sizeof steady / sizeof *steady };

static void answers(unsigned all[LEAVES + 1][4]) {
    for (int i = 0; i < LEAVES; i++)
        ask(steady[i], all[i]);
    ask(1, all[LEAVES]);
    /* On the machine itself: which core it is. */
    all[LEAVES][1] = 0;
}

static void often(long rounds) {
    static char from[20000], to[20000];
    static unsigned first[LEAVES + 1][4], now[LEAVES + 1][4];
    uint64_t sum = 0;
    answers(first);
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < 200; i++) {
            size_t length = 1 + (size_t)(round * 7919 + i * 104729) % (sizeof from - 64), at = (size_t)i % 61;
            memset(from + at, 'a' + (int)(round + i) % 26, length);
            from[at + length] = 0;
            memmove(to + 61 - at, from + at, length + 1);
            char *found = strchr(to + 61 - at, 0);
            sum = sum * 31 + strlen(to + 61 - at) + (uint64_t)(found - to) + (uint64_t)(memcmp(to + 61 - at, from + at, length + 1) == 0);
        }
        answers(now);
        if (memcmp(first, now, sizeof now)) {
            puts("an answer changed");
            exit(1);
        }
        if (round % 50 == 0)
            printf("%ld %016llx\n", round, (unsigned long long)sum), fflush(stdout);
    }
    printf("%016llx\n", (unsigned long long)sum);
}

int main(int argc, char **argv) {
    if (argc < 2)
        once();
    else
        often(atol(argv[1]));
    return 0;
}
