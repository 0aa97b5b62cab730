/* Tells the size of its terminal at the start and whenever it changes; ends when input does, however often it was told. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static volatile sig_atomic_t changed = 1;

static void on_change(int signal) {
    (void)signal;
    changed = 1;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_change};
    sigaction(SIGWINCH, &action, NULL);
    for (;;) {
        char byte;
        if (changed) {
            struct winsize size = {0};
            changed = 0;
            ioctl(0, TIOCGWINSZ, &size);
            printf("%d rows, %d columns\n", size.ws_row, size.ws_col);
            fflush(stdout);
        }
        ssize_t got = read(0, &byte, 1);
        if (got == 0) return 4;
        if (got < 0 && errno != EINTR) return 5;
    }
}
