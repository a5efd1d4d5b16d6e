/* Work of a program that runs for a while, in pieces that take a few milliseconds of CPU time.
 * It is CPU time that is measured: none of the pieces waits, and what else runs does not count.
 *
 *   steady CPU OVERLAY TMPFS [filter]    pinned to CPU; files are made in the two folders
 *
 * With `filter` it works under a seccomp filter of one instruction that allows everything.
 *
 * Each line "JOB COUNT THREADS" is answered by one line of JSON: the nanoseconds of each of COUNT
 * pieces. What a piece is, and how many system calls it makes, stands in overhead.py too. */
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK  4096
#define BLOCKS 64

static char block[BLOCK];
static const char *folders[2];

static void need(int holds, const char *what) {
    if (holds) return;
    perror(what);
    exit(1);
}

static int64_t used_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void integer(int folder) {
    static volatile uint64_t kept;
    uint64_t value = kept + 1;
    for (int i = 0; i < 3000000; i++) value = value * 6364136223846793005u + 1442695040888963407u;
    kept = value;
    (void)folder;
}

static void calls(int folder) {
    for (int i = 0; i < 10000; i++) syscall(SYS_getppid);
    (void)folder;
}

static void pipes(int folder) {
    static int ends[2] = {-1, -1};
    if (ends[0] < 0) need(pipe(ends) == 0, "pipe");
    for (int i = 0; i < 2000; i++) {
        need(write(ends[1], block, BLOCK) == BLOCK, "write");
        need(read(ends[0], block, BLOCK) == BLOCK, "read");
    }
    (void)folder;
}

static void blocks(int folder) {
    static int files[2] = {-1, -1};
    if (files[folder] < 0) {
        need(chdir(folders[folder]) == 0, folders[folder]);
        files[folder] = open("steady.data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        need(files[folder] >= 0, "steady.data");
    }
    for (int i = 0; i < 1000; i++) {
        off_t at = (off_t)(i % BLOCKS) * BLOCK;
        need(pwrite(files[folder], block, BLOCK, at) == BLOCK, "pwrite");
        need(pread(files[folder], block, BLOCK, at) == BLOCK, "pread");
    }
}

static void files(int folder) {
    need(chdir(folders[folder]) == 0, folders[folder]);
    for (int i = 0; i < 100; i++) {
        int fd = open("steady.new", O_WRONLY | O_CREAT | O_EXCL, 0600);
        need(fd >= 0 && write(fd, block, BLOCK) == BLOCK, "steady.new");
        close(fd);
        unlink("steady.new");
    }
}

static const struct {
    const char *name;
    void (*piece)(int folder);
    int folder;
} jobs[] = {
    {"integer", integer, 0},       {"calls", calls, 0},         {"pipe", pipes, 0},
    {"blocks-overlay", blocks, 0}, {"blocks-tmpfs", blocks, 1}, {"files-overlay", files, 0},
    {"files-tmpfs", files, 1},
};

static void answer(const char *name, long count) {
    for (size_t job = 0; job < sizeof jobs / sizeof jobs[0]; job++) {
        if (strcmp(name, jobs[job].name) != 0) continue;
        for (long i = 0; i < count; i++) {
            int64_t start = used_ns();
            jobs[job].piece(jobs[job].folder);
            printf("%s%" PRId64, i ? "," : "[", used_ns() - start);
        }
        printf("]\n");
        fflush(stdout);
        return;
    }
    exit(2);
}

/* linux/filter.h and linux/seccomp.h, which musl does without. */
static void load_filter(void) {
    struct {
        uint16_t code;
        uint8_t if_true, if_false;
        uint32_t value;
    } allow = {0x06, 0, 0, 0x7fff0000}; /* BPF_RET | BPF_K, SECCOMP_RET_ALLOW */
    struct {
        unsigned short length;
        void *filter;
    } program = {1, &allow};
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    need(prctl(PR_SET_SECCOMP, 2, &program) == 0, "seccomp"); /* SECCOMP_MODE_FILTER */
}

int main(int argc, char **argv) {
    cpu_set_t cpus;
    char name[64];
    long count;
    if (argc < 4) return 2;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[1]), &cpus);
    need(sched_setaffinity(0, sizeof cpus, &cpus) == 0, "sched_setaffinity");
    folders[0] = argv[2];
    folders[1] = argv[3];
    if (argc > 4) load_filter();
    while (scanf("%63s %ld %*d", name, &count) == 2) answer(name, count);
    return 0;
}
