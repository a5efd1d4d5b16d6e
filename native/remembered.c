/* The cache of compiled plans, read only: `viscum.cli.remember` writes it. */
#include "remembered.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define MAX_KEY  (1 << 20)
#define MAX_FILE (16 << 20)

static int add(struct vs_key *key, const void *data, size_t size) {
    if (key->size + size + 8 > MAX_KEY) return -1;
    uint64_t length = size; /* before each part, so that parts cannot run into each other */
    memcpy(key->data + key->size, &length, 8);
    memcpy(key->data + key->size + 8, data, size);
    key->size += size + 8;
    return 0;
}

static int add_text(struct vs_key *key, const char *text) {
    return text ? add(key, text, strlen(text)) : add(key, "\0", 1);
}

static int add_file(struct vs_key *key, const char *path) {
    size_t room = MAX_KEY - key->size - 8, got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return add_text(key, NULL);
    ssize_t n = 1;
    while (n > 0 && got < room) {
        n = read(fd, key->data + key->size + 8 + got, room - got);
        if (n > 0) got += (size_t)n;
    }
    close(fd);
    uint64_t length = got;
    memcpy(key->data + key->size, &length, 8);
    key->size += got + 8;
    return n == 0 ? 0 : -1;
}

/* Who and when a file is; a file that is not there counts as such. */
static int add_identity(struct vs_key *key, const char *path) {
    struct stat is;
    uint64_t identity[5] = {0};
    if (stat(path, &is) == 0) {
        uint64_t found[5] = {is.st_dev, is.st_ino, is.st_mode, (uint64_t)is.st_ctim.tv_sec,
                             (uint64_t)is.st_ctim.tv_nsec};
        memcpy(identity, found, sizeof identity);
    }
    return add(key, identity, sizeof identity);
}

static int add_process(struct vs_key *key) {
    char folder[4096], status[4096];
    uint64_t ids[4] = {getuid(), geteuid(), getgid(), getegid()};
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, status, sizeof status - 1);
    if (fd >= 0) close(fd);
    status[n > 0 ? n : 0] = 0;
    char *capabilities = strstr(status, "CapInh:");
    char *end = capabilities ? strstr(capabilities, "Cpus_allowed") : NULL;
    if (!end || !getcwd(folder, sizeof folder)) return -1;
    *end = 0;
    if (add(key, ids, sizeof ids) < 0 || add_text(key, capabilities) < 0) return -1;
    return add_text(key, folder);
}

/* What the names of images stand for (viscum.places, viscum.image.store). */
static int add_images(struct vs_key *key) {
    const char *data = getenv("VISCUM_DATA"), *home = getenv("XDG_DATA_HOME"), *tail = "/viscum";
    char path[4096];
    if (data && *data)
        home = data, tail = "";
    else if (geteuid() == 0)
        home = "/var/lib";
    else if (!home || !*home)
        home = getenv("HOME"), tail = "/.local/share/viscum";
    if (!home) return -1;
    int n = snprintf(path, sizeof path, "%s%s/images/index.json", home, tail);
    return n < (int)sizeof path ? add_identity(key, path) : -1;
}

/* What the probe of the host and the compiler look at. */
static int add_host(struct vs_key *key) {
    static const char *const files[] = {"/proc/self/cgroup", "/proc/self/mountinfo",
                                        "/proc/self/uid_map", "/proc/sys/user/max_user_namespaces",
                                        "/sys/fs/cgroup/cgroup.subtree_control"};
    static const char *const identities[] = {"/proc/self/exe", "/",
                                             "/etc",           "/usr",
                                             "/usr/local",     "/var",
                                             "/opt",           "/srv",
                                             "/home",          "/etc/passwd",
                                             "/etc/group",     "/etc/subuid",
                                             "/etc/subgid",    "/usr/bin/newuidmap"};
    struct utsname host;
    if (uname(&host) < 0 || add(key, &host, sizeof host) < 0) return -1;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (add_file(key, files[i]) < 0) return -1;
    for (size_t i = 0; i < sizeof identities / sizeof identities[0]; i++)
        if (add_identity(key, identities[i]) < 0) return -1;
    return add_images(key);
}

/* Our state folder, where nobody else can write. */
static int find_state(char *folder, size_t size) {
    const char *given = getenv("VISCUM_RUN"), *runtime = getenv("XDG_RUNTIME_DIR");
    struct stat is;
    if (given && *given == '/')
        snprintf(folder, size, "%s", given);
    else if (given && *given)
        return -1;
    else if (geteuid() == 0)
        snprintf(folder, size, "/run/viscum");
    else if (runtime && *runtime == '/')
        snprintf(folder, size, "%s/viscum", runtime);
    else
        return -1;
    if (lstat(folder, &is) < 0) return errno == ENOENT ? 0 : -1;
    return S_ISDIR(is.st_mode) && is.st_uid == geteuid() && !(is.st_mode & 022) ? 0 : -1;
}

static uint64_t hash(const char *data, size_t size, uint64_t seed) {
    uint64_t h = seed; /* FNV-1a: only names the file, the key in it decides */
    for (size_t i = 0; i < size; i++) h = (h ^ (unsigned char)data[i]) * 0x100000001b3ull;
    return h;
}

