/* The network order "serve": parcels PORT, and parcels helper, to which the first has a key in slot 12. PORT was granted to listen at. Says
 * what comes of good parcels and of others. */
#include "native_test.h"

enum { SERVE = 3, HELPER = 12, WEAKER = 13, GIVEN = 13, BAD_WORD = 9 };

static uint64_t port;
static char out[SEMPER_MAX_STRING];
static uint32_t filled;
static struct semper_parcel came[256];
static uint32_t count, bytes;

static void put(uint64_t connection, uint16_t flags, uint16_t len, uint32_t room, const char *text) {
    struct semper_parcel parcel = {.connection = connection, .len = len, .flags = flags, .room = room};
    memcpy(out + filled, &parcel, sizeof parcel);
    memcpy(out + filled + sizeof parcel, text, semper_length(text));
    filled += (uint32_t)(sizeof parcel + semper_length(text));
}

/* Serves by the key in `slot`, and takes apart what came; the error, or 0. */
static uint64_t serve(uint8_t slot, uint64_t at_port, uint64_t does_not_wait) {
    struct semper_message message = semper_message(slot, SERVE);
    message.words[0] = at_port, message.words[1] = does_not_wait;
    uint32_t code = semper_invoke(&message, out, filled);
    filled = count = bytes = 0;
    if (code >= SEMPER_FIRST_ERROR) {
        uint64_t error = code - SEMPER_FIRST_ERROR + 1;
        return error == 28 ? 28000 + message.got_words[0] : error;
    }
    for (uint32_t at = 0; at < message.got_string_len; count++) {
        memcpy(&came[count], semper_string() + at, sizeof came[0]);
        at += (uint32_t)sizeof came[0] + came[count].len, bytes += came[count].len;
    }
    return code;
}

/* Serves until something came. */
static void await(void) {
    do {
        uint64_t error = serve(SEMPER_NETWORK, port, 0);
        if (error) say("serve: ", error);
    } while (!count);
}

static int helper(void) {
    struct semper_message message = semper_message(SEMPER_RESUME_SLOT, 0);
    message.accept[0] = GIVEN;
    semper_reply_and_wait(&message, 0, 0);
    port = message.got_words[0];
    message = semper_message(SEMPER_RESUME_SLOT, 0), message.how = SEMPER_SEND;
    semper_invoke(&message, 0, 0);
    uint64_t error = serve(GIVEN, port, 0);
    say("helper: ", error);
    say("helper, one came: ", count == 1 && came[0].flags == SEMPER_CAME);
    put(came[0].connection, SEMPER_CLOSE, 4, 0, "help");
    say("helper, answered: ", serve(GIVEN, port, 1));
    message = semper_message(SEMPER_RESUME_SLOT, 0);
    semper_reply_and_wait(&message, 0, 0);
    message = semper_message(SEMPER_RESUME_SLOT, 0), message.how = SEMPER_SEND;
    semper_invoke(&message, 0, 0);
    return 0;
}

static void refused(void) {
    say("not granted: ", serve(SEMPER_NETWORK, port + 1, 1));
    say("no port: ", serve(SEMPER_NETWORK, 0, 1));
    say("no such port: ", serve(SEMPER_NETWORK, 1 << 20, 1));
    say("no such wait: ", serve(SEMPER_NETWORK, port, 3));
    semper_get(SEMPER_NETWORK, 0, 2, WEAKER);
    say("without the right: ", serve(WEAKER, port, 1));
    struct semper_message send = semper_message(SEMPER_NETWORK, SERVE);
    send.how = SEMPER_SEND, send.words[0] = port;
    semper_invoke(&send, 0, 0), say("that cannot wait: ", send.code - SEMPER_FIRST_ERROR + 1);
    struct semper_message large = semper_message(SEMPER_NETWORK, SERVE);
    large.words[0] = port, large.words[1] = 1;
    semper_invoke(&large, 0, SEMPER_MAX_STRING + 1), say("too large: ", large.code - SEMPER_FIRST_ERROR + 1);
}

