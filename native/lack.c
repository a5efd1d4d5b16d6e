/* Lack of memory in a machine that lives on: told at once, as an event, and the machine killed,
 * paused or given more. `viscum.resources.oom` does the same for machines with a caller, and says
 * why it is done so. */
#include "group_file.h"
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB        (1ll << 20)
#define HELD_SHARE 0.9
#define KILL_MS    20 /* version 1 tells first and kills then */

static int write_at(int folder, const char *name, const char *text) {
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0) close(fd);
    return n < 0 ? -1 : 0;
}

/* The number of a file with one; what is no number ("max") is none: 0. */
static long long number_at(int folder, const char *name) {
    char data[64];
    return vs_group_read(folder, name, data, sizeof data) > 0 ? atoll(data) : 0;
}

/* The number behind a word at the begin of a line. */
static long long field(const char *data, const char *word) {
    size_t length = strlen(word);
    for (const char *line = data; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, word, length) && line[length] == ' ') return atoll(line + length + 1);
    }
    return 0;
}

static int group_of(const struct vs_monitor *mon, int slot) {
    return slot == VS_NONE ? -1 : mon->m.slots[slot];
}

static int is_v1(const struct vs_monitor *mon) {
    return !strcmp(mon->set.oom_file, "memory.oom_control");
}

void vs_lack_start(struct vs_monitor *mon, int known) {
    char events[1024];
    int folder = group_of(mon, mon->set.oom_slot);
    mon->lack = (struct vs_lack){.fd = -1};
    if (folder < 0 || !mon->set.oom_file[0]) return;
    if (is_v1(mon))
        mon->lack.fd = vs_group_lack_v1(folder);
    else
        mon->lack.fd = openat(folder, "memory.events", O_RDONLY | O_CLOEXEC);
    if (mon->lack.fd < 0) return;
    vs_watch(mon, mon->lack.fd, is_v1(mon) ? POLLIN : POLLPRI, VS_ON_LACK);
    if (known && vs_group_read(folder, mon->set.oom_file, events, sizeof events) >= 0)
        mon->lack.kills = field(events, "oom_kill");
    vs_lack_ready(mon); /* what happened since the launch is told, too */
}

void vs_lack_stop(struct vs_monitor *mon) {
    if (mon->lack.fd < 0) return;
    vs_unwatch(mon, mon->lack.fd);
    close(mon->lack.fd);
    mon->lack.fd = -1;
}

static long long limit_of(const struct vs_monitor *mon, int folder) {
    return number_at(folder, is_v1(mon) ? "memory.limit_in_bytes" : "memory.max");
}

static void tell(struct vs_monitor *mon, int folder, const char *action) {
    char attributes[160];
    const char *peak = is_v1(mon) ? "memory.max_usage_in_bytes" : "memory.peak";
    snprintf(attributes, sizeof attributes,
             "\"action\":\"%s\",\"limit\":\"%lld\",\"peak\":\"%lld\"", action,
             limit_of(mon, folder), number_at(folder, peak));
    vs_event(mon, "oom", attributes);
}

/* Page cache is no lack: only when what cannot be reclaimed fills the memory is there any. */
static int is_short(struct vs_monitor *mon, int folder, const char *events) {
    char stat[8192];
    if (is_v1(mon))
        return field(events, "under_oom") && (double)number_at(folder, "memory.usage_in_bytes") >=
                                                 HELD_SHARE * (double)limit_of(mon, folder);
    long long told = field(events, "high") + field(events, "max");
    if (told == mon->lack.told) return 0;
    mon->lack.told = told;
    if (vs_group_read(folder, "memory.stat", stat, sizeof stat) < 0) return 0;
    long long held = number_at(folder, "memory.current") - field(stat, "inactive_file") -
                     field(stat, "active_file");
    return (double)held >= HELD_SHARE * (double)number_at(folder, "memory.high");
}

/* With the mark that tells who asks: tasks that wait for memory never count as frozen. */
static void pause_all(struct vs_monitor *mon) {
    int mark = openat(mon->folder, "paused", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (mark >= 0) close(mark);
    int group = group_of(mon, mon->set.kill_slot);
    if (group >= 0 && write_at(group, "cgroup.freeze", "1") == 0) return;
    write_at(group_of(mon, mon->set.freezer_slot), "freezer.state", "FROZEN");
}

/* Beside swap, too, where both together are bounded; version 1 wants that to be no lower. */
static int raise_limit(struct vs_monitor *mon, int folder, long long limit, long long wanted) {
    char text[32];
    if (is_v1(mon)) {
        long long both = number_at(folder, "memory.memsw.limit_in_bytes");
        snprintf(text, sizeof text, "%lld", both + wanted - limit);
        if (both > 0 && both < 1ll << 60) write_at(folder, "memory.memsw.limit_in_bytes", text);
        snprintf(text, sizeof text, "%lld", wanted);
        return write_at(folder, "memory.limit_in_bytes", text);
    }
    snprintf(text, sizeof text, "%lld", wanted);
    if (write_at(folder, "memory.max", text) < 0) return -1;
    long long margin = wanted / 16 > 2 * MIB ? wanted / 16 : 2 * MIB;
    snprintf(text, sizeof text, "%lld", wanted - margin);
    return write_at(folder, "memory.high", text);
}

static void grow(struct vs_monitor *mon, int folder) {
    long long limit = limit_of(mon, folder), step = limit / 4 > 16 * MIB ? limit / 4 : 16 * MIB;
    long long most = (long long)mon->set.oom_most;
    long long wanted = limit + step < most ? limit + step : most;
    if (wanted > limit && raise_limit(mon, folder, limit, wanted) == 0) {
        tell(mon, folder, "grown");
        return;
    }
    /* What it may have is used up: the kernel decides. */
    if (is_v1(mon))
        write_at(folder, "memory.oom_control", "0");
    else
        write_at(folder, "memory.high", "max");
}

void vs_lack_ready(struct vs_monitor *mon) {
    char events[1024];
    uint64_t count;
    int folder = group_of(mon, mon->set.oom_slot);
    int told = is_v1(mon) && read(mon->lack.fd, &count, sizeof count) == sizeof count;
    if (!is_v1(mon) && pread(mon->lack.fd, events, sizeof events, 0) < 0) errno = 0; /* arms it */
    if (vs_group_read(folder, mon->set.oom_file, events, sizeof events) < 0) return;
    long long kills = field(events, "oom_kill");
    for (int i = 0; told && mon->set.oom_policy == VS_OOM_KILL && kills == mon->lack.kills; i++) {
        if (i == KILL_MS || vs_group_read(folder, mon->set.oom_file, events, sizeof events) < 0)
            break;
        poll(NULL, 0, 1);
        kills = field(events, "oom_kill");
    }
    if (kills > mon->lack.kills) tell(mon, folder, "killed");
    mon->lack.kills = kills;
    if (mon->set.oom_policy == VS_OOM_KILL || !is_short(mon, folder, events)) return;
    if (mon->set.oom_policy == VS_OOM_GROW) {
        grow(mon, folder);
    } else if (faccessat(mon->folder, "paused", F_OK, 0) < 0) {
        pause_all(mon);
        tell(mon, folder, "paused");
    }
}
