/* writer LINES BLOCK: write so many lines of 100 bytes to standard output, BLOCK bytes at a time,
 * and then, as a last line, how many nanoseconds that took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE 100

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void write_all(const char *data, size_t size) {
    while (size) {
        ssize_t n = write(1, data, size);
        if (n < 0) exit(1);
        data += n, size -= (size_t)n;
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    size_t block = (size_t)atol(argv[2]), used = 0;
    char *data = malloc(block + LINE + 1), last[64];
    long lines = atol(argv[1]);
    long long begin = now();
    for (long i = 0; i < lines; i++) {
        used += (size_t)snprintf(data + used, LINE + 1, "%010ld %.*s\n", i, LINE - 12,
                                 "the quick brown fox jumps over the lazy dog, and then again over "
                                 "the fence of the next garden");
        if (used < block) continue;
        write_all(data, used);
        used = 0;
    }
    write_all(data, used);
    int n = snprintf(last, sizeof last, "elapsed %lld\n", now() - begin);
    write_all(last, (size_t)n);
    return 0;
}
