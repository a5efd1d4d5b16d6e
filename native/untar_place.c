/* What the entries of a layer become. Names are created in a folder that is held open, so no
 * path is walked twice and none is walked outside. */
#include "tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WHITEOUT    ".wh."
#define OPAQUE      ".wh..wh..opq"
#define MAX_DEPTH   1024
#define MAX_MISSING 65536

/* umask(2) can only be read by setting it, which other threads would notice. */
static uint32_t read_umask(void) {
    char line[256];
    unsigned mask = 077;
    FILE *file = fopen("/proc/self/status", "re");
    if (!file) return mask;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Umask: %o", &mask) == 1) break;
    fclose(file);
    return mask;
}

int vs_place_init(struct vs_place *place, int root, unsigned flags) {
    memset(place, 0, sizeof *place);
    for (size_t i = 0; i < sizeof place->near / sizeof place->near[0]; i++) place->near[i].fd = -1;
    place->root = root;
    place->flags = flags;
    place->umask = read_umask();
    place->uid = geteuid();
    place->gid = getegid();
    if (getrandom(&place->seed, sizeof place->seed, 0) != sizeof place->seed) return vs_fail(place);
    return vs_folder_note(place, "") ? 0 : VS_TAR_MEMORY;
}

void vs_place_free(struct vs_place *place) {
    vs_forget_parents(place);
    for (size_t i = 0; i < place->folder_count; i++) free(place->folders[i].path);
    for (size_t i = 0; i < place->missing_count; i++) {
        free(place->missing[i].name);
        free(place->missing[i].target);
    }
    free(place->folders);
    free(place->index);
    free(place->missing);
    if (place->root >= 0) close(place->root);
}

/* Remove a folder of this layer with all that is in it. */
static int remove_tree(int dir, const char *name, int depth) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) return -1;
    struct dirent *entry;
    int ret = depth > MAX_DEPTH ? -1 : 0;
    if (ret) errno = ELOOP;
    while (!ret && (entry = readdir(list))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        ret = unlinkat(fd, entry->d_name, 0);
        if (ret && (errno == EISDIR || errno == EPERM))
            ret = remove_tree(fd, entry->d_name, depth + 1);
    }
    closedir(list);
    return ret ? -1 : unlinkat(dir, name, AT_REMOVEDIR);
}

/* Make room for a later entry of the same name. What is held open may not be in the tree any
 * more: it is let go before the next entry, since this one still uses it. */
static int clear(struct vs_place *place, int dir, const char *name) {
    place->stale = 1;
    if (!unlinkat(dir, name, 0)) return 0;
    if (errno != EISDIR && errno != EPERM) return vs_fail(place);
    return remove_tree(dir, name, 0) ? vs_fail(place) : 0;
}

static int wanted_xattr(const char *name) {
    if (!strncmp(name, "user.overlay.", 13)) return 0; /* would direct overlayfs */
    return !strncmp(name, "user.", 5) || !strcmp(name, "security.capability") ||
           !strncmp(name, "system.posix_acl_", 17);
}

static int set_xattrs(struct vs_place *place, const struct vs_tar_entry *entry, int fd) {
    for (unsigned i = 0; i < entry->xattr_count; i++) {
        const struct vs_tar_xattr *x = &entry->xattrs[i];
        if (!wanted_xattr(x->name) || !fsetxattr(fd, x->name, x->value, x->size, 0)) continue;
        if (errno != EOPNOTSUPP && errno != EPERM) return vs_fail(place);
        place->skipped++;
    }
    return 0;
}

static int needs_owner(const struct vs_place *place, const struct vs_tar_entry *entry) {
    return place->flags & VS_UNTAR_OWNERS &&
           (entry->uid != (int64_t)place->uid || entry->gid != (int64_t)place->gid);
}

static struct timespec *times_of(const struct vs_tar_entry *entry, struct timespec times[2]) {
    times[0] = times[1] = (struct timespec){entry->mtime, entry->nanoseconds};
    return times;
}

/* Owner before mode: chown(2) takes setuid away. File capabilities come after both. */
int vs_place_file_done(struct vs_place *place, const struct vs_tar_entry *entry, int fd) {
    struct timespec times[2];
    int owned = needs_owner(place, entry);
    if (entry->has & VS_HAS_SPARSE && ftruncate(fd, entry->real_size)) return vs_fail(place);
    if (owned && fchown(fd, (uid_t)entry->uid, (gid_t)entry->gid)) return vs_fail(place);
    if ((owned || entry->mode & 07000 || entry->mode & place->umask) && fchmod(fd, entry->mode))
        return vs_fail(place);
    int reason = entry->xattr_count ? set_xattrs(place, entry, fd) : 0;
    if (!reason && futimens(fd, times_of(entry, times))) return vs_fail(place);
    return reason;
}

static int place_file(struct vs_place *place, struct vs_tar_entry *entry, int dir, const char *name,
                      int *fd) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    *fd = openat(dir, name, flags, entry->mode & 0777);
    if (*fd >= 0) return 0;
    return vs_fail(place);
}

static int place_folder(struct vs_place *place, const struct vs_tar_entry *entry, int dir,
                        const char *path, const char *name) {
    struct stat is;
    int over = 0;
    if (!*name)
        name = ".";
    else if (mkdirat(dir, name, 0700 | (entry->mode & 0777))) {
        if (errno != EEXIST || fstatat(dir, name, &is, AT_SYMLINK_NOFOLLOW)) return vs_fail(place);
        if (!S_ISDIR(is.st_mode)) {
            over = S_ISCHR(is.st_mode) && is.st_rdev == 0;
            if (clear(place, dir, name) || mkdirat(dir, name, 0700)) return vs_fail(place);
        }
    }
    struct vs_folder *folder = vs_folder_note(place, path);
    if (!folder) return VS_TAR_MEMORY;
    folder->told = 1;
    folder->mode = entry->mode;
    folder->mtime = entry->mtime;
    folder->nanoseconds = entry->nanoseconds;
    int reason = over ? vs_set_opaque(place, dir, name) : 0;
    if (reason || (!needs_owner(place, entry) && !entry->xattr_count)) return reason;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return vs_fail(place);
    if (needs_owner(place, entry) && fchown(fd, (uid_t)entry->uid, (gid_t)entry->gid))
        reason = vs_fail(place);
    if (!reason) reason = set_xattrs(place, entry, fd);
    close(fd);
    return reason;
}