/* Strings that are none, each behind a parcel that is one. */
static void broken(uint64_t connection) {
    static const struct semper_parcel wrong[] = {
        {.connection = 1, .len = 9}, {.connection = 1, .flags = 8}, {.connection = 1, .flags = 0x8001}, {.connection = 1, .room = 1},
        {.connection = 0}, {.connection = 0, .flags = SEMPER_END}, {.connection = 1, .len = 0xffff},
    };
    uint64_t errors = 0;
    for (size_t n = 0; n < sizeof wrong / sizeof wrong[0]; n++) {
        put(connection, 0, 5, 0, "never");
        put(wrong[n].connection, wrong[n].flags, wrong[n].len, wrong[n].room, "");
        errors += serve(SEMPER_NETWORK, port, 1) == 27;
    }
    put(connection, 0, 5, 0, "never"), put(0, SEMPER_CLOSE, 1, 0, "x");
    errors += serve(SEMPER_NETWORK, port, 1) == 27;
    put(connection, 0, 5, 0, "never"), filled += 3;
    errors += serve(SEMPER_NETWORK, port, 1) == 27;
    say("broken strings: ", errors);
}

static void too_much(uint64_t connection, uint64_t other) {
    static char piece[4001];
    memset(piece, 'y', 4000);
    uint64_t sent = 0, gone = 0;
    /* Until the host takes no more of it, either. */
    for (; sent < 10000 && !gone; sent++) {
        put(connection, 0, 4000, 0, piece);
        serve(SEMPER_NETWORK, port, 1);
        for (uint32_t n = 0; n < count; n++) gone |= came[n].connection == connection && came[n].flags == SEMPER_GONE;
    }
    say("gone: ", gone);
    say("after what there was room for: ", sent > 65);
    put(connection, 0, 7, 0, "dropped"), put(other, SEMPER_CLOSE, 4, 0, "good");
    say("to the other: ", serve(SEMPER_NETWORK, port, 1));
}

int semper_main(const struct semper_boot *boot) {
    if (semper_arg(boot, 1)[0] == 'h') return helper();
    port = number(semper_arg(boot, 1));
    refused();
    say("only sends: ", serve(SEMPER_NETWORK, port, 2));
    say("and is told: ", count);
    say("serve: ", serve(SEMPER_NETWORK, port, 1));
    say("all of before are gone: ", count == 1 && came[0].connection == 0 && came[0].flags == SEMPER_GONE);
    say("again: ", serve(SEMPER_NETWORK, port, 1));
    say("parcels: ", count);

    uint64_t peers[2], known = 0, good = 1;
    while (known < 2) {
        await();
        for (uint32_t n = 0; n < count && known < 2; n++) {
            peers[known++] = came[n].connection;
            good &= came[n].flags == SEMPER_CAME && came[n].room == 256 << 10;
        }
    }
    say("came: ", good);
    broken(peers[0]);
    put(peers[0], 0, 3, 0, "one"), put(12345, 0, 3, 0, "two"), put(peers[1] + 99, SEMPER_CLOSE, 0, 0, "");
    say("sent: ", serve(SEMPER_NETWORK, port, 1));
    await();
    say("answered: ", count == 1 && came[0].connection == peers[0] && came[0].len == 1);
    too_much(peers[0], peers[1]);

    struct semper_message give = semper_message(HELPER, 1);
    give.words[0] = port, give.keys[0] = SEMPER_NETWORK;
    semper_invoke(&give, 0, 0);
    uint64_t error;
    do error = serve(SEMPER_NETWORK, port, 1);
    while (!error);
    say("while another one waits: ", error);
    semper_order(HELPER, 1, 0, 0);

    await();
    peers[0] = came[0].connection;
    say("waits over a restart: ", count);
    put(peers[0], 0, 4, 0, "lost");
    error = serve(SEMPER_NETWORK, port, 0);
    say("after it: ", error);
    say("all of before are gone: ", came[0].connection == 0 && came[0].flags == SEMPER_GONE);
    put(peers[0], 0, 4, 0, "lost");
    if (count == 1) await();
    peers[1] = came[count - 1].connection;
    say("another number: ", peers[0] != peers[1]);
    put(peers[1], SEMPER_CLOSE, 5, 0, "there");
    say("sent: ", serve(SEMPER_NETWORK, port, 1));
    return 0;
}
