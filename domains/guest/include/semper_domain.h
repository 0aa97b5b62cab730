/* What a domain of Semper is written with, in C. The same as the Rust crate `semper-domain` at its lowest level: docs/native.md.
 *
 *     cc -O2 -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -no-pie -I domains/guest/include program.c
 *
 * The program defines `int semper_main(const struct semper_boot *boot)`; what it gives is its exit code. Orders and errors are in
 * docs/objects.md. Programs of one file only: this header defines the entry of the image. A file that invokes keys and is not the
 * entry defines SEMPER_NO_ENTRY before it.
 *
 * A Linux program that Semper runs, with a C library and a main of its own, defines SEMPER_LINUX before it: keys are then invoked by a
 * system call. */
#ifndef SEMPER_DOMAIN_H
#define SEMPER_DOMAIN_H

#include <stddef.h>
#include <stdint.h>
#ifdef SEMPER_LINUX
#include <string.h>
#define SEMPER_NO_ENTRY
#endif

/* The pages that a domain and the kernel share, and the code that invokes. */
#define SEMPER_CONTROL 0x600000000000ull
#define SEMPER_MESSAGE (SEMPER_CONTROL + 17 * 4096)
#define SEMPER_STRING (SEMPER_MESSAGE + 4096)
#define SEMPER_INVOKE (SEMPER_CONTROL + 0x100000)
#define SEMPER_MAX_STRING 4096

/* Slots. */
#define SEMPER_SLOTS 16
#define SEMPER_RESUME_SLOT 16
#define SEMPER_NO_SLOT 255
#define SEMPER_OWN 255

/* Answers from here on are errors of the kernel's. */
#define SEMPER_FIRST_ERROR 0x80000001u
/* Said by this header, in a Linux program: a signal ended the wait and nothing was invoked (but an answer given by the key in slot 16 has
 * gone); there is no kernel of Semper's. */
#define SEMPER_INTERRUPTED 0xfffffffeu
#define SEMPER_NO_KERNEL 0xffffffffu
/* The number of the system call. */
#define SEMPER_SYSCALL 0x53656d70

/* How a key is invoked. */
enum { SEMPER_CALL = 0, SEMPER_SEND = 1, SEMPER_REPLY_AND_WAIT = 2 };

/* The keys of the first domain of a program, by slot. */
enum {
    SEMPER_CONSOLE, SEMPER_CLOCK, SEMPER_RANDOM, SEMPER_BANK, SEMPER_METER, SEMPER_LOG, SEMPER_CHECKPOINT, SEMPER_RESTART,
    SEMPER_DISCRIM, SEMPER_SELF, SEMPER_MEMORY, SEMPER_IMAGE, SEMPER_NETWORK = 14, SEMPER_JOURNAL = 15
};

/* An invocation, and below it what came back. Made by semper_message, so that no slot is meant that was not named. */
struct semper_message {
    uint8_t slot;
    uint8_t how;
    uint16_t zero;
    uint32_t order;
    uint64_t words[4];
    uint8_t keys[4];   /* slots of the keys that go with it */
    uint8_t accept[4]; /* slots for the keys that come back */
    uint32_t string_len;
    uint32_t zero2;
    uint64_t deadline; /* of the monotonic clock, nanoseconds; 0: none. Not of a reply and wait */

    uint32_t code;      /* the answer; the order of a message that came */
    uint8_t got_keys;   /* bit by bit */
    uint8_t answerable; /* 1: the sender waits for an answer */
    uint16_t zero3;
    uint64_t got_words[4];
    uint64_t badge;
    uint32_t got_string_len;
    uint32_t zero4;
};
_Static_assert(sizeof(struct semper_message) == 120, "the message is what the kernel takes");
_Static_assert(offsetof(struct semper_message, code) == 64, "the answer is where the kernel puts it");

/* What stands before each parcel of the network order "serve" (3); `len` bytes follow, and then the next one. */
struct semper_parcel {
    uint64_t connection;
    uint16_t len;
    uint16_t flags;
    uint32_t room; /* of one that came; else 0 */
};
_Static_assert(sizeof(struct semper_parcel) == 16, "the parcel is what the kernel takes");
/* Of one that came, and of one that is given. */
enum { SEMPER_CAME = 1, SEMPER_ENDED = 2, SEMPER_GONE = 4 };
enum { SEMPER_END = 1, SEMPER_CLOSE = 2, SEMPER_WANT = 4 };

/* The top of a program's memory: `entry` began with its address. The arguments follow, each ended by a zero byte. */
struct semper_boot {
    uint64_t magic;
    uint64_t memory_start;
    uint64_t memory_end;
    uint64_t heap_start;
    uint64_t heap_end;
    uint64_t entry;
    uint64_t start;
    uint64_t argument;
    uint64_t args_len;
};

#ifndef SEMPER_LINUX
/* What a compiler expects to be there. Written in a way that none turns into a call of itself. */
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t n) {
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return result;
}

__attribute__((weak)) void *memset(void *to, int byte, size_t n) {
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return result;
}
#endif

static inline size_t semper_length(const char *text) {
    size_t n = 0;
    for (const volatile char *at = text; *at; at++) n++;
    return n;
}

