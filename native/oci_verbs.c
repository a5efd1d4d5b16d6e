/* state, start, kill, delete. Each returns an exit code, or -1 where its words are for Python. */
#include "oci.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_WAIT_MS   10000
#define KILL_WAIT_MS    10000
#define REMOVE_ATTEMPTS 2000
#define MAX_NESTED      64

/* A flag, by its name or the first letter of it, with one dash or two, as it is or "=true". */
static int is_flag(const char *word, const char *name) {
    size_t dashes = strspn(word, "-"), size = strcspn(word + dashes, "=");
    const char *given = word + dashes, *value = given + size;
    if (dashes < 1 || dashes > 2 || (*value && strcmp(value, "=true"))) return 0;
    return (size == 1 || size == strlen(name)) && !strncmp(given, name, size);
}

static int no_such(const struct oci_call *call, const char *id) {
    if (errno == EINVAL) return 1; /* told already */
    if (errno != ENOENT) return oci_fail(call, "container %s: %s", id, strerror(errno));
    return oci_fail(call, "container %s does not exist: container does not exist", id);
}

int oci_state(const struct oci_call *call, int argc, char **argv) {
    struct oci_record r;
    if (argc != 2 || argv[1][0] == '-') return -1;
    if (oci_record_open(call, argv[1], 0, &r) < 0) return no_such(call, argv[1]);
    if (!r.data) { /* whoever creates it has come no further than its folder */
        errno = ENOENT;
        return no_such(call, argv[1]);
    }
    enum oci_status status = oci_status(&r);
    printf("{\n  \"ociVersion\": %s,\n  \"id\": \"%s\",\n  \"pid\": %d,\n  \"status\": \"%s\",\n"
           "  \"bundle\": %s,\n  \"rootfs\": %s,\n  \"created\": %s,\n",
           r.version, argv[1], status == OCI_STOPPED ? 0 : r.pid, oci_status_name(status), r.bundle,
           r.rootfs, r.created);
    size_t size = strlen(r.annotations);
    while (size && r.annotations[size - 1] == '\n') size--;
    if (size > 2) printf("  \"annotations\": %.*s,\n", (int)size, r.annotations);
    printf("  \"owner\": %s\n}\n", r.owner);
    return fflush(stdout) ? 1 : 0;
}

/* Let the first process go on; the container is locked. Once nobody has the fifo open any more, the
 * command runs, or has failed to: it is running then, not earlier (runtime.md, "State"). */
int oci_let_go(const struct oci_call *call, struct oci_record *r) {
    struct pollfd gate = {.fd = oci_open_gate(r)};
    if (gate.fd < 0 || write(gate.fd, "1", 1) != 1)
        return oci_fail(call, "cannot start container %s: its process is gone", r->id);
    poll(&gate, 1, START_WAIT_MS);
    close(gate.fd);
    unlinkat(r->folder, "exec.fifo", 0);
    if (!r->has_poststart) return 0;
    const char *words[] = {"--hooks", "poststart", r->path, NULL};
    return oci_python(call, words, 1);
}

int oci_start(const struct oci_call *call, int argc, char **argv) {
    struct oci_record r;
    if (argc != 2 || argv[1][0] == '-') return -1;
    if (oci_record_open(call, argv[1], 1, &r) < 0) return no_such(call, argv[1]);
    enum oci_status status = oci_status(&r);
    if (status == OCI_CREATED) return oci_let_go(call, &r);
    if (status == OCI_STOPPED) return oci_fail(call, "cannot start a container that has stopped");
    if (status == OCI_CREATING)
        return oci_fail(call, "cannot start a container that is still being created");
    if (status == OCI_PAUSED) return oci_fail(call, "cannot start a container in the paused state");
    return oci_fail(call, "cannot start an already running container");
}

static const char *const signal_names[] = {
    [SIGHUP] = "HUP",   [SIGINT] = "INT",       [SIGQUIT] = "QUIT", [SIGILL] = "ILL",
    [SIGTRAP] = "TRAP", [SIGABRT] = "ABRT",     [SIGBUS] = "BUS",   [SIGFPE] = "FPE",
    [SIGKILL] = "KILL", [SIGUSR1] = "USR1",     [SIGSEGV] = "SEGV", [SIGUSR2] = "USR2",
    [SIGPIPE] = "PIPE", [SIGALRM] = "ALRM",     [SIGTERM] = "TERM", [SIGSTKFLT] = "STKFLT",
    [SIGCHLD] = "CHLD", [SIGCONT] = "CONT",     [SIGSTOP] = "STOP", [SIGTSTP] = "TSTP",
    [SIGTTIN] = "TTIN", [SIGTTOU] = "TTOU",     [SIGURG] = "URG",   [SIGXCPU] = "XCPU",
    [SIGXFSZ] = "XFSZ", [SIGVTALRM] = "VTALRM", [SIGPROF] = "PROF", [SIGWINCH] = "WINCH",
    [SIGIO] = "IO",     [SIGPWR] = "PWR",       [SIGSYS] = "SYS",
};

