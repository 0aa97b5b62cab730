/* A native program to be looked at from outside: it logs, buys one of each object, has a second domain that waits for it, and
   counts until `finish` is set. Built without a C library: see bare_c_program in tests/cli/harness. */
#include <stdint.h>

struct message {
    uint8_t slot, how;
    uint16_t zero;
    uint32_t order;
    uint64_t words[4];
    uint8_t keys[4], accept[4];
    uint32_t string_len, zero2;
    uint64_t deadline;
    uint32_t code;
    uint8_t got_keys, answerable;
    uint16_t zero3;
    uint64_t got_words[4], badge;
    uint32_t got_string_len, zero4;
};

#define MESSAGE ((volatile struct message *)0x600000011000ull)
#define STRING ((volatile char *)0x600000012000ull)
enum { CONSOLE, CLOCK, RANDOM, BANK, METER, LOG, SELF = 9, MEMORY = 10, CHILD = 12, START = 13, SPARE = 14, NONE = 255, OWN = 255 };

static volatile uint64_t counter;
static volatile uint64_t finish;
static volatile uint64_t fault;
static volatile uint64_t scratch;

static uint32_t invoke(uint8_t slot, uint32_t order, uint64_t a, uint64_t b, uint64_t c, uint8_t key, uint8_t accept, const char *text) {
    volatile struct message *m = MESSAGE;
    uint32_t len = 0;
    while (text && text[len]) {
        STRING[len] = text[len];
        len++;
    }
    for (unsigned i = 0; i < sizeof *m; i++) ((volatile char *)m)[i] = 0;
    m->slot = slot;
    m->order = order;
    m->words[0] = a, m->words[1] = b, m->words[2] = c;
    for (int i = 0; i < 4; i++) m->keys[i] = NONE, m->accept[i] = NONE;
    m->keys[0] = key, m->accept[0] = accept;
    m->string_len = len;
    __asm__ volatile("call *%0" ::"r"(0x600000100000ull)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1");
    return m->code;
}

/* Where a breakpoint goes; its page also holds `on_the_page`, to which it writes. */
__attribute__((noinline, section(".text.work"))) static uint64_t work(uint64_t n);
__asm__(".section .text.work\n.balign 4096\n.globl on_the_page\non_the_page: .quad 0\n.text");
extern volatile uint64_t on_the_page;

__attribute__((noinline, section(".text.work"))) static uint64_t work(uint64_t n) {
    on_the_page = n;
    return n + 1;
}

static char stack[8192] __attribute__((aligned(16)));

/* The second domain: it calls the first, which never takes a message. */
__attribute__((force_align_arg_pointer)) static void child(void) {
    invoke(0, 77, 1, 2, 3, NONE, NONE, "hello");
    __builtin_trap();
}

__attribute__((force_align_arg_pointer)) void _start(void) {
    invoke(LOG, 1, 0, 0, 0, NONE, NONE, "begun\tnow");
    invoke(BANK, 4, 0, 0, 0, NONE, SPARE, 0);
    invoke(SPARE, 2, 3, 0, 0, CONSOLE, NONE, 0);
    invoke(BANK, 8, 0, 0, 0, NONE, NONE, 0);
    invoke(BANK, 6, 100, 100, 0, NONE, NONE, 0);
    invoke(BANK, 5, 0, 0, 0, NONE, CHILD, 0);
    uint64_t pages = (invoke(MEMORY, 4, 0, 0, 0, NONE, NONE, 0), MESSAGE->got_words[0]);
    invoke(CHILD, 10, 0, 0, 0, METER, NONE, 0);
    invoke(CHILD, 13, 0x400000 >> 12, 0, pages, MEMORY, NONE, 0);
    invoke(SELF, 11, 42, 0, 0, NONE, START, 0);
    invoke(CHILD, 8, 0, 0, 0, START, NONE, 0);
    invoke(CHILD, 2, (uint64_t)child, (uint64_t)stack + sizeof stack - 64, 0, NONE, NONE, 0);
    invoke(CONSOLE, 1, 0, 0, 0, NONE, NONE, "ready\n");
    while (!finish) {
        counter = work(counter);
        if (fault) *(volatile uint64_t *)8 = 1;
        for (scratch = 0; scratch < 200000; scratch++) {}
    }
    invoke(LOG, 1, 0, 0, 0, NONE, NONE, "done");
    invoke(OWN, 4, 7, 0, 0, NONE, NONE, 0);
}
