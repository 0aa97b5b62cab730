/* Network keys: network PORT OPEN CLOSED. PORT was granted to listen at, OPEN and CLOSED to connect to; somebody listens at OPEN, which
 * answers a byte by two, and nobody at CLOSED. Says what comes of each order. */
#include "native_test.h"

enum { LOCALHOST = 0x7f000001, CONNECTION = 12, WEAKER = 13 };

/* The error, and for one from outside its number too. */
static void told(const char *what, const struct semper_message *message) {
    uint64_t error = message->code < SEMPER_FIRST_ERROR ? message->code : message->code - SEMPER_FIRST_ERROR + 1;
    say(what, error == 28 ? 28000 + message->got_words[0] : error);
}

static struct semper_message network(uint32_t order, uint64_t first, uint64_t second) {
    struct semper_message message = semper_message(SEMPER_NETWORK, order);
    message.words[0] = first, message.words[1] = second, message.accept[0] = CONNECTION;
    semper_invoke(&message, 0, 0);
    return message;
}

static struct semper_message on(uint8_t slot, uint32_t order, uint64_t word, const char *text) {
    struct semper_message message = semper_message(slot, order);
    message.words[0] = word;
    semper_invoke(&message, text, text ? (uint32_t)semper_length(text) : 0);
    return message;
}

int semper_main(const struct semper_boot *boot) {
    uint64_t port = number(semper_arg(boot, 1)), open = number(semper_arg(boot, 2)), closed = number(semper_arg(boot, 3));
    struct semper_message message;
    message = network(1, port + 1, 0), told("accept, not granted: ", &message);
    message = network(1, 0, 0), told("accept at no port: ", &message);
    message = network(2, 0x7f000002, open), told("connect, not granted: ", &message);
    message = network(2, LOCALHOST, closed), told("connect where nobody is: ", &message);
    message = network(2, 1ull << 40, open), told("connect to no address: ", &message);

    message = network(2, LOCALHOST, open), told("connect: ", &message);
    semper_get(CONNECTION, 0, 1, WEAKER);
    message = on(WEAKER, 1, 0, "x"), told("send without the right: ", &message);
    message = on(WEAKER, 4, 0, 0), told("close without the right: ", &message);
    message = on(CONNECTION, 2, 0, 0), told("receive nothing: ", &message);
    message = on(CONNECTION, 1, 0, "x"), say("sent: ", message.got_words[0]);
    message = on(WEAKER, 2, 100, 0), say("received: ", message.got_string_len);
    message = on(CONNECTION, 3, 0, 0), told("shut down: ", &message);
    message = on(CONNECTION, 1, 0, "x"), told("send after that: ", &message);
    message = on(CONNECTION, 2, 100, 0), say("received at the end: ", message.got_string_len);
    message = on(CONNECTION, 4, 0, 0), told("close: ", &message);
    message = on(WEAKER, 2, 100, 0), told("receive from a closed one: ", &message);
    message = on(CONNECTION, 4, 0, 0), told("close again: ", &message);

    struct semper_message send = semper_message(SEMPER_NETWORK, 1);
    send.how = SEMPER_SEND, send.words[0] = port;
    semper_invoke(&send, 0, 0), told("accept that cannot wait: ", &send);
    message = network(1, port, 0), told("accept: ", &message);
    say("from this host: ", message.got_words[0] == LOCALHOST);
    message = on(CONNECTION, 2, 100, 0), told("receive from one that is reset: ", &message);
    message = network(1, port, 0), told("accept: ", &message);
    message = on(CONNECTION, 2, 100, 0), told("receive over a restart: ", &message);
    message = on(CONNECTION, 3, 0, 0), told("shut down after it: ", &message);
    message = network(1, port, 0), told("accept after it: ", &message);
    message = on(CONNECTION, 2, 100, 0), say("received: ", message.got_string_len);
    return 0;
}
