/* fuzz SEED CALLS: system calls with random numbers and arguments, half of them plausible. The worst that may happen to it is a
 * signal or an endless wait. Never run it without Semper. */
#define _GNU_SOURCE
#include "semper_test.h"
#include <sys/syscall.h>

static char room[8 * 4096] __attribute__((aligned(4096)));

static long argument(void) {
    static const long edges[] = {0, 1, -1, 4095, 4096, 0x7fffffff, 0x80000000, 0xffffffff, 1l << 40, 0x7fffffffffff, 0x800000000000,
                                 0x600000000000, 0x700000000000, (long)0x8000000000000000, 0x7fffffffffffffff, 0x10000};
    uint64_t random = next_random();
    switch (random % 8) {
    case 0: case 1: return edges[random / 8 % 16];
    case 2: return (long)next_random();
    case 3: return (long)(random / 8 % 24);
    case 4: return (long)(1ul << random / 8 % 64);
    case 5: return (long)(room + random / 8 % sizeof room);
    case 6: return (long)room + (long)(random / 8 % 8) * 4096;
    default: return (long)(random / 8 % 65536);
    }
}

int main(int argc, char **argv) {
    if (!getenv("CONFINED") || argc < 3) return 2;
    seed_ ^= strtoul(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < 16; i++) next_random();
    for (size_t at = 0; at < sizeof room; at += 8) {
        uint64_t random = next_random();
        memcpy(room + at, &random, random % 4 ? 1 : 8);
    }
    strcpy(room, "/tmp/a");
    strcpy(room + 4096, "/proc/self/maps");
    strcpy(room + 8192, "b");
    for (long calls = strtol(argv[2], NULL, 10); calls > 0; calls--) {
        long number = (long)(next_random() % 500), a[6];
        /* Those end it by design, or wait for what never comes. */
        if (number == SYS_exit || number == SYS_exit_group || number == SYS_pause || number == SYS_rt_sigsuspend) continue;
        /* uretprobe and uprobe: Linux lets them pass every filter, and ends whoever calls them without a probe. */
        if (number == 335 || number == 336) continue;
        for (int i = 0; i < 6; i++) a[i] = argument();
        syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    return 0;
}