/* A call of the key in `slot` with this order, words and keys as yet none. */
static inline struct semper_message semper_message(uint8_t slot, uint32_t order) {
    struct semper_message message = {.slot = slot, .order = order};
    for (int n = 0; n < 4; n++) message.keys[n] = message.accept[n] = SEMPER_NO_SLOT;
    return message;
}

/* The string page: before a call the string to send, after it the one that came. */
static inline char *semper_string(void) {
#ifdef SEMPER_LINUX
    static char page[SEMPER_MAX_STRING];
    return page;
#else
    return (char *)SEMPER_STRING;
#endif
}

/* Invokes. `string` may be null if `string_len` is 0, or if the string is in its page already. Returns message->code: 0, the answer of
 * another domain, or an error of the kernel's. The string that came is in its page until the next call. */
static inline uint32_t semper_invoke(struct semper_message *message, const void *string, uint32_t string_len) {
    message->string_len = string_len;
    if (string && string_len <= SEMPER_MAX_STRING) memcpy(semper_string(), string, string_len);
#ifdef SEMPER_LINUX
    long result = SEMPER_SYSCALL;
    __asm__ volatile("syscall" : "+a"(result) : "D"(message), "S"(semper_string()) : "rcx", "r11", "memory");
    if (result) message->code = result == -4 ? SEMPER_INTERRUPTED : SEMPER_NO_KERNEL;
#else
    struct semper_message *page = (struct semper_message *)SEMPER_MESSAGE;
    void (*invoke)(void) = (void (*)(void))SEMPER_INVOKE;
    memcpy(page, message, sizeof *message);
    __asm__ volatile("" : : : "memory");
    invoke();
    __asm__ volatile("" : : : "memory");
    memcpy(message, page, sizeof *message);
#endif
    return message->code;
}

/* Calls an order that takes up to two words and gives none. */
static inline uint32_t semper_order(uint8_t slot, uint32_t order, uint64_t first, uint64_t second) {
    struct semper_message message = semper_message(slot, order);
    message.words[0] = first, message.words[1] = second;
    return semper_invoke(&message, 0, 0);
}

/* Calls an order that gives a key, into the slot `to`. */
static inline uint32_t semper_get(uint8_t slot, uint32_t order, uint64_t first, uint8_t to) {
    struct semper_message message = semper_message(slot, order);
    message.words[0] = first, message.accept[0] = to;
    return semper_invoke(&message, 0, 0);
}

/* Writes to the console; the first error, or 0. */
static inline uint32_t semper_write(const char *bytes, size_t n) {
    uint32_t code = 0;
    while (n && !code) {
        uint32_t part = n < SEMPER_MAX_STRING ? (uint32_t)n : SEMPER_MAX_STRING;
        struct semper_message message = semper_message(SEMPER_CONSOLE, 1);
        code = semper_invoke(&message, bytes, part);
        bytes += part, n -= part;
    }
    return code;
}

/* Writes a text to the console. */
static inline uint32_t semper_print(const char *text) {
    return semper_write(text, semper_length(text));
}

/* Nanoseconds of the monotonic clock. */
static inline uint64_t semper_monotonic(void) {
    struct semper_message message = semper_message(SEMPER_CLOCK, 1);
    semper_invoke(&message, 0, 0);
    return message.got_words[0];
}

/* Answers the message that came last with message->order as code, and waits for the next: that is then in the lower half of `message`,
 * its string in the string page. A caller that is gone is passed over. */
static inline void semper_reply_and_wait(struct semper_message *message, const void *string, uint32_t string_len) {
    message->slot = SEMPER_RESUME_SLOT, message->how = SEMPER_REPLY_AND_WAIT;
    if (semper_invoke(message, string, string_len) >= SEMPER_FIRST_ERROR && !message->answerable) {
        semper_order(SEMPER_OWN, 2, SEMPER_RESUME_SLOT, 0);
        semper_invoke(message, 0, 0);
    }
}

/* Argument `n` of the program, or null; 0 is its name. */
static inline const char *semper_arg(const struct semper_boot *boot, int n) {
    const char *at = (const char *)(boot + 1), *end = at + boot->args_len;
    while (n > 0 && at < end) n -= *at++ == 0;
    return at < end ? at : 0;
}

/* Ends the domain; for the first domain of a program, the program with this exit code. */
static inline _Noreturn void semper_end(int code) {
    semper_order(SEMPER_OWN, 4, (uint32_t)code, 0);
    for (;;) __asm__ volatile("ud2");
}

/* Faults with a text that the keeper can read: rdi points at it, rsi is its length. */
static inline _Noreturn void semper_panic(const char *text) {
    struct semper_message message = semper_message(SEMPER_LOG, 1);
    size_t n = semper_length(text);
    semper_invoke(&message, text, (uint32_t)n);
    for (;;) __asm__ volatile("ud2" : : "D"(text), "S"(n));
}

#ifndef SEMPER_NO_ENTRY
int semper_main(const struct semper_boot *boot);

__attribute__((used)) static _Noreturn void semper_begin(const struct semper_boot *boot) {
    semper_end(semper_main(boot));
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall semper_begin\n\tud2\n");
#endif

#endif
