/* viscum-oci-init DATA GATE ATTRIBUTES COMMAND...: the first process of a container, until it is
 * the command.
 *
 * It is what runs in the container between `create` and `start`: a sealed copy of a small program,
 * so that there is nothing of the host's behind /proc/PID/exe (CVE-2019-5736). GATE is a fifo that
 * `start` writes one byte into. DATA is what is left to do, as records with a head of eight bytes
 * (kind, size): 'S' a seccomp filter with its flags before it, 'L' a label of SELinux for the
 * command, 'H' a startContainer hook: timeout in seconds, then path, arguments, environment and the
 * two halves of the state, as counted strings. ATTRIBUTES is our folder of them in a proc(5) that
 * the container cannot change. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 512

struct reader {
    const char *at, *end;
};

static void fail(const char *what, const char *name, int error) {
    dprintf(2, "viscum-oci: %s %s: %s\n", what, name, strerror(error));
    _exit(error == ENOENT ? 127 : 126);
}

static uint32_t take_number(struct reader *r) {
    uint32_t number = 0;
    if (r->end - r->at < 4) fail("container", "data", EBADMSG);
    memcpy(&number, r->at, 4);
    r->at += 4;
    return number;
}

static const char *take(struct reader *r, uint32_t size) {
    const char *at = r->at;
    if (size > (size_t)(r->end - r->at)) fail("container", "data", EBADMSG);
    r->at += size;
    return at;
}

static void take_words(struct reader *r, const char **words) {
    uint32_t count = take_number(r);
    if (count >= MAX_WORDS) fail("container", "data", E2BIG);
    for (uint32_t i = 0; i < count; i++) words[i] = take(r, take_number(r));
    words[count] = NULL;
}

static int state_file(struct reader *r) {
    char pid[16];
    int fd = memfd_create("viscum-state", MFD_CLOEXEC);
    uint32_t size = take_number(r);
    const char *before = take(r, size);
    if (fd < 0 || write(fd, before, size) != (ssize_t)size) fail("hook", "state", errno);
    int n = snprintf(pid, sizeof pid, "%d", getpid());
    size = take_number(r);
    const char *after = take(r, size);
    if (write(fd, pid, (size_t)n) != n || write(fd, after, size) != (ssize_t)size)
        fail("hook", "state", errno);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void fail_hook(const char *path, int status) {
    if (WIFEXITED(status))
        dprintf(2, "viscum-oci: hook %s: exit status %d\n", path, WEXITSTATUS(status));
    else
        dprintf(2, "viscum-oci: hook %s: signal %d\n", path, WTERMSIG(status));
    _exit(126);
}

/* Wait for a hook; one whose time is over is killed, as all else in the container by our end. */
static void end_hook(pid_t pid, const char *path, int seconds) {
    struct timespec step = {0, 5000000};
    int status;
    for (long waited = 0;; waited += 5) {
        pid_t ended = waitpid(pid, &status, seconds ? WNOHANG : 0);
        if (ended == pid) break;
        if (ended < 0 && errno != EINTR) fail("hook", path, errno);
        if (waited / 1000 >= seconds) {
            kill(pid, SIGKILL);
            fail("hook", path, ETIMEDOUT);
        }
        nanosleep(&step, NULL);
    }
    if (status) fail_hook(path, status);
}

static void run_hook(struct reader r) {
    static const char *argv[MAX_WORDS], *envp[MAX_WORDS];
    int seconds = (int)take_number(&r);
    const char *path = take(&r, take_number(&r));
    take_words(&r, argv);
    take_words(&r, envp);
    int input = state_file(&r);
    volatile int error = 0; /* shared with the child, which runs in our memory until it executes */
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(input, 0);
        execve(path, (char *const *)argv, (char *const *)envp);
        error = errno;
        _exit(127);
    }
    close(input);
    if (pid < 0 || error) fail("hook", path, error ? error : errno);
    end_hook(pid, path, seconds);
}

static void load_filter(struct reader r) {
    uint32_t flags = take_number(&r);
    size_t size = (size_t)(r.end - r.at);
    struct {
        unsigned short len;
        const void *filter;
    } program = {(unsigned short)(size / 8), r.at};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0)
        fail("seccomp", "filter", errno);
}

static void take_label(int attributes, struct reader r) {
    int fd = openat(attributes, "exec", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, r.at, (size_t)(r.end - r.at)) < 0) fail("selinux", "label", errno);
    close(fd);
}

static void do_records(const char *data, size_t size, uint32_t kind, int attributes) {
    struct reader all = {data, data + size};
    while (all.at < all.end) {
        uint32_t found = take_number(&all), length = take_number(&all);
        struct reader record = {take(&all, length), all.at};
        if (found != kind) continue;
        if (kind == 'H') run_hook(record);
        if (kind == 'L') take_label(attributes, record);
        if (kind == 'S') load_filter(record);
    }
}

static const char *read_data(int fd, size_t *size) {
    struct stat is;
    if (fstat(fd, &is) < 0) fail("container", "data", errno);
    *size = (size_t)is.st_size;
    const char *data = is.st_size ? mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0) : "";
    if (data == MAP_FAILED) fail("container", "data", errno);
    close(fd);
    return data;
}

/* It stays open until the command runs in our place: by that `start` can tell. */
static void wait_at(int gate) {
    char byte;
    ssize_t n;
    fcntl(gate, F_SETFD, FD_CLOEXEC);
    do n = read(gate, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1) _exit(125);
}

/* As execvp(3), whose allocations a filter may forbid. */
static void run(char **argv) {
    static char path[4096];
    const char *folders = getenv("PATH");
    int worst = ENOENT;
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, environ);
        fail("exec", argv[0], errno);
    }
    while (folders && *folders) {
        size_t n = strcspn(folders, ":");
        if (snprintf(path, sizeof path, "%.*s/%s", (int)n, folders, argv[0]) < (int)sizeof path) {
            execve(n ? path : path + 1, argv, environ);
            if (errno != ENOENT && errno != ENOTDIR) worst = errno;
        }
        folders += folders[n] ? n + 1 : n;
    }
    fail("exec", argv[0], worst);
}

/* HOME as the container's passwd(5) has it, where nobody gave one. */
static void find_home(void) {
    static char data[1 << 16];
    int fd = getenv("HOME") ? -1 : open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data - 1);
    if (fd >= 0) close(fd);
    if (n < 0 && getenv("HOME")) return;
    for (char *line = data, *next; n > 0 && line && *line; line = next) {
        char *fields[6] = {line};
        if ((next = strchr(line, '\n'))) *next++ = 0;
        int count = 1;
        for (char *at = line; count < 6 && (at = strchr(at, ':')); fields[count++] = at) *at++ = 0;
        if (count < 6 || strtoul(fields[2], NULL, 10) != getuid() || !*fields[2]) continue;
        char *end = strchr(fields[5], ':');
        if (end) *end = 0;
        setenv("HOME", fields[5], 1);
        return;
    }
    setenv("HOME", "/", 1);
}

int main(int argc, char **argv) {
    size_t size;
    if (argc < 5) return 125;
    prctl(PR_SET_DUMPABLE, 0); /* what else runs in the container may not look into us */
    const char *data = read_data(atoi(argv[1]), &size);
    int attributes = argv[3][0] != '-' ? atoi(argv[3]) : -1;
    fcntl(attributes, F_SETFD, FD_CLOEXEC);
    if (argv[2][0] != '-') wait_at(atoi(argv[2]));
    find_home();
    do_records(data, size, 'H', attributes);
    do_records(data, size, 'L', attributes);
    do_records(data, size, 'S', attributes);
    run(argv + 4);
}
