/* A key-value server by poll, with its table in memory. A request is a line: "set KEY VALUE" is answered "ok VERSION", "get KEY" by
   "is VALUE" or "none", "size" by the number of keys. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 64
#define LINE 8192
#define BUCKETS 1024

struct entry {
    struct entry *next;
    char *key, *value;
};

static struct entry *table[BUCKETS];
static long version, keys;
static struct pollfd polled[1 + CLIENTS];
static char lines[1 + CLIENTS][LINE];
static size_t filled[1 + CLIENTS];
static int count = 1;

static struct entry **find(const char *key) {
    unsigned hash = 5381;
    for (const char *c = key; *c; c++) hash = hash * 33 + (unsigned char)*c;
    struct entry **at = &table[hash % BUCKETS];
    while (*at && strcmp((*at)->key, key)) at = &(*at)->next;
    return at;
}

static void answer(int fd, char *line) {
    char *verb = strtok(line, " "), *key = strtok(NULL, " "), *value = strtok(NULL, "");
    static char out[LINE + 16];
    int length;
    if (verb && key && value && !strcmp(verb, "set")) {
        struct entry **at = find(key);
        if (!*at) {
            *at = calloc(1, sizeof **at);
            (*at)->key = strdup(key);
            keys++;
        }
        free((*at)->value);
        (*at)->value = strdup(value);
        length = snprintf(out, sizeof out, "ok %ld\n", ++version);
    } else if (verb && key && !strcmp(verb, "get")) {
        struct entry *entry = *find(key);
        length = entry ? snprintf(out, sizeof out, "is %s\n", entry->value) : snprintf(out, sizeof out, "none\n");
    } else {
        length = snprintf(out, sizeof out, "%ld\n", keys);
    }
    send(fd, out, length, MSG_NOSIGNAL);
}

/* Whether the connection goes on. */
static int serve(int i) {
    ssize_t got = recv(polled[i].fd, lines[i] + filled[i], LINE - 1 - filled[i], 0);
    if (got <= 0) return 0;
    filled[i] += got;
    for (char *end; (end = memchr(lines[i], '\n', filled[i]));) {
        char line[LINE];
        size_t length = end - lines[i];
        memcpy(line, lines[i], length);
        line[length] = 0;
        filled[i] -= length + 1;
        memmove(lines[i], end + 1, filled[i]);
        answer(polled[i].fd, line);
    }
    return filled[i] < LINE - 1;
}

int main(int argc, char **argv) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1])) };
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return perror("listen"), 1;
    polled[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
    for (;;) {
        polled[0].events = count <= CLIENTS ? POLLIN : 0;
        if (poll(polled, count, -1) < 0) continue;
        for (int i = count - 1; i > 0; i--) {
            if (!polled[i].revents || serve(i)) continue;
            close(polled[i].fd);
            count--;
            polled[i] = polled[count];
            memcpy(lines[i], lines[count], LINE);
            filled[i] = filled[count];
        }
        if (polled[0].revents & POLLIN) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            filled[count] = 0;
            polled[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
        }
    }
}
