/* Files that the program makes and reads back. files ROUNDS IMPORTED */
#define _GNU_SOURCE
#include "semper_test.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void list(const char *path) {
    DIR *directory = opendir(path);
    char names[64][32];
    int count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (entry->d_name[0] != '.' && count < 64)
            snprintf(names[count++], 32, "%.31s", entry->d_name);
    if (directory)
        closedir(directory);
    qsort(names, count, 32, (int (*)(const void *, const void *))strcmp);
    for (int i = 0; i < count; i++)
        printf(" %s", names[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    int rounds = atoi(argc > 1 ? argv[1] : "50");
    if (argc > 2) {
        FILE *file = fopen(argv[2], "r");
        char line[256];
        int lines = 0;
        while (file && fgets(line, sizeof line, file))
            lines++;
        printf("imported: %d lines\n", lines);
    }
    printf("mkdir %d\n", mkdir("work", 0755));
    printf("chdir %d\n", chdir("work"));
    int log = open("log", O_CREAT | O_RDWR | O_APPEND, 0644);
    for (int round = 0; round < rounds; round++) {
        char name[32], text[128], back[8192];
        snprintf(name, sizeof name, "file%d", round % 7);
        int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
        memset(back, 'a' + round % 26, sizeof back);
        struct iovec parts[2] = {{back, 5000}, {name, strlen(name)}};
        ssize_t wrote = writev(fd, parts, 2);
        pwrite(fd, "####", 4, 4094);
        lseek(fd, 4090, SEEK_SET);
        ssize_t got = read(fd, back, 12);
        back[got > 0 ? got : 0] = 0;
        struct stat status;
        fstat(fd, &status);
        int length = snprintf(text, sizeof text, "%d: wrote %zd, %s, size %ld\n", round, wrote, back, (long)status.st_size);
        write(log, text, length);
        fputs(text, stdout);
        fflush(stdout);
        close(fd);
        if (round % 5 == 4) {
            int renamed = rename(name, "moved");
            printf("rename %d, unlink again %d:", renamed, unlink(name));
            list(".");
        }
        uint64_t hash = 1;
        for (int i = 0; i < 100000; i++)
            mix(&hash, next_random());
        printf("%016llx\n", (unsigned long long)hash);
    }
    lseek(log, 0, SEEK_SET);
    char text[65536];
    ssize_t got, all = 0;
    uint64_t hash = 1;
    while ((got = read(log, text, sizeof text)) > 0)
        for (all += got; got--;)
            mix(&hash, (unsigned char)text[got]);
    printf("log: %zd bytes, %016llx\n", all, (unsigned long long)hash);
    printf("open of nothing: %s\n", open("nothing", O_RDONLY) < 0 ? strerror(errno) : "there");
    return 0;
}
