/* Reads standard input line by line and answers each with its number and a running checksum; a little work between. */
#include "semper_test.h"

int main(int argc, char **argv) {
    int work = atoi(argc > 1 ? argv[1] : "20000");
    char line[4096];
    uint64_t hash = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int number = 1; fgets(line, sizeof line, stdin); number++) {
        line[strcspn(line, "\n")] = 0;
        for (const char *c = line; *c; c++)
            mix(&hash, (unsigned char)*c);
        for (int i = 0; i < work; i++)
            mix(&hash, next_random());
        printf("%d %s %016llx\n", number, line, (unsigned long long)hash);
    }
    printf("end of input\n");
    return 3;
}
