/* What `create` wrote of a container: a folder below the root, named by its id.
 *
 *   record     lines of a key and a value, an empty one, the annotations in JSON; never changed
 *   pid        process id and start time of the first process; by rename, once it is there
 *   exec.fifo  what it waits at; gone once it was started
 *   config.json  the configuration, as it was read */
#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_RECORD (8 << 20)

static char *read_at(int dir, const char *name, size_t most) {
    struct stat is;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *data = NULL;
    if (fd < 0) return NULL;
    size_t room = fstat(fd, &is) == 0 && is.st_size > 0 ? (size_t)is.st_size : 4096;
    if (room <= most) data = malloc(room + 1);
    ssize_t n = data ? read(fd, data, room) : -1;
    close(fd);
    if (n < 0) {
        free(data);
        return NULL;
    }
    data[n] = 0;
    return data;
}

/* Field 22 of /proc/PID/stat: when the process started; 0 where it has ended (proc_pid_stat(5)). */
unsigned long long oci_start_time(pid_t pid) {
    char path[48], data[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) return 0;
    data[n] = 0;
    char *at = strrchr(data, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X') return 0;
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static void set_field(struct oci_record *r, const char *key, const char *value) {
    static const struct {
        const char *key;
        size_t offset;
    } texts[] = {
        {"id", offsetof(struct oci_record, id)},
        {"bundle", offsetof(struct oci_record, bundle)},
        {"rootfs", offsetof(struct oci_record, rootfs)},
        {"version", offsetof(struct oci_record, version)},
        {"created", offsetof(struct oci_record, created)},
        {"owner", offsetof(struct oci_record, owner)},
        {"freezer", offsetof(struct oci_record, freezer)},
        {"scope", offsetof(struct oci_record, scope)},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!strcmp(key, texts[i].key)) *(const char **)((char *)r + texts[i].offset) = value;
    if (!strcmp(key, "cgroup") && r->cgroup_count < OCI_CGROUPS)
        r->cgroups[r->cgroup_count++] = value;
    if (!strcmp(key, "class") && r->class_count < OCI_CLASSES) r->classes[r->class_count++] = value;
    if (!strcmp(key, "poststart")) r->has_poststart = 1;
    if (!strcmp(key, "poststop")) r->has_poststop = 1;
    if (!strcmp(key, "creator")) sscanf(value, "%d %llu", &r->creator, &r->creator_started);
}

static void read_fields(struct oci_record *r) {
    char *line = r->data;
    r->id = r->bundle = r->rootfs = r->version = r->created = r->owner = "\"\"";
    r->annotations = "{}";
    while (line && *line && *line != '\n') {
        char *end = strchr(line, '\n'), *space = strchr(line, ' ');
        if (!end) return;
        *end = 0;
        if (space && space < end) {
            *space = 0;
            set_field(r, line, space + 1);
        }
        line = end + 1;
    }
    if (line && line[0] == '\n' && line[1]) r->annotations = line + 1;
}

static int is_id(const char *id) {
    if (!*id || !strcmp(id, ".") || !strcmp(id, "..") || strlen(id) > 1024) return 0;
    for (; *id; id++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.", *id))
            return 0;
    return 1;
}

/* 0, or -1 with the error told; ENOENT in errno where there is no such container. */
int oci_record_open(const struct oci_call *call, const char *id, int lock,
                    struct oci_record *record) {
    *record = (struct oci_record){.folder = -1};
    errno = 0;
    if (!is_id(id)) {
        oci_fail(call, "invalid container id %s: letters, digits, and _+-. are allowed", id);
        errno = EINVAL;
        return -1;
    }
    snprintf(record->path, sizeof record->path, "%s/%s", call->root, id);
    record->folder = open(record->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (record->folder < 0) return -1;
    if (lock) flock(record->folder, LOCK_EX);
    record->data = read_at(record->folder, "record", MAX_RECORD);
    char *pid = read_at(record->folder, "pid", 64);
    if (pid) sscanf(pid, "%d %llu", &record->pid, &record->started);
    free(pid);
    read_fields(record);
    return 0;
}

void oci_record_close(struct oci_record *record) {
    if (record->folder >= 0) close(record->folder);
    free(record->data);
    record->folder = -1;
    record->data = NULL;
}

/* The writing end of the fifo; -1 where nobody waits at it. */
int oci_open_gate(const struct oci_record *record) {
    return openat(record->folder, "exec.fifo", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
}

static int is_frozen(const struct oci_record *record) {
    char *state = record->freezer ? read_at(AT_FDCWD, record->freezer, 4096) : NULL;
    int frozen = state && (!strncmp(state, "FR", 2) || state[0] == '1');
    free(state);
    return frozen;
}

enum oci_status oci_status(const struct oci_record *record) {
    if (!record->pid) return OCI_CREATING;
    if (oci_start_time(record->pid) != record->started) return OCI_STOPPED;
    if (is_frozen(record)) return OCI_PAUSED; /* before it was started, too */
    int gate = oci_open_gate(record);
    if (gate >= 0) close(gate);
    return gate >= 0 ? OCI_CREATED : OCI_RUNNING;
}

const char *oci_status_name(enum oci_status status) {
    static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};
    return names[status];
}

int oci_write_file(int dir, const char *name, const char *data) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) return -1;
    ssize_t n = write(fd, data, strlen(data));
    return close(fd) < 0 || n != (ssize_t)strlen(data) ? -1 : 0;
}

int oci_write_pid(int folder, pid_t pid) {
    char data[64];
    snprintf(data, sizeof data, "%d %llu\n", pid, oci_start_time(pid));
    if (oci_write_file(folder, ".pid", data) < 0) return -1;
    return renameat(folder, ".pid", folder, "pid");
}
