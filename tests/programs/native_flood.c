/* A native domain that asks for more than its share, without end: flood HOW.
 *
 * invoke: invokes as fast as it can. post: says that it has posted and goes on, changing the message while the kernel reads it.
 * map: maps and unmaps, each of which makes its process anew. checkpoint: asks for one after the other. log: writes lines.
 * buy: buys and sells domains. timer: sets a timer that is due. And wait: waits for a message, and does nothing else. */
#include "semper_domain.h"

static uint64_t state = 0x9e3779b97f4a7c15ull;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int is(const char *text, const char *other) {
    while (*text && *text == *other)
        text++, other++;
    return *text == *other;
}

/* The header of the control pages: state, then cause at 8; docs/native.md calls all of it the kernel's. */
enum { POSTED = 1, CAUSE_INVOKE = 1001 };

static void post(void) {
    volatile uint32_t *header = (uint32_t *)SEMPER_CONTROL;
    volatile struct semper_message *message = (struct semper_message *)SEMPER_MESSAGE;
    volatile uint64_t *string = (uint64_t *)SEMPER_STRING;
    for (;;) {
        message->slot = (uint8_t)(next() % 17);
        message->how = (uint8_t)(next() % 2);
        message->order = (uint32_t)(next() % 16);
        message->string_len = (uint32_t)(next() % 4097);
        message->words[next() % 4] = next() % 64;
        message->keys[next() % 4] = (uint8_t)(next() % 18);
        message->accept[next() % 4] = SEMPER_NO_SLOT;
        message->deadline = 1;
        string[next() % 512] = next();
        if (message->slot == SEMPER_CONSOLE || message->slot == SEMPER_BANK || message->slot == SEMPER_SELF)
            message->slot = SEMPER_RANDOM;
        header[2] = CAUSE_INVOKE;
        header[0] = POSTED;
        /* Nobody waits for the answer: what the kernel reads now is changed under its hands. */
        for (int n = 0; n < 200; n++) {
            message->string_len = (uint32_t)next();
            message->keys[n % 4] = (uint8_t)next();
            message->order = (uint32_t)next();
            *(volatile uint64_t *)(SEMPER_CONTROL + 16) = next();
        }
    }
}

int semper_main(const struct semper_boot *boot) {
    const char *how = semper_arg(boot, 1);
    if (is(how, "post")) post();
    semper_get(SEMPER_BANK, 2, 0, 12);
    semper_get(SEMPER_BANK, 8, 0, 13);
    for (;;) {
        if (is(how, "wait")) {
            struct semper_message wait = semper_message(14, 0);
            wait.how = SEMPER_REPLY_AND_WAIT;
            semper_invoke(&wait, 0, 0);
        }
        if (is(how, "invoke")) semper_monotonic();
        if (is(how, "map")) {
            struct semper_message map = semper_message(SEMPER_SELF, 13);
            map.words[0] = 1 << 20, map.words[2] = 1, map.keys[0] = 12;
            semper_invoke(&map, 0, 0);
            semper_order(SEMPER_SELF, 14, 1 << 20, 0);
        }
        if (is(how, "checkpoint")) semper_order(SEMPER_CHECKPOINT, 1, 0, 0);
        if (is(how, "log")) {
            struct semper_message line = semper_message(SEMPER_LOG, 1);
            semper_invoke(&line, 0, SEMPER_MAX_STRING);
        }
        if (is(how, "buy")) {
            semper_get(SEMPER_BANK, 5, 0, 14);
            struct semper_message sell = semper_message(SEMPER_BANK, 9);
            sell.keys[0] = 14;
            semper_invoke(&sell, 0, 0);
        }
        if (is(how, "timer")) {
            semper_order(13, 1, 1, 0);
            semper_order(13, 2, 0, 0);
        }
    }
}
