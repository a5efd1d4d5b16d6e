/* What a monitor tells: the machine's status, replaced by rename, and a line for each event. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_SIZE (4 << 20)

static int64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t vs_epoch_ns(void) { return now(CLOCK_REALTIME); }
int64_t vs_clock_ns(void) { return now(CLOCK_BOOTTIME); }

/* Replace a file of the folder: it is there as it was, or as it will be. */
int vs_write_whole(int folder, const char *name, const char *data, size_t size) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return -errno;
    int ret = write(fd, data, size) == (ssize_t)size ? 0 : -EIO;
    close(fd);
    if (ret == 0 && renameat(folder, temporary, folder, name) < 0) ret = -errno;
    return ret;
}

static void boot_id(char id[64]) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, id, 63);
    if (fd >= 0) close(fd);
    id[n > 0 ? n : 0] = 0;
    id[strcspn(id, "\n")] = 0;
}

/* Field 22 of /proc/PID/stat; 0 where there is no such process. */
unsigned long long vs_start_time(long pid) {
    char data[1024], path[48];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data - 1);
    if (fd >= 0) close(fd);
    data[n > 0 ? n : 0] = 0;
    char *at = strrchr(data, ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

/* Text for JSON: what would need an escape becomes a question mark; ours never does. */
static const char *plain(const char *text, char *out, size_t size) {
    size_t n = 0;
    for (; *text && n + 1 < size; text++)
        out[n++] = (unsigned char)*text < ' ' || *text == '"' || *text == '\\' ? '?' : *text;
    out[n] = 0;
    return out;
}

static unsigned long inode(int fd) {
    struct stat is = {0};
    if (fd >= 0) fstat(fd, &is);
    return (unsigned long)is.st_ino;
}

void vs_status_write(struct vs_monitor *mon, const char *state) {
    char data[2048], boot[64], error[VS_TEXT];
    struct stat ns = {0};
    static unsigned long long own;
    boot_id(boot);
    stat("/proc/self/ns/pid", &ns);
    if (!own) own = vs_start_time(getpid());
    unsigned long long start = mon->running ? vs_start_time(mon->m.pid) : 0;
    int n = snprintf(
        data, sizeof data,
        "{\"version\":1,\"state\":\"%s\",\"boot\":\"%s\",\"pidns\":%lu,\"pid\":%d,\"start\":%llu,"
        "\"monitor\":%d,\"monitor_start\":%llu,\"started\":%lld,\"finished\":%lld,\"code\":%d,"
        "\"signal\":%d,\"oom\":%d,\"restarts\":%d,\"health\":\"%s\",\"failing\":%d,"
        "\"stopping\":%d,\"keeper\":%d,\"keeper_start\":%llu,\"out\":%lu,\"err\":%lu,\"error\":\"%"
        "s\"}\n",
        state, boot, (unsigned long)ns.st_ino, mon->running ? mon->m.pid : 0, start, getpid(), own,
        (long long)mon->started, (long long)mon->finished, mon->code, mon->signal, mon->oom,
        mon->restarts, mon->health.status, mon->health.failing, mon->stopping, mon->keeper_pid,
        mon->keeper_pid ? vs_start_time(mon->keeper_pid) : 0, inode(mon->output[0]),
        inode(mon->output[1]), plain(mon->error, error, sizeof error));
    vs_write_whole(mon->folder, "status.json", data, (size_t)n);
}

/* A whole number of a flat JSON object that was written above. */
int vs_status_number(const char *json, const char *key, long long *value) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *at = strstr(json, pattern);
    if (!at) return -ENOENT;
    *value = strtoll(at + strlen(pattern), NULL, 10);
    return 0;
}

/* One line in one write, so that writers do not mix. Readers follow the file by its inode. */
void vs_event(struct vs_monitor *mon, const char *event, const char *attributes) {
    char line[1024], name[VS_TEXT];
    if (!mon->set.events[0]) return;
    int fd = open(mon->set.events, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return;
    int n = snprintf(line, sizeof line,
                     "{\"time\":%lld,\"type\":\"machine\",\"event\":\"%s\",\"id\":\"%s\","
                     "\"name\":\"%s\",\"attributes\":{%s}}\n",
                     (long long)vs_epoch_ns(), event, mon->set.id,
                     plain(mon->set.name, name, sizeof name), attributes);
    if (n > 0 && (size_t)n < sizeof line && write(fd, line, (size_t)n) != n) errno = 0;
    struct stat is;
    if (fstat(fd, &is) == 0 && is.st_size > EVENTS_SIZE) {
        char older[1032];
        snprintf(older, sizeof older, "%s.1", mon->set.events);
        rename(mon->set.events, older);
    }
    close(fd);
}
