/* Lack of memory in a machine, told with its victims, limit, peak and largest processes. */
#include "oom.h"

#include "group_file.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGEST   3
#define KILL_MS   250 /* version 1 tells first and kills then */
#define MIB       1048576.0
#define GROUP_KEY "oom_memcg="

struct task {
    int pid;
    char name[32];
    double bytes;
};

struct tasks {
    struct task task[LARGEST]; /* the largest first */
    int count;
};

static long kills(const struct vs_oom *oom) {
    char data[1024];
    if (vs_group_read(oom->folder, oom->file, data, sizeof data) < 0) return -1;
    const char *count = strstr(data, "oom_kill ");
    return count ? atol(count + 9) : 0;
}

static int is_v1(const struct vs_oom *oom) { return !strcmp(oom->file, "memory.oom_control"); }

void vs_oom_begin(struct vs_oom *oom) {
    *oom = (struct vs_oom){.fd = -1, .log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
    if (oom->log >= 0) lseek(oom->log, 0, SEEK_END);
}

void vs_oom_watch(struct vs_oom *oom, int folder, const char *file) {
    oom->folder = folder;
    oom->file = file;
    if (folder < 0 || !*file) return;
    oom->events = is_v1(oom) ? POLLIN : POLLPRI;
    oom->fd = is_v1(oom) ? vs_group_lack_v1(folder) : openat(folder, file, O_RDONLY | O_CLOEXEC);
}

static void add(struct tasks *tasks, struct task task) {
    int place = 0;
    for (int i = 0; i < tasks->count; i++)
        if (tasks->task[i].pid == task.pid) return;
    while (place < tasks->count && tasks->task[place].bytes >= task.bytes) place++;
    for (int i = LARGEST - 1; i > place; i--) tasks->task[i] = tasks->task[i - 1];
    if (place == LARGEST) return;
    tasks->task[place] = task;
    if (tasks->count < LARGEST) tasks->count++;
}

static void print_tasks(const struct tasks *tasks) {
    for (int i = 0; i < tasks->count; i++)
        fprintf(stderr, "%s%s (pid %d, %.1f MiB)", i ? ", " : "", tasks->task[i].name,
                tasks->task[i].pid, tasks->task[i].bytes / MIB);
}

/* Is this line of the log about `group`? Its path ends with the name. */
static int names(const char *line, const char *group) {
    const char *path = strstr(line, GROUP_KEY);
    size_t length = path ? strcspn(path, ",\n") : 0, name = strlen(group);
    return length > name && !strncmp(path + length - name, group, name);
}

static void find_victims(struct vs_oom *oom, const char *group, struct tasks *victims) {
    char line[8192];
    int ours = 0;
    ssize_t n;
    while (oom->log >= 0 && (n = read(oom->log, line, sizeof line - 1)) > 0) {
        struct task task = {0};
        double kib = 0;
        line[n] = 0;
        if (strstr(line, GROUP_KEY)) ours = names(line, group);
        const char *killed = strstr(line, "Killed process ");
        if (!ours || !killed) continue;
        const char *size = strstr(killed, "anon-rss:");
        if (sscanf(killed, "Killed process %d (%31[^)])", &task.pid, task.name) != 2) continue;
        if (size) kib = atof(size + 9);
        task.bytes = kib * 1024;
        add(victims, task);
    }
}

static void find_largest(struct vs_oom *oom, struct tasks *largest) {
    static char data[65536];
    char path[48], text[256];
    long resident, shared;
    if (vs_group_read(oom->folder, "cgroup.procs", data, sizeof data) < 0) return;
    for (char *line = data, *end; (end = strchr(line, '\n')); line = end + 1) {
        struct task task = {.pid = atoi(line)};
        snprintf(path, sizeof path, "/proc/%d/statm", task.pid);
        if (vs_group_read(AT_FDCWD, path, text, sizeof text) < 0) continue;
        if (sscanf(text, "%*d %ld %ld", &resident, &shared) != 2) continue;
        snprintf(path, sizeof path, "/proc/%d/comm", task.pid);
        if (vs_group_read(AT_FDCWD, path, text, sizeof text) < 0) continue;
        snprintf(task.name, sizeof task.name, "%.*s", (int)strcspn(text, "\n"), text);
        task.bytes = (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE);
        add(largest, task);
    }
}

static double figure(const struct vs_oom *oom, const char *v1, const char *v2) {
    char data[64];
    return vs_group_read(oom->folder, is_v1(oom) ? v1 : v2, data, sizeof data) < 0 ? 0 : atof(data);
}

static void tell(struct vs_oom *oom, const char *group) {
    struct tasks victims = {0}, largest = {0};
    find_victims(oom, group, &victims);
    largest = victims;
    find_largest(oom, &largest);
    fputs("viscum: out of memory: killed ", stderr);
    print_tasks(&victims);
    fprintf(stderr, "%s; limit %.1f MiB, peak %.1f MiB", victims.count ? "" : "a process",
            figure(oom, "memory.limit_in_bytes", "memory.max") / MIB,
            figure(oom, "memory.max_usage_in_bytes", "memory.peak") / MIB);
    if (largest.count) fputs("; largest: ", stderr);
    print_tasks(&largest);
    fputs("\n", stderr);
}

void vs_oom_read(struct vs_oom *oom, const char *group) {
    char data[1024];
    if (oom->fd < 0) return;
    long now = kills(oom);
    int told = is_v1(oom) && read(oom->fd, data, 8) == 8;
    if (!is_v1(oom) && pread(oom->fd, data, sizeof data, 0) < 0) now = -1; /* arms it again */
    for (int i = 0; told && now == oom->kills && i < KILL_MS; i++) {
        poll(NULL, 0, 1);
        now = kills(oom);
    }
    if (now > oom->kills) tell(oom, group);
    if (now >= 0) oom->kills = now;
    if (now < 0) vs_oom_close(oom); /* the group is gone */
}

void vs_oom_close(struct vs_oom *oom) {
    if (oom->fd >= 0) close(oom->fd);
    if (oom->log >= 0) close(oom->log);
    oom->fd = oom->log = -1;
}
