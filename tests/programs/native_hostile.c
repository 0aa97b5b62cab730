/* A native domain that tries what it should not: hostile SEED ROUNDS. It is begun anew by nobody; what it does to itself is its affair. */
#include "native_test.h"

static uint64_t state;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Which answers came: 0 is bit 0, error n is bit n. */
static uint64_t answers;

/* An invocation of anything with anything: slots that do not exist, strings that are too long, orders that nobody has. Mostly each part is
 * likely, so that more than the first check is met. */
static void nonsense(void) {
    volatile struct semper_message *message = (struct semper_message *)SEMPER_MESSAGE;
    for (unsigned i = 0; i < 64; i++)
        ((volatile unsigned char *)message)[i] = (unsigned char)next();
    message->how = (uint8_t)(next() % 2);
    if (next() % 8) message->slot = (uint8_t)(next() % 17);
    if (next() % 8) message->order = (uint32_t)(next() % 16);
    if (next() % 8) message->string_len = next() % 2 ? 0 : (uint32_t)(next() % 5000);
    for (int i = 0; i < 4; i++) {
        if (next() % 2) message->words[i] = next() % 64;
        if (next() % 8) message->keys[i] = next() % 2 ? SEMPER_NO_SLOT : (uint8_t)(next() % 17);
        /* What it holds from the start is not to be overwritten, or it would soon hold nothing. */
        message->accept[i] = next() % 2 ? (uint8_t)(12 + next() % 4) : next() % 8 ? SEMPER_NO_SLOT : (uint8_t)(17 + next() % 200);
    }
    /* Not its own end, no wait for input or for ever, and not the end of its keys, memory or domain at once. */
    if (message->slot == SEMPER_OWN && message->order == 4) message->slot = 16;
    if (message->slot == SEMPER_OWN && next() % 16) message->words[0] |= 12, message->words[1] |= 12;
    if (message->slot == SEMPER_CONSOLE && message->order == 2) message->order = 1;
    if (message->slot == SEMPER_SELF && (message->order == 2 || message->order == 3) && next() % 64) message->order = 1;
    if (message->slot == SEMPER_BANK && (message->order == 9 || message->order == 12) && next() % 64) message->order = 2;
    message->deadline = 1;
    ((void (*)(void))SEMPER_INVOKE)();
    uint32_t code = message->code;
    answers |= 1ull << (code < SEMPER_FIRST_ERROR ? 0 : (code - SEMPER_FIRST_ERROR + 1) % 64);
}

/* How many different answers came; the log has it even if what follows is the end. */
static void tell(void) {
    char text[] = "answers: 00";
    int count = 0;
    for (int n = 0; n < 64; n++) count += (int)(answers >> n & 1);
    text[9] = (char)('0' + count / 10), text[10] = (char)('0' + count % 10);
    struct semper_message message = semper_message(SEMPER_LOG, 1);
    semper_invoke(&message, text, sizeof text - 1);
}

int semper_main(const struct semper_boot *boot) {
    state = number(semper_arg(boot, 1)) * 0x9e3779b97f4a7c15ull | 1;
    uint64_t rounds = number(semper_arg(boot, 2)), half = rounds / 2;
    for (; rounds; rounds--) {
        nonsense();
        if (rounds % 256 == 0)
            tell();
        /* The second half also scribbles. */
        if (rounds < half && next() % 64 == 0) {
            /* What the stub and the kernel tell each other, but not the page's own code. */
            volatile uint64_t *header = (uint64_t *)SEMPER_CONTROL;
            header[2 + next() % 60] = next();
        }
    }
    semper_print("it came through\n");
    /* Into the stub, anywhere. */
    ((void (*)(void))(0x700000001000ull + next() % 8192))();
    return 0;
}
