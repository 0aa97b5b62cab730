/* Writes COUNT records of 60,000 bytes into the journal, then says so and waits for input. journaled COUNT */
#include "semper_test.h"
#include <fcntl.h>

static char record[60000];

int main(int argc, char **argv) {
    long count = atol(argc > 1 ? argv[1] : "1");
    int journal = open("/dev/semper/journal", O_RDWR);
    for (long number = 1; number <= count; number++) {
        memset(record, 'a' + number % 26, sizeof record);
        if (pwrite(journal, record, sizeof record, number) != sizeof record)
            return 2;
    }
    printf("written\n");
    fflush(stdout);
    getchar();
    return pread(journal, record, sizeof record, count) == sizeof record && record[7] == 'a' + count % 26 ? 0 : 3;
}
