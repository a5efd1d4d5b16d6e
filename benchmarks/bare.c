/* A launch as a C program would hard-code it: the kernel calls of one plan with their arguments
 * as literals, and no plan, no checks and no Python. bare.py writes the calls into calls.h.
 *
 * The program is driven over its standard streams. The first line is the prefix of the machines'
 * ids; then each line "NAME COUNT THREADS" is answered by one line of JSON: the nanoseconds of
 * each of COUNT launches, or, with several THREADS, those of all of them together. Built with
 * -DPROFILE it answers with the time of each mark in calls.h instead, launch after launch. */
#include "sys.h"
#include "vocabulary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>

#define STACK       65536
#define CHUNK       65536
#define SPINS       3000
#define LAST_SIGNAL 64
#define MAX_MARKS   1024
#define MAX_THREADS 64

struct run {
    int s[VS_SLOTS];
    int32_t running, adopted;
    int pid, pidfd, executing;
    int failed_line, failed_error;
    int maker, maker_slot;
    char id[128], text[256], file[4096];
    char *stack, *maker_stack;
    int64_t marks[MAX_MARKS];
};

static int kept[VS_SLOTS], host_pidfd;
static char prefix[96];
static atomic_ulong count_of_ids = 1;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static __attribute__((noreturn)) void end(int line, long error, const char *where) {
    fprintf(stderr, "bare: %s, line %d: %s\n", where, line, strerror((int)error));
    _exit(1);
}

/* HOST: a call of the launching process. IN: a call of the child, which shares our memory and
 * may not use the C library. Either ends the program where it fails: a figure would be wrong. */
static inline long host_call(long ret, int line) {
    if (ret < 0 && ret > -4096) end(line, -ret, "host");
    return ret;
}
static inline long in_call(struct run *r, long ret, int line) {
    if (ret < 0 && ret > -4096) {
        r->failed_line = line;
        r->failed_error = (int)-ret;
        for (;;) SYS(SYS_exit, 127);
    }
    return ret;
}
#define HOST(...) host_call(SYS(__VA_ARGS__), __LINE__)
#define IN(...)   in_call(r, SYS(__VA_ARGS__), __LINE__)
#ifdef PROFILE
#define MARK(number) r->marks[number] = now_ns()
#else
#define MARK(number)
#endif

/* "/proc/self/fd/N" with `tail` behind it. */
static const char *fd_path(struct run *r, int fd, const char *tail) {
    vs_copy(r->text, "/proc/self/fd/", 14);
    size_t n = 14 + vs_decimal(r->text + 14, (uint64_t)fd);
    vs_copy(r->text + n, tail, vs_len(tail) + 1);
    return r->text;
}

