/* Mounts and files of OCI containers: what images may have laid traps in. */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

int vs_op_set_attributes(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    struct mount_attr attr = {
        .attr_set = op->arg[1], .attr_clr = op->arg[2], .propagation = op->arg[3]};
    return (int)CALL(fault, SYS_mount_setattr, c->slots[op->arg[0]], "",
                     AT_EMPTY_PATH | (op->arg[4] ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

/* An IPC namespace that was made along with a user namespace has message queues that do not belong
 * to root of that: their folder keeps the label that the policy gives it. */
int vs_op_set_xattr(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *name = vs_string(c->machine, op->arg[1]),
               *value = vs_string(c->machine, op->arg[2]);
    long fd = CALL(fault, SYS_openat, c->slots[op->arg[0]], ".", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return (int)fd;
    long ret = CALL(fault, SYS_fsetxattr, fd, name, value, vs_len(value), 0);
    if (ret == -EPERM) *fault = (struct vs_fault){0};
    SYS(SYS_close, fd);
    return ret == -EPERM ? 0 : (int)ret;
}

/* Whether two descriptors are of the same folder. */
static int is_same(int fd, int other) {
    struct stat is, was;
    if (SYS(SYS_fstat, fd, &is) < 0 || SYS(SYS_fstat, other, &was) < 0) return 0;
    return is.st_dev == was.st_dev && is.st_ino == was.st_ino;
}

/* Hooks that enter this mount namespace before the pivot look for the container where its bundle
 * says. Root of a user namespace may be unable to get there, and another folder may stand there
 * meanwhile, even /dev, from which more is to be taken: then it lies over everything. */
int vs_op_cover(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const int flags = O_PATH | O_DIRECTORY;
    int to = vs_lookup(c, VS_NONE, vs_string(c->machine, op->arg[1]), flags, 0, fault);
    if (to >= 0 && !is_same(to, c->slots[op->arg[2]])) {
        SYS(SYS_close, to);
        to = -1;
    }
    *fault = (struct vs_fault){0};
    if (to < 0) to = vs_lookup(c, VS_NONE, "/", flags, 0, fault);
    if (to < 0) return to;
    long ret = CALL(fault, SYS_move_mount, c->slots[op->arg[0]], "", to, "",
                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    SYS(SYS_close, to);
    return (int)ret;
}

/* mountinfo lists mounts as they were made. What the parent cloned was made too early: it is put
 * aside, and what the container gets is a clone of that, with its ids and its peers. What stays
 * behind is nobody's peer any more, so that nothing follows it when it is unmounted. */
int vs_op_clone_anew(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    struct mount_attr attr = {.propagation = MS_PRIVATE};
    int early = c->slots[op->arg[0]];
    const unsigned flags = AT_EMPTY_PATH | (op->arg[1] ? AT_RECURSIVE : 0);
    long fd = CALL(fault, SYS_open_tree, early, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
    if (fd < 0) return (int)fd;
    c->slots[op->arg[0]] = (int)fd;
    long ret =
        CALL(fault, SYS_mount_setattr, early, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr);
    SYS(SYS_close, early);
    return (int)ret;
}

struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short size;
    unsigned char type;
    char name[];
};
#define LISTING   4096
#define MAX_DEPTH 64

static int copy_folder(int from, int to, int depth, struct vs_fault *fault);

static int copy_file(int from, int to, const char *name, const struct stat *is,
                     struct vs_fault *fault) {
    long in = CALL(fault, SYS_openat, from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0) return (int)in;
    long out = CALL(fault, SYS_openat, to, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
                    is->st_mode & 07777);
    long ret = out;
    while (ret > 0) ret = CALL(fault, SYS_sendfile, out, in, 0, 1 << 20);
    if (out >= 0) SYS(SYS_close, out);
    SYS(SYS_close, in);
    return (int)ret;
}

static int copy_link(int from, int to, const char *name, struct vs_fault *fault) {
    char target[1024];
    long n = CALL(fault, SYS_readlinkat, from, name, target, sizeof target - 1);
    if (n < 0) return (int)n;
    target[n] = 0;
    return (int)CALL(fault, SYS_symlinkat, target, to, name);
}

static int copy_inner(int from, int to, const char *name, int depth, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_mkdirat, to, name, 0700);
    if (ret < 0) return (int)ret;
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    long in = CALL(fault, SYS_openat, from, name, flags);
    long out = in < 0 ? in : CALL(fault, SYS_openat, to, name, flags);
    ret = out < 0 ? out : copy_folder((int)in, (int)out, depth + 1, fault);
    if (in >= 0) SYS(SYS_close, in);
    if (out >= 0) SYS(SYS_close, out);
    return (int)ret;
}

static int copy_entry(int from, int to, const char *name, int depth, struct vs_fault *fault) {
    struct stat is;
    long ret = CALL(fault, SYS_newfstatat, from, name, &is, AT_SYMLINK_NOFOLLOW);
    if (ret < 0) return (int)ret;
    if (S_ISDIR(is.st_mode))
        ret = copy_inner(from, to, name, depth, fault);
    else if (S_ISLNK(is.st_mode))
        ret = copy_link(from, to, name, fault);
    else if (S_ISREG(is.st_mode))
        ret = copy_file(from, to, name, &is, fault);
    else
        ret = CALL(fault, SYS_mknodat, to, name, is.st_mode, is.st_rdev);
    if (ret < 0) return (int)ret;
    ret = CALL(fault, SYS_fchownat, to, name, is.st_uid, is.st_gid, AT_SYMLINK_NOFOLLOW);
    if (ret < 0 || S_ISLNK(is.st_mode)) return (int)ret;
    return (int)CALL(fault, SYS_fchmodat, to, name, is.st_mode & 07777);
}

/* The list lies in memory of its own: the stack is small. */
static int copy_folder(int from, int to, int depth, struct vs_fault *fault) {
    if (depth > MAX_DEPTH) return vs_refuse(fault, ELOOP);
    char *list = (char *)CALL(fault, SYS_mmap, 0, LISTING, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fault->err) return -fault->err;
    long n = 0, ret = 0;
    while (ret >= 0 && (n = CALL(fault, SYS_getdents64, from, list, LISTING)) > 0) {
        for (long at = 0; at < n && ret >= 0;) {
            struct entry *entry = (struct entry *)(list + at);
            if (vs_is_plain(entry->name)) ret = copy_entry(from, to, entry->name, depth, fault);
            at += entry->size;
        }
    }
    SYS(SYS_munmap, list, LISTING);
    return ret < 0 ? (int)ret : (int)n;
}

int vs_op_cover_copy(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    struct stat is;
    int from = vs_lookup(c, op->arg[1], vs_string(c->machine, op->arg[2]), flags, 0, fault);
    if (from == -ENOENT) {
        *fault = (struct vs_fault){0};
        return 0; /* nothing is hidden */
    }
    if (from < 0) return from;
    long ret = CALL(fault, SYS_fstat, from, &is);
    long to = ret < 0 ? ret : CALL(fault, SYS_openat, c->slots[op->arg[0]], ".", flags);
    if (to >= 0) {
        ret = copy_folder(from, (int)to, 0, fault);
        if (ret >= 0) ret = CALL(fault, SYS_fchown, to, is.st_uid, is.st_gid);
        if (ret >= 0) ret = CALL(fault, SYS_fchmod, to, is.st_mode & 07777);
        SYS(SYS_close, to);
    }
    SYS(SYS_close, from);
    return ret < 0 ? (int)ret : (int)(to < 0 ? to : 0);
}

/* Open the folder of `name` below slot `dir`, made where it is missing; `base` is what remains. */
static int folder_of(struct vs_child *c, uint64_t dir, const char *name, const char **base,
                     struct vs_fault *fault) {
    char path[4096];
    size_t size = vs_len(name), start = size;
    if (size >= sizeof path) return vs_refuse(fault, ENAMETOOLONG);
    vs_copy(path, name, size + 1);
    while (start && path[start - 1] != '/') start--;
    *base = name + start;
    if (!vs_is_plain(*base)) return vs_refuse(fault, EINVAL);
    path[start ? start - 1 : 0] = 0;
    int fd = vs_make_folders(c, c->slots[dir], path, fault);
    if (fd >= 0) *fault = (struct vs_fault){0};
    return fd;
}

/* Something of that name that the root brought gives way; a folder stays, and is an error. */
int vs_op_device_node(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *name;
    unsigned mode = (unsigned)op->arg[2];
    int dir = folder_of(c, op->arg[0], vs_string(c->machine, op->arg[1]), &name, fault);
    if (dir < 0) return dir;
    SYS(SYS_unlinkat, dir, name, 0);
    long ret = CALL(fault, SYS_mknodat, dir, name, mode, op->arg[3]);
    if (ret >= 0) ret = CALL(fault, SYS_fchmodat, dir, name, mode & 07777);
    if (ret >= 0)
        ret = CALL(fault, SYS_fchownat, dir, name, op->arg[4], op->arg[5], AT_SYMLINK_NOFOLLOW);
    SYS(SYS_close, dir);
    return (int)ret;
}

/* What is there already stays. */
int vs_op_device_link(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *name;
    int dir = folder_of(c, op->arg[0], vs_string(c->machine, op->arg[1]), &name, fault);
    if (dir < 0) return dir;
    long ret = CALL(fault, SYS_symlinkat, vs_string(c->machine, op->arg[2]), dir, name);
    if (ret == -EEXIST) *fault = (struct vs_fault){0};
    SYS(SYS_close, dir);
    return ret < 0 && ret != -EEXIST ? (int)ret : 0;
}

/* Lay a clone of the mount `from` over the open file `to`, and close that. */
static int cover(int from, int to, unsigned deep, uint64_t set, struct vs_fault *fault) {
    struct mount_attr attr = {.attr_set = set};
    long tree = CALL(fault, SYS_open_tree, from, "",
                     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | deep);
    long ret = tree;
    if (ret >= 0 && set)
        ret = CALL(fault, SYS_mount_setattr, tree, "", AT_EMPTY_PATH | deep, &attr, sizeof attr);
    if (ret >= 0)
        ret = CALL(fault, SYS_move_mount, tree, "", to, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (tree >= 0) SYS(SYS_close, tree);
    SYS(SYS_close, to);
    return (int)ret;
}

static int is_absent(int ret, struct vs_fault *fault) {
    if (ret != -ENOENT && ret != -ENOTDIR) return 0;
    *fault = (struct vs_fault){0};
    return 1;
}

/* What is attached nowhere can be cloned from Linux 6.15 on. Before, it is attached itself the
 * first time; from then on there is something to clone. */
static int hide(int from, int to, struct vs_fault *fault) {
    long tree = SYS(SYS_open_tree, from, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0 && tree != -EINVAL) vs_refuse(fault, (int)-tree);
    long ret = tree < 0 && tree != -EINVAL
                   ? tree
                   : CALL(fault, SYS_move_mount, tree < 0 ? from : tree, "", to, "",
                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (tree >= 0) SYS(SYS_close, tree);
    SYS(SYS_close, to);
    return (int)ret;
}

int vs_op_mask(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    struct stat is;
    int to = vs_lookup(c, op->arg[0], vs_string(c->machine, op->arg[1]), O_PATH, 0, fault);
    if (to < 0) return is_absent(to, fault) ? 0 : to;
    long ret = CALL(fault, SYS_fstat, to, &is);
    if (ret >= 0) return hide(c->slots[op->arg[S_ISDIR(is.st_mode) ? 3 : 2]], to, fault);
    SYS(SYS_close, to);
    return (int)ret;
}

int vs_op_read_only(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int to = vs_lookup(c, op->arg[0], vs_string(c->machine, op->arg[1]), O_PATH, 0, fault);
    if (to < 0) return is_absent(to, fault) ? 0 : to;
    return cover(to, to, AT_RECURSIVE, MOUNT_ATTR_RDONLY, fault);
}

/* Without pivot_root, which cannot leave the first root file system: the old root stays below. */
int vs_op_move_root(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_fchdir, c->slots[op->arg[0]]);
    if (ret >= 0) ret = CALL(fault, SYS_chroot, ".");
    if (ret >= 0) ret = CALL(fault, SYS_chdir, "/");
    return (int)ret;
}

/* A folder that a link of /proc leads to may lie outside of the root (CVE-2024-21626): such links
 * are not followed, and the kernel must find a path to the folder. */
int vs_op_inner_folder(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *path = vs_string(c->machine, op->arg[0]);
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    char where[16];
    long root = CALL(fault, SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return (int)root;
    long fd = CALL(fault, SYS_openat2, root, path, &how, sizeof how);
    if (fd == -ENOENT && op->arg[1]) fd = vs_make_folders(c, (int)root, path, fault);
    if (fd >= 0) *fault = (struct vs_fault){0};
    SYS(SYS_close, root);
    if (fd < 0) return (int)fd;
    long ret = CALL(fault, SYS_fchdir, fd);
    SYS(SYS_close, fd);
    if (ret < 0) return (int)ret;
    long n = SYS(SYS_getcwd, where, sizeof where);
    if (n == -ERANGE) n = SYS(SYS_getcwd, c->scratch, sizeof c->scratch), where[0] = c->scratch[0];
    return n > 0 && where[0] == '/' ? 0 : vs_refuse(fault, ENOENT);
}
