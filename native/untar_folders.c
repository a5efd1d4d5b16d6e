/* The folders of a layer that is being unpacked. Every path is resolved by the kernel inside of
 * the layer (openat2, RESOLVE_IN_ROOT), so a symbolic link of the archive leads nowhere else. */
#include "sys.h"
#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NEAR (sizeof((struct vs_place *)0)->near / sizeof((struct vs_place *)0)->near[0])

int vs_fail(struct vs_place *place) {
    place->error = errno;
    return VS_TAR_SYSTEM;
}

long vs_open_inside(int root, const char *path, uint64_t flags) {
    struct open_how how = {.flags = flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
    long fd = SYS(SYS_openat2, root, *path ? path : ".", &how, sizeof how);
    if (fd < 0) errno = (int)-fd;
    return fd < 0 ? -1 : fd;
}

/* FNV-1a from a secret start: nobody can prepare names that collide. */
static uint64_t hash(uint64_t seed, const char *path) {
    uint64_t h = seed ^ 0xcbf29ce484222325ull;
    for (; *path; path++) h = (h ^ (unsigned char)*path) * 0x100000001b3ull, h ^= h >> 29;
    return h;
}

static int grow_index(struct vs_place *place) {
    size_t size = place->index_size ? place->index_size * 2 : 1024;
    uint32_t *index = calloc(size, sizeof *index);
    if (!index) return -1;
    for (size_t i = 0; i < place->folder_count; i++) {
        size_t at = hash(place->seed, place->folders[i].path) & (size - 1);
        while (index[at]) at = (at + 1) & (size - 1);
        index[at] = (uint32_t)i + 1;
    }
    free(place->index);
    place->index = index;
    place->index_size = size;
    return 0;
}

static int grow_folders(struct vs_place *place) {
    size_t room = place->folder_room ? place->folder_room * 2 : 256;
    struct vs_folder *folders = realloc(place->folders, room * sizeof *folders);
    if (!folders) return -1;
    place->folders = folders;
    place->folder_room = room;
    return 0;
}

/* The record of the folder at `path`, made where there is none; NULL without memory. */
struct vs_folder *vs_folder_note(struct vs_place *place, const char *path) {
    if ((place->folder_count + 1) * 2 > place->index_size && grow_index(place)) return NULL;
    size_t at = hash(place->seed, path) & (place->index_size - 1);
    for (; place->index[at]; at = (at + 1) & (place->index_size - 1)) {
        struct vs_folder *known = &place->folders[place->index[at] - 1];
        if (!strcmp(known->path, path)) return known;
    }
    if (place->folder_count == place->folder_room && grow_folders(place)) return NULL;
    struct vs_folder *folder = &place->folders[place->folder_count];
    *folder = (struct vs_folder){.path = strdup(path), .mode = 0755};
    if (!folder->path) return NULL;
    place->index[at] = (uint32_t)++place->folder_count;
    return folder;
}

void vs_forget_parents(struct vs_place *place) {
    place->stale = 0;
    for (size_t i = 0; i < NEAR; i++) {
        if (place->near[i].fd >= 0) close(place->near[i].fd);
        place->near[i].fd = -1;
    }
}

int vs_is_whiteout(int dir, const char *name) {
    struct stat is;
    return !fstatat(dir, name, &is, AT_SYMLINK_NOFOLLOW) && S_ISCHR(is.st_mode) && is.st_rdev == 0;
}

/* Both names are written where they can be: which one overlayfs reads depends on how it is
 * mounted (userxattr). */
int vs_set_opaque(struct vs_place *place, int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return vs_fail(place);
    int ret = fsetxattr(fd, "user.overlay.opaque", "y", 1, 0);
    if (!ret && place->flags & VS_UNTAR_TRUSTED)
        ret = fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0);
    int reason = ret ? vs_fail(place) : 0;
    close(fd);
    return reason;
}

