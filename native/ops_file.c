/* Files and folders below the new root. */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

static int open_below(int dir, const char *path, uint64_t flags, uint64_t mode, int no_links,
                      struct vs_fault *fault) {
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    if (no_links) how.resolve |= RESOLVE_NO_SYMLINKS;
    while (*path == '/') path++;
    long ret;
    do ret = CALL(fault, SYS_openat2, dir, *path ? path : ".", &how, sizeof how);
    while (ret == -EAGAIN); /* a rename raced with the walk */
    if (ret >= 0) *fault = (struct vs_fault){0};
    return (int)ret;
}

int vs_lookup(struct vs_child *c, uint64_t dir, const char *path, uint64_t flags, int how,
              struct vs_fault *fault) {
    if (dir == VS_NONE) return (int)CALL(fault, SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC);
    return open_below(c->slots[dir], path, flags, 0, how & VS_NO_LINKS, fault);
}

/* Open each leading folder of c->scratch in turn, making what is missing in the one before. */
static int make_folders(struct vs_child *c, int root, size_t length, struct vs_fault *fault) {
    char *path = c->scratch;
    int parent = open_below(root, "", O_PATH | O_DIRECTORY, 0, 0, fault);
    size_t start = 0;
    while (parent >= 0 && start < length) {
        size_t end = start;
        while (end < length && path[end] != '/') end++;
        char kept = path[end];
        path[end] = 0;
        int next = open_below(root, path, O_PATH | O_DIRECTORY, 0, 0, fault);
        if (next == -ENOENT && end > start) {
            long made = CALL(fault, SYS_mkdirat, parent, path + start, 0755);
            next = made < 0 && made != -EEXIST
                       ? (int)made
                       : open_below(root, path, O_PATH | O_DIRECTORY, 0, 0, fault);
        }
        path[end] = kept;
        SYS(SYS_close, parent);
        parent = next;
        start = end + 1;
    }
    return parent;
}

int vs_make_folders(struct vs_child *c, int root, const char *path, struct vs_fault *fault) {
    while (*path == '/') path++;
    size_t length = vs_len(path);
    if (length >= sizeof c->scratch) return vs_refuse(fault, ENAMETOOLONG);
    vs_copy(c->scratch, path, length + 1);
    return make_folders(c, root, length, fault);
}

int vs_lookup_or_make(struct vs_child *c, uint64_t dir, const char *path, int create,
                      struct vs_fault *fault) {
    int fd = vs_lookup(c, dir, path, O_PATH, create, fault);
    if (fd != -ENOENT || !(create & (VS_CREATE_FOLDER | VS_CREATE_FILE))) return fd;
    while (*path == '/') path++;
    size_t length = vs_len(path), folder = length;
    if (length >= sizeof c->scratch) return vs_refuse(fault, ENAMETOOLONG);
    vs_copy(c->scratch, path, length + 1);
    if (create & VS_CREATE_FOLDER) return make_folders(c, c->slots[dir], length, fault);
    while (folder && path[folder - 1] != '/') folder--;
    int parent = make_folders(c, c->slots[dir], folder, fault);
    if (parent < 0) return parent;
    int made = open_below(parent, path + folder, O_CREAT | O_EXCL | O_WRONLY, 0644, 1, fault);
    SYS(SYS_close, parent);
    if (made < 0) return made;
    SYS(SYS_close, made);
    return vs_lookup(c, dir, path, O_PATH, create, fault);
}

int vs_op_fail(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    return vs_refuse(fault, (int)(op->arg[0] & 0xfff));
}

/* Of a path in a folder that a machine has written to: open the folder it is in, following no link,
 * and leave the last name in `path`. */
static int open_parent(int dir, const char **path, struct vs_child *c, struct vs_fault *fault) {
    size_t length = vs_len(*path), folder = length;
    while (folder && (*path)[folder - 1] != '/') folder--;
    if (folder >= sizeof c->scratch) return vs_refuse(fault, ENAMETOOLONG);
    vs_copy(c->scratch, *path, folder);
    c->scratch[folder] = 0;
    *path += folder;
    return open_below(dir, c->scratch, O_PATH | O_DIRECTORY, 0, 1, fault);
}

static int make_folder(int dir, const char *path, uint64_t mode, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_mkdirat, dir, path, (int)mode & 0777);
    if (ret < 0 || !(mode & 07000)) return (int)ret; /* mkdir(2) leaves the sticky bit to chmod */
    return (int)CALL(fault, SYS_fchmodat, dir, path, (int)mode & 07777);
}

/* In the upper layer of an overlay with `userxattr` (Documentation/filesystems/overlayfs.rst). The
 * path is short and our own, so the working folder may stand in for the descriptor. */
static int make_opaque(int dir, const char *path, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_fchdir, dir);
    if (ret < 0) return (int)ret;
    return (int)CALL(fault, SYS_lsetxattr, path, "user.overlay.opaque", "y", 1, 0);
}

static int mkdir_op(struct vs_child *c, const struct vs_op *op, int opaque,
                    struct vs_fault *fault) {
    int keeps = (op->arg[2] & VS_KEEP) != 0, top = c->slots[op->arg[0]];
    const char *path = vs_string(c->machine, op->arg[1]);
    int dir = keeps ? open_parent(top, &path, c, fault) : top;
    if (dir < 0) return dir;
    int ret = make_folder(dir, path, op->arg[2], fault);
    if (ret >= 0 && opaque) ret = make_opaque(dir, path, fault);
    if (ret == -EEXIST && keeps) {
        *fault = (struct vs_fault){0};
        ret = 0;
    }
    if (keeps) SYS(SYS_close, dir);
    return ret;
}

int vs_op_mkdir(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return mkdir_op(c, op, 0, fault);
}

int vs_op_opaque(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return mkdir_op(c, op, 1, fault);
}

int vs_op_symlink(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return (int)CALL(fault, SYS_symlinkat, vs_string(c->machine, op->arg[2]), c->slots[op->arg[0]],
                     vs_string(c->machine, op->arg[1]));
}

static int write_all(int fd, const char *data, size_t size, struct vs_fault *fault) {
    long ret = 0;
    for (size_t done = 0; done < size && ret >= 0; done += (size_t)ret)
        ret = CALL(fault, SYS_write, fd, data + done, size - done);
    SYS(SYS_close, fd);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_file(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *data = vs_blob(c->machine->plan, op->arg[3], &size);
    int fd = open_below(c->slots[op->arg[0]], vs_string(c->machine, op->arg[1]),
                        O_CREAT | O_EXCL | O_WRONLY, op->arg[2] & 07777, 1, fault);
    if (fd == -EEXIST && op->arg[2] & VS_KEEP) {
        *fault = (struct vs_fault){0};
        return 0;
    }
    return fd < 0 ? fd : write_all(fd, data, size, fault);
}

int vs_op_node(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return (int)CALL(fault, SYS_mknodat, c->slots[op->arg[0]], vs_string(c->machine, op->arg[1]),
                     (unsigned)op->arg[2], op->arg[3]);
}

int vs_op_lookup(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int fd = vs_lookup(c, op->arg[1], vs_string(c->machine, op->arg[2]), op->arg[3], 0, fault);
    if (fd < 0) return fd;
    c->slots[op->arg[0]] = fd;
    return 0;
}

int vs_op_write(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *data = vs_string(c->machine, op->arg[2]);
    int fd = vs_lookup(c, op->arg[0], vs_string(c->machine, op->arg[1]), O_WRONLY, 0, fault);
    return fd < 0 ? fd : write_all(fd, data, vs_len(data), fault);
}
