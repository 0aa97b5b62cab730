/* Writes lines until a write fails, then says on standard error what it was told. reader_gone default|ignore|handle */
#include "semper_test.h"
#include <errno.h>
#include <signal.h>

static volatile sig_atomic_t signals;

static void count(int signal) {
    (void)signal;
    signals++;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "default";
    if (!strcmp(how, "ignore"))
        signal(SIGPIPE, SIG_IGN);
    else if (!strcmp(how, "handle"))
        signal(SIGPIPE, count);
    for (int line = 0;; line++) {
        char text[64];
        int length = snprintf(text, sizeof text, "line %d\n", line);
        if (write(1, text, (size_t)length) < 0)
            break;
        usleep(1000);
    }
    fprintf(stderr, "%s after %d signals\n", errno == EPIPE ? "EPIPE" : "another error", (int)signals);
    return 6;
}
