/* A deep stack, unwound and rebuilt. recursion DEPTH ROUNDS */
#include "semper_test.h"

static uint64_t descend(int depth, uint64_t value) {
    volatile uint64_t frame[16];
    for (int i = 0; i < 16; i++)
        frame[i] = value * (i + 3) + depth;
    uint64_t below = depth ? descend(depth - 1, value ^ frame[depth & 15]) : value;
    for (int i = 0; i < 16; i++)
        mix(&below, frame[i]);
    return below;
}

int main(int argc, char **argv) {
    int depth = atoi(argc > 1 ? argv[1] : "20000"), rounds = atoi(argc > 2 ? argv[2] : "100");
    for (int round = 0; round < rounds; round++)
        printf("%d: %016llx\n", round, (unsigned long long)descend(depth, next_random()));
    return 0;
}