/* RTMIN+3, RTMAX-1; the C library keeps the first two for itself. */
static int realtime_signal(const char *text) {
    int up = !strncasecmp(text, "RTMIN", 5);
    if (!up && strncasecmp(text, "RTMAX", 5)) return -1;
    const char *step = text + 5;
    if (!*step) return up ? 34 : 64;
    char *end;
    long count = strtol(step + 1, &end, 10);
    if (*step != (up ? '+' : '-') || step[1] < '0' || step[1] > '9' || *end || count > 30)
        return -1;
    return up ? 34 + (int)count : 64 - (int)count;
}

static int signal_number(const char *text) {
    char *end;
    long number = strtol(text, &end, 10);
    if (*text && !*end) return number >= 0 && number <= 64 ? (int)number : -1;
    if (!strncasecmp(text, "SIG", 3)) text += 3;
    for (size_t i = 1; i < sizeof signal_names / sizeof signal_names[0]; i++)
        if (signal_names[i] && !strcasecmp(text, signal_names[i])) return (int)i;
    if (!strcasecmp(text, "IOT")) return SIGABRT;
    if (!strcasecmp(text, "CLD")) return SIGCHLD;
    if (!strcasecmp(text, "POLL")) return SIGIO;
    return realtime_signal(text);
}

/* Send to the first process, which cannot be mistaken: its start time was compared after opening.
 */
static int send_signal(const struct oci_record *r, int number) {
    int pidfd = r->pid ? (int)SYS(SYS_pidfd_open, r->pid, 0) : -1;
    int ret = -ESRCH;
    if (pidfd >= 0 && oci_start_time(r->pid) == r->started)
        ret = (int)SYS(SYS_pidfd_send_signal, pidfd, number, 0, 0);
    if (pidfd >= 0) close(pidfd);
    return ret;
}

/* Send to every process of a group and of those below it. */
static void signal_group(const char *path, int number, int depth) {
    char name[OCI_PATH];
    unsigned pid;
    snprintf(name, sizeof name, "%s/cgroup.procs", path);
    FILE *processes = fopen(name, "re");
    while (processes && fscanf(processes, "%u", &pid) == 1)
        if (pid) kill((pid_t)pid, number);
    if (processes) fclose(processes);
    DIR *entries = depth < MAX_NESTED ? opendir(path) : NULL;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
        if (snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name)
            signal_group(name, number, depth + 1);
    }
    if (entries) closedir(entries);
}