/* Symbolic links, devices and fifos have no descriptor to work through. */
static int finish_node(struct vs_place *place, const struct vs_tar_entry *entry, int dir,
                       const char *name, int mode) {
    struct timespec times[2];
    if (needs_owner(place, entry) &&
        fchownat(dir, name, (uid_t)entry->uid, (gid_t)entry->gid, AT_SYMLINK_NOFOLLOW))
        return vs_fail(place);
    if (mode && fchmodat(dir, name, entry->mode, 0)) return vs_fail(place);
    if (utimensat(dir, name, times_of(entry, times), AT_SYMLINK_NOFOLLOW)) return vs_fail(place);
    return 0;
}

static int place_node(struct vs_place *place, const struct vs_tar_entry *entry, int dir,
                      const char *name) {
    mode_t kind = entry->type == '3' ? S_IFCHR : entry->type == '4' ? S_IFBLK : S_IFIFO;
    dev_t number = makedev((unsigned)entry->major, (unsigned)entry->minor);
    int whiteout = kind == S_IFCHR && !number;
    if (kind != S_IFIFO && !whiteout && !(place->flags & VS_UNTAR_DEVICES)) {
        place->skipped++;
        return 0;
    }
    if (mknodat(dir, name, kind | (entry->mode & 0777), number)) return vs_fail(place);
    return finish_node(place, entry, dir, name, !whiteout);
}

static int note_missing(struct vs_place *place, const char *name, const char *target) {
    if (place->missing_count == MAX_MISSING) return VS_TAR_MANY;
    size_t size = (place->missing_count + 1) * sizeof *place->missing;
    struct vs_missing *missing = realloc(place->missing, size);
    if (!missing) return VS_TAR_MEMORY;
    place->missing = missing;
    missing += place->missing_count++;
    *missing = (struct vs_missing){strdup(name), strdup(target)};
    return missing->name && missing->target ? 0 : VS_TAR_MEMORY;
}

/* The target's folder is looked up without being made: what is not there may be in a layer
 * below, and is told. */
static int place_link(struct vs_place *place, struct vs_tar_entry *entry, int dir, const char *path,
                      const char *name) {
    char *slash = strrchr(entry->target, '/');
    const char *last = slash ? slash + 1 : entry->target;
    if (slash) *slash = 0;
    long from = vs_open_inside(place->root, slash ? entry->target : "", O_PATH | O_DIRECTORY);
    if (slash) *slash = '/';
    int hidden = from >= 0 && vs_is_whiteout((int)from, last);
    if (hidden) errno = ENOENT;
    int ret = from < 0 || hidden ? -1 : linkat((int)from, last, dir, name, 0);
    int error = errno;
    if (from >= 0) close((int)from);
    if (!ret) return 0;
    if (error == ENOENT || error == ENOTDIR) return note_missing(place, path, entry->target);
    errno = error;
    return vs_fail(place);
}

/* ".wh.NAME" hides what layers below have; a folder that this layer makes anew is opaque. */
static int place_whiteout(struct vs_place *place, int dir, const char *name) {
    struct stat is;
    if (!strcmp(name, OPAQUE)) return vs_set_opaque(place, dir, ".");
    if (!strncmp(name, ".wh..wh.", 8)) return 0; /* aufs's own */
    name += strlen(WHITEOUT);
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) return VS_TAR_NAME;
    if (!mknodat(dir, name, S_IFCHR, 0)) return 0;
    if (errno != EEXIST || fstatat(dir, name, &is, AT_SYMLINK_NOFOLLOW)) return vs_fail(place);
    return S_ISDIR(is.st_mode) ? vs_set_opaque(place, dir, name) : 0;
}

static int place_at(struct vs_place *place, struct vs_tar_entry *entry, int dir, const char *path,
                    const char *name, int *fd) {
    if (entry->type == '0' || entry->type == 'S') return place_file(place, entry, dir, name, fd);
    if (entry->type == '1') return place_link(place, entry, dir, path, name);
    if (entry->type != '2') return place_node(place, entry, dir, name);
    if (symlinkat(entry->target, dir, name)) return vs_fail(place);
    return finish_node(place, entry, dir, name, 0);
}

int vs_place_entry(struct vs_place *place, struct vs_tar_entry *entry, char *path, int *fd) {
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (slash) *slash = 0;
    int dir = vs_parent(place, slash ? path : "");
    if (slash) *slash = '/';
    if (dir < 0) return -dir;
    if (!strncmp(name, WHITEOUT, strlen(WHITEOUT))) return place_whiteout(place, dir, name);
    if (entry->type == '5') return place_folder(place, entry, dir, path, name);
    if (!*name) return VS_TAR_NAME;
    int reason = place_at(place, entry, dir, path, name, fd);
    if (reason != VS_TAR_SYSTEM || place->error != EEXIST) return reason;
    if (entry->type == '1' && !strcmp(entry->target, path)) return 0; /* a link to itself */
    reason = clear(place, dir, name);
    return reason ? reason : place_at(place, entry, dir, path, name, fd);
}

int vs_place_finish(struct vs_place *place) { return vs_finish_folders(place); }