static void write_proc(struct run *r, const char *file, const char *data, size_t size) {
    char path[64] = "/proc/";
    size_t n = 6 + vs_decimal(path + 6, (uint64_t)r->pid);
    vs_copy(path + n, file, vs_len(file) + 1);
    int fd = (int)HOST(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    HOST(SYS_write, fd, data, size);
    HOST(SYS_close, fd);
}

static uint64_t mount_id(int dir, const char *path, int flags) {
    struct statx is;
    if (SYS(SYS_statx, dir, path, flags, STATX_MNT_ID, &is) < 0) return 0;
    return is.stx_mnt_id;
}

static void await_adoption(struct run *r) {
    for (int spin = 0; spin < SPINS; spin++)
        if (__atomic_load_n(&r->adopted, __ATOMIC_ACQUIRE)) return;
    while (!__atomic_load_n(&r->adopted, __ATOMIC_ACQUIRE))
        SYS(SYS_futex, &r->adopted, FUTEX_WAIT, 0, 0);
}

/* Once, before any launch: what a plan's `load` section keeps. */
static int keep_userns(const char *uid_map, const char *gid_map) {
    struct run child = {0};
    char path[64];
    child.pid = (int)HOST(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0);
    if (!child.pid)
        for (;;) pause();
    write_proc(&child, "/uid_map", uid_map, strlen(uid_map));
    write_proc(&child, "/gid_map", gid_map, strlen(gid_map));
    snprintf(path, sizeof path, "/proc/%d/ns/user", child.pid);
    int fd = (int)HOST(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    kill(child.pid, SIGKILL);
    waitpid(child.pid, NULL, 0);
    return fd;
}

static int keep_devices(unsigned uid, unsigned gid) {
    static const struct {
        const char *name;
        unsigned device;
    } nodes[] = {{"null", 0x103},   {"zero", 0x105},    {"full", 0x107},
                 {"random", 0x108}, {"urandom", 0x109}, {"tty", 0x500}};
    static const char *const folders[] = {"pts", "shm", "mqueue"};
    int context = (int)HOST(SYS_fsopen, "tmpfs", (unsigned)FSOPEN_CLOEXEC);
    HOST(SYS_fsconfig, context, FSCONFIG_SET_STRING, "mode", "0755", 0);
    HOST(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    int dir = (int)HOST(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    close(context);
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        HOST(SYS_mknodat, dir, nodes[i].name, S_IFCHR | 0666, nodes[i].device);
        HOST(SYS_fchmodat, dir, nodes[i].name, 0666);
        HOST(SYS_fchownat, dir, nodes[i].name, uid, gid, AT_SYMLINK_NOFOLLOW);
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        HOST(SYS_mkdirat, dir, folders[i], 0755);
    HOST(SYS_mknodat, dir, "console", S_IFREG | 0600, 0);
    return dir;
}

/* clone3 whose child runs entry(r) on the stack given in `args`. */
static long clone_onto(struct clone_args *args, void (*entry)(struct run *), struct run *r) {
    long ret;
#if defined(__x86_64__)
    register void (*r8)(struct run *) __asm__("r8") = entry;
    register struct run *r9 __asm__("r9") = r;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\t"
                     "mov %%r9, %%rdi\n\tcall *%%r8\n\thlt\n1:"
                     : "=a"(ret)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register void (*x2)(struct run *) __asm__("x2") = entry;
    register struct run *x3 __asm__("x3") = r;
    __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, #0\n\tmov x0, x3\n\tblr x2\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
                     : "memory", "cc");
    ret = x0;
#else
#error "the bare program is written for x86_64 and aarch64"
#endif
    return ret;
}

/* The network namespace is made by a process of its own while the child mounts. */
static void make_network(struct run *r) {
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    IN(SYS_unshare, CLONE_NEWNET);
    int fd = (int)IN(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    IN(SYS_ioctl, fd, SIOCSIFFLAGS, &up);
    r->s[r->maker_slot] = (int)IN(SYS_ioctl, fd, SIOCGSKNS);
    SYS(SYS_close, fd);
    for (;;) SYS(SYS_exit, 0);
}

static void start_maker(struct run *r, int slot) {
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FILES | CLONE_UNTRACED,
        .stack = (uint64_t)(uintptr_t)r->maker_stack,
        .stack_size = STACK,
    };
    r->maker_slot = slot;
    r->maker = (int)in_call(r, clone_onto(&args, make_network, r), __LINE__);
}

#include "calls.h"

static void child(struct run *r) {
    uint64_t none = 0;
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};
    for (int fd = 0; fd < 3; fd++) IN(SYS_fcntl, fd, F_GETFD);
    for (int number = 1; number <= LAST_SIGNAL; number++)
        if (number != SIGKILL && number != SIGSTOP) IN(SYS_rt_sigaction, number, &action, 0, 8);
    IN(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8);
    MARK(ENTERED);
    enter(r);
    for (;;) SYS(SYS_exit, 127);
}

static void spawn(struct run *r) {
    struct clone_args args = {
        .flags = CLONE_FLAGS | CLONE_VM | CLONE_PIDFD | CLONE_UNTRACED | CLONE_CHILD_CLEARTID,
        .pidfd = (uint64_t)(uintptr_t)&r->pidfd,
        .child_tid = (uint64_t)(uintptr_t)&r->running,
        .stack = (uint64_t)(uintptr_t)r->stack,
        .stack_size = STACK,
        .cgroup = (uint64_t)CLONE_CGROUP,
    };
    uint64_t all = ~0ull, mask;
    long dumpable = HOST(SYS_prctl, PR_GET_DUMPABLE);
    HOST(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, 8);
    r->pid = (int)host_call(clone_onto(&args, child, r), __LINE__);
    HOST(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
    MARK(CLONED);
    adopt(r);
    __atomic_store_n(&r->adopted, 1, __ATOMIC_RELEASE);
    HOST(SYS_futex, &r->adopted, FUTEX_WAKE, 1);
    MARK(ADOPTED);
    int32_t running;
    while ((running = __atomic_load_n(&r->running, __ATOMIC_ACQUIRE)) != 0)
        SYS(SYS_futex, &r->running, FUTEX_WAIT, running, 0);
    MARK(EXECUTED);
    if (!r->executing || r->failed_line) end(r->failed_line, r->failed_error, "child");
    HOST(SYS_prctl, PR_SET_DUMPABLE, dumpable);
}

static void follow(struct run *r, int out, int err) {
    struct pollfd p[3] = {{r->pidfd, POLLIN, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
    char *data[3] = {NULL, NULL, NULL};
    while (p[0].fd >= 0 || p[1].fd >= 0 || p[2].fd >= 0) {
        HOST(SYS_poll, p, 3, -1);
        for (int i = 1; i < 3; i++) {
            if (!p[i].revents) continue;
            if (!data[i]) data[i] = malloc(CHUNK);
            if (HOST(SYS_read, p[i].fd, data[i], CHUNK) > 0) continue;
            HOST(SYS_close, p[i].fd);
            p[i].fd = -1;
        }
        if (p[0].revents) {
            MARK(ENDED);
            p[0].fd = -1;
            SYS(SYS_pidfd_send_signal, r->pidfd, SIGKILL, 0, 0);
        }
    }
    for (int i = 1; i < 3; i++) free(data[i]);
    siginfo_t info = {0};
    struct rusage used;
    HOST(SYS_waitid, P_PIDFD, r->pidfd, &info, WEXITED | __WALL, &used);
    getrusage(RUSAGE_SELF, &used);
    if (info.si_code != CLD_EXITED || info.si_status != 0) end(0, ECHILD, "command");
}

static void take_id(struct run *r) {
    snprintf(r->id, sizeof r->id, "%s-%lx", prefix, atomic_fetch_add(&count_of_ids, 1));
}

static int64_t launch(struct run *r) {
    int out[2], err[2];
    int64_t start = now_ns();
    MARK(STARTED);
    take_id(r);
    memcpy(r->s, kept, sizeof kept);
    r->running = 1;
    r->adopted = r->executing = 0;
    r->s[0] = (int)HOST(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC);
    HOST(SYS_pipe2, out, O_CLOEXEC);
    HOST(SYS_fcntl, out[0], F_SETFL, O_NONBLOCK);
    HOST(SYS_fchown, out[0], STREAM_UID, STREAM_GID);
    HOST(SYS_pipe2, err, O_CLOEXEC);
    HOST(SYS_fcntl, err[0], F_SETFL, O_NONBLOCK);
    HOST(SYS_fchown, err[0], STREAM_UID, STREAM_GID);
    r->s[1] = out[1];
    r->s[2] = err[1];
    MARK(PIPED);
    prepare(r);
    spawn(r);
    for (int i = 0; i < 3; i++) HOST(SYS_close, r->s[i]);
    follow(r, out[0], err[0]);
    MARK(REAPED);
    usage(r);
    SYS(SYS_pidfd_send_signal, r->pidfd, SIGKILL, 0, 0);
    MARK(READ);
    give_back(r);
    HOST(SYS_close, r->pidfd);
    MARK(RELEASED);
    return now_ns() - start;
}

static struct run *new_run(void) {
    struct run *r = calloc(1, sizeof *r);
    r->stack = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    r->maker_stack = r->stack + STACK;
    return r;
}

static long per_thread;

static void *many(void *argument) {
    for (long i = 0; i < per_thread; i++) launch(argument);
    return NULL;
}

static int64_t together(struct run **runs, long count, int threads) {
    pthread_t ids[MAX_THREADS];
    per_thread = count / threads;
    int64_t start = now_ns();
    for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, many, runs[i]);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    return now_ns() - start;
}

#ifdef PROFILE
static void answer(struct run **runs, long count, int threads) {
    for (long i = 0; i < count; i++) {
        launch(runs[0]);
        for (int mark = 0; mark < MARKS; mark++)
            printf("%s%" PRId64, i || mark ? "," : "[", runs[0]->marks[mark]);
    }
    (void)threads;
}
#else
static void answer(struct run **runs, long count, int threads) {
    if (threads > 1) printf("[%" PRId64, together(runs, count, threads));
    for (long i = 0; threads == 1 && i < count; i++)
        printf("%s%" PRId64, i ? "," : "[", launch(runs[0]));
}
#endif

int main(void) {
    struct run *runs[MAX_THREADS];
    long count;
    int threads;
    if (scanf("%95s", prefix) != 1) return 2;
    host_pidfd = (int)HOST(SYS_pidfd_open, getpid(), 0);
    memset(kept, -1, sizeof kept);
    load();
    for (int i = 0; i < MAX_THREADS; i++) runs[i] = new_run();
    while (scanf("%*s %ld %d", &count, &threads) == 2) {
        if (count < 1 || threads < 1 || threads > MAX_THREADS) return 2;
        answer(runs, count, threads);
        printf("]\n");
        fflush(stdout);
    }
    return 0;
}