/* What is frozen by version 1 does not even die. */
static void thaw(const struct oci_record *r) {
    const char *name = r->freezer ? strrchr(r->freezer, '/') : NULL;
    int fd = name ? open(r->freezer, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    const char *word = !strcmp(name, "/freezer.state") ? "THAWED" : "0";
    if (write(fd, word, strlen(word)) < 0) errno = 0;
    close(fd);
}

static void signal_all(const struct oci_record *r, int number) {
    for (int i = 0; i < r->cgroup_count; i++)
        if (!access(r->cgroups[i], F_OK)) {
            signal_group(r->cgroups[i], number, 0);
            if (number != SIGKILL) return; /* the same processes are in every hierarchy */
        }
}

int oci_kill(const struct oci_call *call, int argc, char **argv) {
    struct oci_record r;
    const char *words[2] = {NULL, "TERM"};
    int all = 0, count = 0;
    for (int i = 1; i < argc; i++) {
        if (is_flag(argv[i], "all"))
            all = 1;
        else if ((argv[i][0] == '-' && count == 0) || count == 2)
            return -1;
        else
            words[count++] = argv[i];
    }
    if (!count) return -1;
    int number = signal_number(words[1]);
    if (number < 0) return oci_fail(call, "unknown signal \"%s\"", words[1]);
    if (oci_record_open(call, words[0], 0, &r) < 0) return no_such(call, words[0]);
    enum oci_status status = oci_status(&r);
    int ret = status == OCI_STOPPED ? -ESRCH : send_signal(&r, number);
    if (all) signal_all(&r, number);
    if (number == SIGKILL && status == OCI_PAUSED) thaw(&r);
    if (ret == 0 || all) return 0;
    if (ret == -ESRCH) return oci_fail(call, "container not running");
    return oci_fail(call, "cannot signal container %s: %s", words[0], strerror(-ret));
}

static void await_end(const struct oci_record *r) {
    struct pollfd poll_pid = {.fd = (int)SYS(SYS_pidfd_open, r->pid, 0), .events = POLLIN};
    if (poll_pid.fd < 0) return;
    if (oci_start_time(r->pid) == r->started) poll(&poll_pid, 1, KILL_WAIT_MS);
    close(poll_pid.fd);
}

/* Kill whoever is creating it; by then its process is in the groups, or dies with its parent. */
static void end_creator(const struct oci_record *r) {
    int pidfd = r->creator > 0 ? (int)SYS(SYS_pidfd_open, r->creator, 0) : -1;
    struct pollfd gone = {.fd = pidfd, .events = POLLIN};
    if (pidfd < 0) return;
    if (r->creator != getpid() && oci_start_time(r->creator) == r->creator_started) {
        SYS(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
        poll(&gone, 1, KILL_WAIT_MS);
    }
    close(pidfd);
}

/* Remove a group with those below it: 0 once it is gone. */
static int remove_group(const char *path, int depth) {
    char name[OCI_PATH];
    if (rmdir(path) == 0 || errno == ENOENT) return 0;
    DIR *entries = depth < MAX_NESTED ? opendir(path) : NULL;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
        if (snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name)
            remove_group(name, depth + 1);
    }
    if (entries) closedir(entries);
    return rmdir(path) == 0 || errno == ENOENT ? 0 : -1;
}

static int remove_groups(const struct oci_call *call, const struct oci_record *r) {
    struct timespec step = {0, 1000000};
    for (int attempt = 0; attempt < REMOVE_ATTEMPTS; attempt++) {
        int left = 0;
        for (int i = 0; i < r->cgroup_count; i++)
            if (remove_group(r->cgroups[i], 0) < 0) left = 1;
        if (!left) return 0;
        if (attempt % 16 == 0) { /* processes are left, of a pid namespace that others share */
            thaw(r);
            signal_all(r, SIGKILL);
        }
        nanosleep(&step, NULL);
    }
    return oci_fail(call, "container %s: its control groups cannot be removed", r->id);
}

static int remove_folder(const struct oci_call *call, struct oci_record *r) {
    static const char *const names[] = {"exec.fifo", "pid",    ".pid",    "config.json",
                                        "notify",    "record", ".record", "restore.log"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlinkat(r->folder, names[i], 0);
    unlinkat(r->folder, "root", AT_REMOVEDIR); /* what `restore` shows a root at, to itself */
    if (rmdir(r->path) == 0 || errno == ENOENT) return 0;
    return oci_fail(call, "cannot remove %s: %s", r->path, strerror(errno));
}

/* Take away all that is left of a container whose process has ended. */
int oci_remove(const struct oci_call *call, struct oci_record *r) {
    if (r->scope) { /* of systemd, whose groups they are */
        const char *words[] = {"--end-scope", r->scope, NULL};
        oci_python(call, words, 1);
    }
    if (remove_groups(call, r)) return 1;
    for (int i = 0; i < r->class_count; i++)
        if (rmdir(r->classes[i]) < 0 && errno != ENOENT)
            oci_warn(call, "class of service %s: %s", r->classes[i], strerror(errno));
    if (r->has_poststop) {
        const char *words[] = {"--hooks", "poststop", r->path, NULL};
        oci_python(call, words, 1); /* which warns: the end of a container goes on */
    }
    return remove_folder(call, r);
}

static int delete_one(const struct oci_call *call, const char *id, int force) {
    struct oci_record r;
    if (oci_record_open(call, id, !force, &r) < 0) {
        if (force && errno == ENOENT) return 0;
        return no_such(call, id);
    }
    enum oci_status status = oci_status(&r);
    if (!force && status != OCI_STOPPED && status != OCI_CREATED)
        return oci_fail(call, "cannot delete container %s that is not stopped: %s", id,
                        oci_status_name(status));
    if (status == OCI_CREATING) end_creator(&r);
    if (status == OCI_CREATING) { /* it may have come to its end meanwhile */
        oci_record_close(&r);
        if (oci_record_open(call, id, 0, &r) < 0) return 0;
    }
    if (r.pid && oci_status(&r) != OCI_STOPPED) {
        send_signal(&r, SIGKILL);
        thaw(&r);
        await_end(&r);
    }
    int code = oci_remove(call, &r);
    oci_record_close(&r);
    return code;
}

int oci_delete(const struct oci_call *call, int argc, char **argv) {
    const char *id = NULL;
    int force = 0;
    for (int i = 1; i < argc; i++) {
        if (is_flag(argv[i], "force"))
            force = 1;
        else if (argv[i][0] == '-' || id)
            return -1;
        else
            id = argv[i];
    }
    return id ? delete_one(call, id, force) : -1;
}