int vs_key_make(struct vs_key *key, int argc, char **argv) {
    key->data = malloc(MAX_KEY + 8);
    key->size = 0;
    key->path[0] = 0;
    if (!key->data || find_state(key->state, sizeof key->state) < 0) return -1;
    for (int i = 1; i < argc; i++)
        if (add_text(key, argv[i]) < 0) return -1;
    static const char *const variables[] = {
        "HOME",          "VISCUM_DATA",     "XDG_DATA_HOME",
        "VISCUM_POLICY", "XDG_CONFIG_HOME", "VISCUM_REGISTRIES_D"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        if (add_text(key, getenv(variables[i])) < 0) return -1;
    if (add_process(key) < 0 || add_host(key) < 0) return -1;
    snprintf(key->path, sizeof key->path, "%s/plans/%016llx", key->state,
             (unsigned long long)hash(key->data, key->size, 0xcbf29ce484222325ull));
    return 0;
}

static char *read_whole(const char *path, size_t *size) {
    struct stat is;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *data = NULL;
    if (fd >= 0 && fstat(fd, &is) == 0 && S_ISREG(is.st_mode) && is.st_uid == geteuid() &&
        is.st_size <= MAX_FILE)
        data = malloc((size_t)is.st_size + 1);
    if (data && read(fd, data, (size_t)is.st_size) != is.st_size) {
        free(data);
        data = NULL;
    }
    if (fd >= 0) close(fd);
    if (data) *size = (size_t)is.st_size;
    return data;
}

/* The next part of the file; NULL where it is cut short. */
static char *next_part(char **at, const char *end, size_t *size) {
    uint64_t length;
    if (end - *at < 8) return NULL;
    memcpy(&length, *at, 8);
    char *part = *at + 8;
    if (length > (uint64_t)(end - part)) return NULL;
    *size = (size_t)length;
    *at = part + length;
    return part;
}

/* Whether the policy's verdict on an image still holds (viscum.admission): from when until when,
 * then each file that it rests on, as a path and the identity that it had. */
static int conditions_hold(char *at, size_t size) {
    char *end = at + size;
    uint64_t times[2], known[6], now = (uint64_t)time(NULL);
    size_t length;
    char path[4096];
    if (size == 0) return 1; /* there is no image */
    char *part = next_part(&at, end, &length);
    if (!part || length != sizeof times) return 0;
    memcpy(times, part, sizeof times);
    if (now < times[0] || now >= times[1]) return 0;
    while (at < end) {
        struct stat is;
        uint64_t found[6] = {0};
        char *name = next_part(&at, end, &length);
        if (!name || length >= sizeof path) return 0;
        memcpy(path, name, length);
        path[length] = 0;
        part = next_part(&at, end, &length);
        if (!part || length != sizeof known) return 0;
        memcpy(known, part, sizeof known);
        if (stat(path, &is) == 0) {
            uint64_t own[6] = {is.st_dev,
                               is.st_ino,
                               is.st_mode,
                               (uint64_t)is.st_size,
                               (uint64_t)is.st_ctim.tv_sec,
                               (uint64_t)is.st_ctim.tv_nsec};
            memcpy(found, own, sizeof found);
        }
        if (memcmp(found, known, sizeof found) != 0) return 0;
    }
    return 1;
}

static char *copy(const char *part, size_t size) {
    char *data = malloc(size + 1); /* aligned, as the decoder wants it */
    if (!data) return NULL;
    memcpy(data, part, size);
    data[size] = 0;
    return data;
}

static int read_living(struct vs_remembered *remembered, char *at, const char *end) {
    char *config = next_part(&at, end, &remembered->config_size);
    char *settings = config ? next_part(&at, end, &remembered->settings_size) : NULL;
    if (!settings) return -1;
    remembered->lives = 1;
    remembered->config = copy(config, remembered->config_size);
    remembered->settings = copy(settings, remembered->settings_size);
    return remembered->config && remembered->settings ? 0 : -1;
}

int vs_remembered_read(const struct vs_key *key, struct vs_remembered *remembered) {
    size_t size, key_size, notes_size, conditions_size;
    char *data = read_whole(key->path, &size);
    *remembered = (struct vs_remembered){0};
    if (!data) return -1;
    char *at = data, *end = data + size;
    char *own = next_part(&at, end, &key_size);
    char *conditions = own ? next_part(&at, end, &conditions_size) : NULL;
    char *plan = conditions ? next_part(&at, end, &remembered->plan_size) : NULL;
    char *notes = plan ? next_part(&at, end, &notes_size) : NULL;
    if (!notes || key_size != key->size || memcmp(own, key->data, key_size) != 0) return -1;
    if (!conditions_hold(conditions, conditions_size)) return -1;
    remembered->plan = copy(plan, remembered->plan_size);
    remembered->notes = copy(notes, notes_size);
    if (!remembered->plan || !remembered->notes) return -1;
    if (at < end) return read_living(remembered, at, end);
    return sscanf(remembered->notes, "%d %d %63s %u %u", &remembered->interactive,
                  &remembered->oom_slot, remembered->oom_file, &remembered->uid,
                  &remembered->gid) == 5
               ? 0
               : -1;
}
