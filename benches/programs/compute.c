/* compute SWEEPS: a stencil over two arrays of 8 MiB; no system call in the loop. */
#include "timing.h"

enum { CELLS = 1 << 20 };

static double from[CELLS], to[CELLS];

static void sweep(const double *restrict a, double *restrict b)
{
    for (int i = 1; i < CELLS - 1; i++)
        b[i] = 0.25 * a[i - 1] + 0.5 * a[i] + 0.25 * a[i + 1] + 1e-9 * a[i] * a[i];
}

int main(int argc, char **argv)
{
    uint64_t sweeps = argument(argc, argv, 1, 1000), hash = 0;
    for (int i = 0; i < CELLS; i++)
        from[i] = to[i] = (double)(mix((uint64_t)i) >> 40) / (1 << 24);
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    for (uint64_t n = 0; n < sweeps; n++) {
        if (n % 2 == 0)
            sweep(from, to);
        else
            sweep(to, from);
    }
    say("elapsed", clock_ns(CLOCK_MONOTONIC) - start);
    for (int i = 0; i < CELLS; i++) {
        uint64_t bits;
        memcpy(&bits, &from[i], 8);
        hash = mix(hash ^ bits);
    }
    say("result", hash);
    return 0;
}