/* One folder that the archive did not mention before what is in it. */
static int make_folder(struct vs_place *place, int dir, const char *path, const char *name) {
    int over = 0;
    if (mkdirat(dir, name, 0755)) {
        if (errno != EEXIST) return vs_fail(place);
        if (!vs_is_whiteout(dir, name)) return VS_TAR_IN_THE_WAY;
        if (unlinkat(dir, name, 0) || mkdirat(dir, name, 0755)) return vs_fail(place);
        over = 1;
    }
    if (!vs_folder_note(place, path)) return VS_TAR_MEMORY;
    return over ? vs_set_opaque(place, dir, name) : 0;
}

/* Make what is missing of the folder at `path`; a negative reason, or its descriptor. */
static int make_folders(struct vs_place *place, const char *path) {
    char part[VS_TAR_PATH + 1];
    size_t size = strlen(path), from = 0;
    int dir = fcntl(place->root, F_DUPFD_CLOEXEC, 3);
    for (size_t n = 1; dir >= 0 && n <= size; n++) {
        if (n < size && path[n] != '/') continue;
        memcpy(part, path, n);
        part[n] = 0;
        long fd = vs_open_inside(place->root, part, O_PATH | O_DIRECTORY);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
            int reason = make_folder(place, dir, part, part + from);
            if (reason) return close(dir), -reason;
            fd = vs_open_inside(place->root, part, O_PATH | O_DIRECTORY);
        }
        int error = errno;
        close(dir);
        errno = error;
        dir = (int)fd;
        from = n + 1;
    }
    return dir < 0 ? -vs_fail(place) : dir;
}

/* A descriptor of the folder at `path` (clean, "" is the root), kept until others push it out;
 * a negative reason where there can be none. */
int vs_parent(struct vs_place *place, const char *path) {
    size_t oldest = 0;
    if (place->stale) vs_forget_parents(place);
    for (size_t i = 0; i < NEAR; i++) {
        if (place->near[i].fd >= 0 && !strcmp(place->near[i].path, path)) {
            place->near[i].used = ++place->clock;
            return place->near[i].fd;
        }
        if (place->near[i].fd < 0 || place->near[i].used < place->near[oldest].used) oldest = i;
        if (place->near[i].fd < 0) place->near[i].used = 0;
    }
    long fd = vs_open_inside(place->root, path, O_PATH | O_DIRECTORY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        fd = make_folders(place, path);
    else if (fd < 0)
        return -vs_fail(place);
    if (fd < 0) return (int)fd;
    if (place->near[oldest].fd >= 0) close(place->near[oldest].fd);
    place->near[oldest].fd = (int)fd;
    place->near[oldest].used = ++place->clock;
    strcpy(place->near[oldest].path, path);
    return (int)fd;
}

static int longest_first(const void *a, const void *b) {
    size_t left = strlen(((const struct vs_folder *)a)->path);
    size_t right = strlen(((const struct vs_folder *)b)->path);
    return left < right ? 1 : left > right ? -1 : 0;
}

/* Modes and times of folders come last: putting things in them changes times, and needs modes.
 * What is deeper comes first, so that a folder can still be passed through. */
int vs_finish_folders(struct vs_place *place) {
    vs_forget_parents(place);
    if (place->folder_count)
        qsort(place->folders, place->folder_count, sizeof *place->folders, longest_first);
    for (size_t i = 0; i < place->folder_count; i++) {
        struct vs_folder *folder = &place->folders[i];
        long fd = vs_open_inside(place->root, folder->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
            folder->told = 1; /* it was replaced later in the archive */
            continue;
        }
        if (fd < 0) return vs_fail(place);
        struct timespec times[2] = {{folder->mtime, folder->nanoseconds},
                                    {folder->mtime, folder->nanoseconds}};
        int ret = folder->told ? fchmod((int)fd, folder->mode) : 0;
        if (!ret && folder->told) ret = futimens((int)fd, times);
        int reason = ret ? vs_fail(place) : 0;
        close((int)fd);
        if (reason) return reason;
    }
    return 0;
}
