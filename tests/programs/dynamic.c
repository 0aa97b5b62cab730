/* A dynamically linked program: a library beside it, thread-local storage of both, a library that it loads by name, pages of libraries
   that it gives other protections. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern long part(long);
extern _Thread_local long part_calls;
static _Thread_local char mine[64] = "mine";

int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return printf("%s\n", dlerror()), 1;
    long (*plug)(long) = (long (*)(long))dlsym(library, "plug");
    long rounds = atol(argv[2]), sum = 0;
    void *map = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < rounds; i++) {
        sum = (plug(sum + i) * 31 + part(i)) % 1000000007;
        if (i % (rounds / 40) == 0) {
            mprotect(map, 8192, PROT_READ | PROT_WRITE);
            snprintf(map, 8192, "%ld of %s, %ld calls", sum, mine, part_calls);
            mprotect(map, 8192, PROT_READ);
            puts(map);
            fflush(stdout);
            snprintf(mine, sizeof mine, "mine %ld", i);
        }
    }
    dlclose(library);
    return (int)(sum % 100);
}
