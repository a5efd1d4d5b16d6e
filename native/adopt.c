/* Taking over a machine whose monitor was lost: its groups by their names, its output pipes by
 * their inodes. A pipe has no name: but whoever can still write to it holds it open. */
#include "monitor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe among the descriptors of a process. What stands at a number may change meanwhile: it
 * counts only if what was opened is that pipe. */
static int find_in(long pid, unsigned long inode) {
    char path[48], link[64], wanted[64];
    struct stat is;
    int found = -1;
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    snprintf(wanted, sizeof wanted, "pipe:[%lu]", inode);
    DIR *entries = opendir(path);
    if (!entries) return -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(entries));) {
        ssize_t n = readlinkat(dirfd(entries), entry->d_name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = 0;
        if (strcmp(link, wanted) != 0) continue;
        found = openat(dirfd(entries), entry->d_name, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (found >= 0 && (fstat(found, &is) < 0 || !S_ISFIFO(is.st_mode) || is.st_ino != inode)) {
            close(found);
            found = -1;
        }
    }
    closedir(entries);
    return vs_above_standard(found);
}

static unsigned long pid_namespace(const char *pid) {
    char path[300];
    struct stat is = {0};
    snprintf(path, sizeof path, "/proc/%s/ns/pid", pid);
    stat(path, &is);
    return (unsigned long)is.st_ino;
}

/* The machine's first process has it, or, where that has put something else in its place, another
 * one of its pid namespace. -1: nobody does, and nobody can write to it. */
static int find_output(long pid, unsigned long inode) {
    char first[24];
    int found = inode ? find_in(pid, inode) : -1;
    snprintf(first, sizeof first, "%ld", pid);
    unsigned long space = pid_namespace(first);
    DIR *entries = found < 0 && inode && space != pid_namespace("self") ? opendir("/proc") : NULL;
    if (!entries) return found;
    for (struct dirent *entry; found < 0 && (entry = readdir(entries));)
        if (atol(entry->d_name) > 0 && pid_namespace(entry->d_name) == space)
            found = find_in(atol(entry->d_name), inode);
    closedir(entries);
    return found;
}

/* The groups of a launch that another process made. */
static void adopt_groups(struct vs_monitor *mon) {
    const struct vs_plan *plan = &mon->plan;
    for (uint32_t i = plan->first[VS_PREPARE]; i < plan->first[VS_PREPARE + 1]; i++) {
        const struct vs_op *op = &plan->ops[i];
        if (op->code != OP_cgroup) continue;
        int fd = openat(mon->m.slots[op->arg[1]], vs_string(&mon->m, op->arg[2]),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) vs_own(&mon->m, op->arg[0], fd);
    }
}

static int adopt_streams(struct vs_monitor *mon, const unsigned long inodes[2]) {
    for (int i = 0; i < 2 && mon->set.terminal_slot == VS_NONE; i++)
        mon->output[i] = find_output(mon->m.pid, inodes[i]);
    int interactive = mon->set.interactive;
    mon->set.interactive = 0; /* no new standard input: the machine has one */
    int ret = vs_streams_open(mon);
    vs_streams_hand_over(mon);
    mon->set.interactive = interactive;
    return ret;
}

/* Its terminal or standard input, where their keeper has lived on: else that has ended. */
static int adopt_input(struct vs_monitor *mon, int keeper, unsigned long long start) {
    int held = vs_keeper_take(mon, keeper, start);
    if (held < 0) return 0;
    if (mon->set.terminal_slot == VS_NONE) {
        mon->input = held;
        return vs_watch(mon, held, 0, VS_ON_INPUT);
    }
    mon->terminal = held;
    return vs_watch(mon, held, POLLIN, VS_ON_TERMINAL);
}

int vs_adopt_machine(struct vs_monitor *mon) {
    size_t size;
    long long pid = 0, value = 0, keeper = 0, keeper_start = 0;
    unsigned long inodes[2] = {0, 0};
    char *json = vs_read_file(mon->folder, "status.json", &size);
    if (!json || vs_status_number(json, "pid", &pid) < 0 || pid <= 0) return -ESRCH;
    if (vs_status_number(json, "started", &value) == 0) mon->started = value;
    if (vs_status_number(json, "restarts", &value) == 0) mon->restarts = (int)value;
    if (vs_status_number(json, "stopping", &value) == 0) mon->stopping = (int)value;
    for (int i = 0; i < 2; i++)
        if (vs_status_number(json, i ? "err" : "out", &value) == 0)
            inodes[i] = (unsigned long)value;
    vs_status_number(json, "keeper", &keeper);
    vs_status_number(json, "keeper_start", &keeper_start);
    free(json);
    vs_machine_init(&mon->m, &mon->plan);
    mon->m.parameters[0] = mon->set.group;
    mon->m.pid = (int32_t)pid;
    mon->m.pidfd = vs_above_standard((int)SYS(SYS_pidfd_open, pid, 0));
    if (mon->m.pidfd < 0) return -ESRCH;
    adopt_groups(mon);
    int ret = adopt_streams(mon, inodes);
    if (ret == 0) ret = adopt_input(mon, (int)keeper, (unsigned long long)keeper_start);
    if (ret < 0) return ret;
    mon->running = 1;
    mon->code = -1;
    mon->started_clock = vs_clock_ns();
    vs_health_start(mon);
    vs_lack_start(mon, 1);
    vs_status_write(mon, "running");
    vs_event(mon, "adopt", "");
    return vs_watch(mon, mon->m.pidfd, POLLIN, VS_ON_EXIT);
}
