// A Linux program that invokes keys wrongly in every way that has a name, and says what it is told. At last it ends its domain with code 7.
#define SEMPER_LINUX
#include "../../domains/guest/include/semper_domain.h"
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DOMAIN_SLOT = 10, START_SLOT, SEGMENT_SLOT };

static long raw(const void *message, const void *string) {
    long result = SEMPER_SYSCALL;
    __asm__ volatile("syscall" : "+a"(result) : "D"(message), "S"(string) : "rcx", "r11", "memory");
    return result;
}

static struct semper_message tell(const char *what, struct semper_message m, const char *string, uint32_t length) {
    uint32_t code = semper_invoke(&m, string, length);
    printf("%s: %#x", what, code);
    if (code >= SEMPER_FIRST_ERROR && code < SEMPER_INTERRUPTED)
        printf(" %llu %llu", (unsigned long long)m.got_words[0], (unsigned long long)m.got_words[1]);
    printf("\n"), fflush(stdout);
    return m;
}

static void ask(const char *what, uint8_t slot, uint32_t order, uint64_t word) {
    struct semper_message m = semper_message(slot, order);
    m.words[0] = word;
    tell(what, m, 0, 0);
}

static void rung(int signal) {
    (void)signal;
}

int main(int argc, char **argv) {
    (void)argv;
    struct semper_message m = semper_message(SEMPER_CLOCK, 1);
    if (argc > 1) {
        // Others have seen it, and no generation will tell of it.
        semper_invoke(&m, 0, 0);
        printf("spinning\n"), fflush(stdout);
        for (volatile long n = 0;; n++);
    }
    m = tell("the clock", m, 0, 0);
    printf("it runs: %d\n", m.got_words[0] > 0);
    ask("a wrong order", SEMPER_CLOCK, 31, 0);
    ask("another", SEMPER_CLOCK, 0xffffffff, 0);
    ask("no slot", 99, 1, 0);
    ask("an empty slot", 13, 1, 0);
    m = semper_message(SEMPER_LOG, 1);
    tell("too long a string", m, "", 5000);
    tell("the longest number", m, "", 0xffffffff);
    tell("a string for nothing", semper_message(SEMPER_CLOCK, 1), "x", 1);
    ask("a key is missing", SEMPER_SELF, 10, 0);
    m = semper_message(SEMPER_DISCRIM, 1), m.keys[0] = 77;
    tell("a key from no slot", m, 0, 0);
    m = semper_message(SEMPER_CLOCK, 1), m.accept[3] = 44;
    tell("a key to no slot", m, 0, 0);
    ask("registers of Linux", SEMPER_SELF, 5, 0);
    ask("input by a key", SEMPER_CONSOLE, 2, 10);
    m = semper_message(SEMPER_DISCRIM, 1), m.keys[0] = SEMPER_BANK;
    m = tell("what a key is", m, 0, 0);
    printf("type %d, rights %d\n", (int)m.got_words[0], (int)m.got_words[1]);

    semper_get(SEMPER_BANK, 3, 2, SEGMENT_SLOT);
    m = semper_message(SEGMENT_SLOT, 2), m.words[0] = 4090;
    tell("a write", m, "over the edge of two pages", 26);
    m = semper_message(SEGMENT_SLOT, 1), m.words[0] = 4090, m.words[1] = 26;
    m = tell("a read", m, 0, 0);
    printf("%.*s\n", (int)m.got_string_len, semper_string());
    ask("a read beyond the end", SEGMENT_SLOT, 1, 1 << 20);
    m = semper_message(SEMPER_CONSOLE, 1);
    tell("by the console key", m, "written by a key\n", 17);

    semper_get(SEMPER_SELF, 11, 1, START_SLOT);
    ask("a call of itself", START_SLOT, 1, 0);
    semper_get(SEMPER_BANK, 5, 0, DOMAIN_SLOT);
    semper_get(DOMAIN_SLOT, 11, 1, START_SLOT);
    m = semper_message(START_SLOT, 1), m.deadline = semper_monotonic() + 30000000;
    tell("a deadline", m, 0, 0);
    struct sigaction action = {.sa_handler = rung};
    sigaction(SIGALRM, &action, 0);
    ualarm(30000, 0);
    ask("a signal while it queues", START_SLOT, 1, 0);
    ualarm(30000, 0);
    m = semper_message(15, 0), m.how = SEMPER_REPLY_AND_WAIT;
    tell("a signal while it waits", m, 0, 0);
    ualarm(30000, 0);
    action.sa_flags = SA_RESTART, sigaction(SIGALRM, &action, 0);
    m = semper_message(START_SLOT, 1), m.deadline = semper_monotonic() + 90000000;
    tell("a signal and a deadline", m, 0, 0);
    semper_order(SEMPER_OWN, 2, START_SLOT, 0);
    m = semper_message(SEMPER_BANK, 9), m.keys[0] = DOMAIN_SLOT;
    tell("a sale", m, 0, 0);
    ask("a void key", DOMAIN_SLOT, 1, 0);

    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page + 4096, 4096, PROT_READ);
    const void *bad[] = {0, page + 8192 - 16, page + 4096, (void *)-1, (void *)SEMPER_CONTROL, (void *)(1ull << 40)};
    m = semper_message(SEMPER_CLOCK, 1);
    for (int n = 0; n < 6; n++) printf("bad pointer %d: %ld %ld\n", n, raw(bad[n], page), raw(&m, bad[n]));
    printf("still there: %#x\n", semper_invoke(&m, 0, 0)), fflush(stdout);
    semper_order(SEMPER_OWN, 4, 7, 0);
    printf("it did not end\n");
}
