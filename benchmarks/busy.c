/* A machine at work for the benchmark: PROCESSES processes, each of which computes and touches
 * memory for a moment, about twice a second.
 *
 *   busy PROCESSES */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 16

int main(int argc, char **argv) {
    for (int others = argc > 1 ? atoi(argv[1]) - 1 : 0; others > 0 && fork(); others--) continue;
    srand((unsigned)getpid());
    for (;;) {
        struct timespec pause = {0, 300000000L + rand() % 400 * 1000000L};
        size_t length = (size_t)(1 + rand() % PAGES) * 4096;
        char *memory =
            mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t i = 0; memory != MAP_FAILED && i < length; i += 4096) memory[i] = 1;
        nanosleep(&pause, NULL);
        munmap(memory, length);
    }
}
