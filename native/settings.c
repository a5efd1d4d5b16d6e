/* What a monitor is told: a file of lines `key value`, written by viscum.supervising. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (8 << 20)

/* The whole of a file of the machine's folder, with a NUL behind it; to be freed. */
char *vs_read_file(int folder, const char *name, size_t *size) {
    struct stat is;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return NULL;
    char *data = NULL;
    if (fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && is.st_size <= MAX_FILE)
        data = malloc((size_t)is.st_size + 1);
    if (data && read(fd, data, (size_t)is.st_size) != is.st_size) {
        free(data);
        data = NULL;
        errno = EIO;
    }
    close(fd);
    if (!data) return NULL;
    *size = (size_t)is.st_size;
    data[*size] = 0;
    return data;
}

struct key {
    const char *name;
    enum { TEXT, NUMBER, BIG } kind;
    size_t offset, size;
};

#define FIELD(name, kind, field)                                                                   \
    { name, kind, offsetof(struct vs_settings, field), sizeof(((struct vs_settings *)0)->field) }

static const struct key keys[] = {
    FIELD("id", TEXT, id),
    FIELD("name", TEXT, name),
    FIELD("group", TEXT, group),
    FIELD("events", TEXT, events),
    FIELD("target", TEXT, target),
    FIELD("cleaner", TEXT, cleaner),
    FIELD("data", TEXT, data),
    FIELD("run", TEXT, run),
    FIELD("timeout-ms", NUMBER, timeout_ms),
    FIELD("oom-file", TEXT, oom_file),
    FIELD("oom-slot", NUMBER, oom_slot),
    FIELD("oom-policy", NUMBER, oom_policy),
    FIELD("oom-most", BIG, oom_most),
    FIELD("freezer", NUMBER, freezer_slot),
    FIELD("terminal", NUMBER, terminal_slot),
    FIELD("kill", NUMBER, kill_slot),
    FIELD("uid", NUMBER, uid),
    FIELD("gid", NUMBER, gid),
    FIELD("interactive", NUMBER, interactive),
    FIELD("restart", NUMBER, restart),
    FIELD("restart-max", NUMBER, restart_max),
    FIELD("stop-signal", NUMBER, stop_signal),
    FIELD("stop-timeout-ms", NUMBER, stop_timeout_ms),
    FIELD("log-size", BIG, log_size),
    FIELD("log-files", NUMBER, log_files),
    FIELD("log-rate", BIG, log_rate),
    FIELD("health-interval-ms", NUMBER, health_interval_ms),
    FIELD("health-timeout-ms", NUMBER, health_timeout_ms),
    FIELD("health-start-ms", NUMBER, health_start_ms),
    FIELD("health-retries", NUMBER, health_retries),
};

static int set_key(struct vs_settings *set, const char *name, const char *value) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char *field = (char *)set + keys[i].offset;
        if (strcmp(keys[i].name, name) != 0) continue;
        if (keys[i].kind == TEXT && strlen(value) >= keys[i].size) return -ENAMETOOLONG;
        if (keys[i].kind == TEXT) strcpy(field, value);
        if (keys[i].kind == NUMBER) *(int *)(void *)field = atoi(value);
        if (keys[i].kind == BIG) *(uint64_t *)(void *)field = strtoull(value, NULL, 10);
        return 0;
    }
    return 0; /* of a newer version: what it does not know it need not do */
}

/* Slots come from a file: whatever stands there, no index leaves the table. */
static int bounded(int slot) { return slot >= 0 && slot < VS_SLOTS ? slot : VS_NONE; }

int vs_settings_read(struct vs_settings *set, int folder) {
    size_t size;
    char *data = vs_read_file(folder, "settings", &size), *rest = data, *line;
    int ret = data ? 0 : -errno;
    *set = (struct vs_settings){.terminal_slot = VS_NONE,
                                .kill_slot = VS_NONE,
                                .oom_slot = VS_NONE,
                                .freezer_slot = VS_NONE};
    while (ret == 0 && (line = strsep(&rest, "\n"))) {
        char *value = strchr(line, ' ');
        if (!value) continue;
        *value++ = 0;
        ret = set_key(set, line, value);
    }
    free(data);
    set->terminal_slot = bounded(set->terminal_slot);
    set->kill_slot = bounded(set->kill_slot);
    set->oom_slot = bounded(set->oom_slot);
    set->freezer_slot = bounded(set->freezer_slot);
    return ret;
}
