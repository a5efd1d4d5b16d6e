/* What viscum.registry.create and viscum.supervising.start do, for a command line that they have
 * done it for before: the files of that machine, with another id, name and time in them. */
#include "living.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ID     64
#define REPORT 3

struct living {
    const struct vs_remembered *remembered;
    char old_id[ID + 1], id[ID + 1], old_name[256], name[256];
    char data[4096], run[4096], monitor[4096];
    int machines, names, folder; /* descriptors */
    int named;
    int64_t created; /* ns of the epoch */
};

/* The value of a line `key value` of the notes; 0, or -1. */
static int note(const struct living *l, const char *key, char *value, size_t size) {
    const char *at = l->remembered->notes;
    size_t length = strlen(key);
    for (; at; at = strchr(at, '\n'), at += at != NULL) {
        if (strncmp(at, key, length) != 0 || at[length] != ' ') continue;
        size_t n = strcspn(at + length + 1, "\n");
        if (n >= size) return -1;
        memcpy(value, at + length + 1, n);
        value[n] = 0;
        return 0;
    }
    return -1;
}

static void make_id(char id[ID + 1]) {
    static const char hex[] = "0123456789abcdef";
    unsigned char bytes[ID / 2];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) abort();
    for (int i = 0; i < ID / 2; i++)
        id[2 * i] = hex[bytes[i] >> 4], id[2 * i + 1] = hex[bytes[i] & 15];
    id[ID] = 0;
}

/* Word number `index`, modulo how many there are; returns how many. */
static unsigned word(const char *words, uint64_t index, char *out, size_t size) {
    unsigned count = 1;
    for (const char *at = words; *at; at++) count += *at == ' ';
    for (index %= count; index; index--) words = strchr(words, ' ') + 1;
    snprintf(out, size, "%.*s", (int)strcspn(words, " "), words);
    return count;
}

/* viscum.creating.random_name */
static int make_name(struct living *l) {
    char first[2048], second[2048], digits[13], one[64], two[64];
    if (note(l, "first", first, sizeof first) < 0 || note(l, "second", second, sizeof second) < 0)
        return -1;
    memcpy(digits, l->id, 12);
    digits[12] = 0;
    uint64_t number = strtoull(digits, NULL, 16);
    number /= word(first, number, one, sizeof one);
    word(second, number, two, sizeof two);
    snprintf(l->name, sizeof l->name, "%s_%s_%s", one, two, l->id + ID - 4);
    return 0;
}

static int read_notes(struct living *l) {
    if (note(l, "id", l->old_id, sizeof l->old_id) < 0 || strlen(l->old_id) != ID ||
        note(l, "name", l->old_name, sizeof l->old_name) < 0 ||
        note(l, "data", l->data, sizeof l->data) < 0 || note(l, "run", l->run, sizeof l->run) < 0 ||
        note(l, "monitor", l->monitor, sizeof l->monitor) < 0)
        return -1;
    make_id(l->id);
    return make_name(l);
}

/* Every `from` in `text` becomes `to`; the result is to be freed. */
static char *replace(const char *text, size_t *size, const char *from, const char *to) {
    size_t n = strlen(from), m = strlen(to), used = 0, at = 0;
    char *out = malloc(*size * (m > n ? 1 + (m - n) / n + 1 : 1) + m + 1);
    while (out && at < *size) {
        if (*size - at >= n && !memcmp(text + at, from, n)) {
            memcpy(out + used, to, m);
            used += m, at += n;
        } else {
            out[used++] = text[at++];
        }
    }
    *size = used;
    return out;
}

static int write_file(int folder, const char *name, const char *data, size_t size) {
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    ssize_t n = write(fd, data, size);
    close(fd);
    return n == (ssize_t)size ? 0 : -1;
}

static int write_changed(struct living *l, const char *name, const char *data, size_t size) {
    char before[300], after[300], *first = replace(data, &size, l->old_id, l->id);
    int json = !strcmp(name, "config.json"), ret = -1;
    snprintf(before, sizeof before, json ? "\"name\":\"%s\"" : "name %s\n", l->old_name);
    snprintf(after, sizeof after, json ? "\"name\":\"%s\"" : "name %s\n", l->name);
    char *second = first ? replace(first, &size, before, after) : NULL;
    if (second && json) {
        char *created = memmem(second, size, "\"created\":", 10), digits[32];
        int n = snprintf(digits, sizeof digits, "%lld", (long long)l->created);
        if (created && strspn(created + 10, "0123456789") == (size_t)n)
            memcpy(created + 10, digits, (size_t)n);
    }
    if (second) ret = write_file(l->folder, name, second, size);
    free(first);
    free(second);
    return ret;
}

