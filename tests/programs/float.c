/* x87, SSE and rounding-mode state that lives across checkpoints. float ROUNDS */
#include "semper_test.h"
#include <fenv.h>
#include <math.h>

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "100");
    long double x = 1.0L / 3.0L;
    double y = 0.1;
    const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int round = 0; round < rounds; round++) {
        fesetround(modes[round & 3]);
        for (int i = 0; i < 60000; i++) {
            x = 3.9L * x * (1.0L - x);
            y = sqrt(y * 1.7 + (double)x) - y / 3.0;
        }
        uint64_t bits[2] = {0, 0}, ybits;
        memcpy(bits, &x, 10);
        memcpy(&ybits, &y, 8);
        printf("%d: mode %d %04llx%016llx %016llx\n", round, fegetround(), (unsigned long long)bits[1],
               (unsigned long long)bits[0], (unsigned long long)ybits);
    }
    return 0;
}
