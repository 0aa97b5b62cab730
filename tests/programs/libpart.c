/* A library that a program is linked with: a constructor, thread-local storage, a table that is relocated. */
#include <math.h>

_Thread_local long part_calls = 7;
static long begun;

static long add(long a) { return a + begun; }
static long turn(long a) { return a * 31 ^ begun; }
static long (*const table[])(long) = { add, turn };

__attribute__((constructor)) static void begin(void) { begun = 12345; }

long part(long a) {
    part_calls++;
    return table[a & 1](a) + (long)(100 * sin((double)a));
}
