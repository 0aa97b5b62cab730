/* Tells its memory map as /proc has it, without what is random: where the heap, the stack and mappings lie. */
#include "semper_test.h"
#include <fcntl.h>
#include <sys/mman.h>

static char text[65536], zeros[300000];

int main(int argc, char **argv) {
    (void)argc;
    int file = open("mapped", O_RDWR | O_CREAT, 0644);
    memset(text, 'x', 40960);
    if (write(file, text, 40960) != 40960) return 1;
    char *whole = mmap(NULL, 40960, PROT_READ, MAP_PRIVATE, file, 0);
    char *part = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 12288);
    char *plain = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED || part == MAP_FAILED || plain == MAP_FAILED) return 2;
    munmap(whole + 8192, 4096);
    mprotect(plain + 4096, 4096, PROT_READ);
    part[5000] = zeros[299999] = plain[0] = 1;
    sbrk(0x5000);
    memset(text, 0, sizeof text);
    int maps = open("/proc/self/maps", O_RDONLY);
    for (ssize_t have = 0, got; (got = read(maps, text + have, sizeof text - 1 - have)) > 0;) have += got;
    const char *own = strrchr(argv[0], '/') + 1;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long from, to, offset, inode;
        char mode[5], device[16], name[256] = "";
        if (sscanf(line, "%lx-%lx %4s %lx %15s %lu %255s", &from, &to, mode, &offset, device, &inode, name) < 6) return 3;
        const char *last = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        if (!strncmp(name, "[v", 2)) continue;
        printf("%s %lx %s %s", mode, offset, inode ? "file" : "none", last);
        if (!strcmp(last, own)) printf(" %lx", from);
        if (strcmp(name, "[stack]")) printf(" %lx bytes", to - from);
        printf(" named from %s\n", *name ? (strchr(line, *name == '[' ? '[' : '/') - line == 73 ? "73" : "elsewhere") : "nowhere");
    }
    return 0;
}