static int fill(struct living *l) {
    const struct vs_remembered *r = l->remembered;
    size_t size = r->plan_size;
    char *plan = replace(r->plan, &size, l->old_id, l->id);
    int ret = plan ? write_file(l->folder, "plan", plan, size) : -1;
    free(plan);
    if (ret < 0 || mkdirat(l->folder, "layer", 0755) < 0 ||
        mkdirat(l->folder, "layer/upper", 0755) < 0 || mkdirat(l->folder, "layer/work", 0755) < 0)
        return -1;
    if (write_changed(l, "config.json", r->config, r->config_size) < 0 ||
        write_changed(l, "settings", r->settings, r->settings_size) < 0)
        return -1;
    return write_file(l->folder, "lock", "", 0);
}

static void note_creation(const struct living *l) {
    char line[1024], path[4200];
    snprintf(path, sizeof path, "%s/events", l->run);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int n = snprintf(line, sizeof line,
                     "{\"time\":%lld,\"type\":\"machine\",\"event\":\"create\",\"id\":\"%s\","
                     "\"name\":\"%s\",\"attributes\":{}}\n",
                     (long long)l->created, l->id, l->name);
    if (fd < 0) return;
    if (write(fd, line, (size_t)n) < 0) errno = 0;
    close(fd);
}

/* The folder is made under another name and renamed: it is whole, or it is not there. */
static int create(struct living *l) {
    char fresh[ID + 2];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    l->created = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    l->machines = open(l->data, O_PATH | O_DIRECTORY | O_CLOEXEC);
    l->names = openat(l->machines, "names", O_PATH | O_DIRECTORY | O_CLOEXEC);
    l->machines = openat(l->machines, "machines", O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(fresh, sizeof fresh, ".%s", l->id);
    if (l->names < 0 || l->machines < 0 || mkdirat(l->machines, fresh, 0700) < 0) return -1;
    l->folder = openat(l->machines, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->folder < 0 || fill(l) < 0 || symlinkat(l->id, l->names, l->name) < 0) return -1;
    l->named = 1;
    if (renameat(l->machines, fresh, l->machines, l->id) < 0) return -1;
    note_creation(l);
    return 0;
}

/* Whatever there is of it. */
static void undo(struct living *l) {
    static const char *const files[] = {"plan", "config.json", "settings",   "lock",
                                        "log",  "ctl",         "status.json"};
    static const char *const folders[] = {"layer/upper", "layer/work", "layer"};
    char fresh[ID + 2];
    if (l->named) unlinkat(l->names, l->name, 0);
    for (size_t i = 0; l->folder >= 0 && i < sizeof files / sizeof files[0]; i++)
        unlinkat(l->folder, files[i], 0);
    for (size_t i = 0; l->folder >= 0 && i < sizeof folders / sizeof folders[0]; i++)
        unlinkat(l->folder, folders[i], AT_REMOVEDIR);
    snprintf(fresh, sizeof fresh, ".%s", l->id);
    unlinkat(l->machines, fresh, AT_REMOVEDIR);
    unlinkat(l->machines, l->id, AT_REMOVEDIR);
}

static int start(struct living *l) {
    char path[4300];
    int32_t words[4] = {0};
    int ends[2];
    snprintf(path, sizeof path, "%s/machines/%s", l->data, l->id);
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"viscum-monitor", path, NULL};
        char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
        if (ends[1] == REPORT)
            fcntl(REPORT, F_SETFD, 0);
        else
            dup2(ends[1], REPORT);
        execve(l->monitor, argv, environment);
        _exit(127);
    }
    close(ends[1]);
    if (pid > 0) waitpid(pid, NULL, 0);
    ssize_t n = pid < 0 ? -1 : read(ends[0], words, sizeof words);
    close(ends[0]);
    return n == sizeof words && words[0] ? 0 : -1;
}

void vs_living_run(const struct vs_remembered *remembered) {
    struct living l = {.remembered = remembered, .folder = -1, .machines = -1, .names = -1};
    if (read_notes(&l) < 0) return;
    if (create(&l) == 0 && start(&l) == 0) {
        printf("%s\n", l.id);
        exit(fflush(stdout) == 0 ? 0 : 125);
    }
    undo(&l);
}
