/* Sleeps across whatever happens, and says whether the clock ever jumped back or the sleep was short. sleeper COUNT MS */
#define _GNU_SOURCE
#include "semper_test.h"
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    int count = atoi(argc > 1 ? argv[1] : "10"), ms = atoi(argc > 2 ? argv[2] : "200");
    double last = now();
    for (int i = 0; i < count; i++) {
        struct timespec time = {ms / 1000, ms % 1000 * 1000000l};
        while (nanosleep(&time, &time))
            ;
        double after = now();
        printf("sleep %d: %s, %s\n", i, after < last ? "the clock went BACK" : "the clock went on",
               after - last < (double)ms / 1000 - 0.002 ? "TOO SHORT" : "long enough");
        fflush(stdout);
        last = after;
    }
    return 0;
}
