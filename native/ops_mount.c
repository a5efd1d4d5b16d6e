/* The mount tree of a machine, through descriptors (fsopen, open_tree, move_mount). */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/stat.h>
#include <sys/mount.h>

#define MAX_STACKED 64

int vs_op_propagation(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    return (int)CALL(fault, SYS_mount, 0, "/", 0, op->arg[0], 0);
}

/* Pairs of key and value; a key with an empty value is a flag. */
static int configure(int context, const char *options, uint32_t size, struct vs_fault *fault) {
    for (uint32_t at = 0; at < size;) {
        const char *key = options + at, *value = key + vs_len(key) + 1;
        if (value >= options + size) return vs_refuse(fault, EINVAL);
        long ret = *value ? CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0)
                          : CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_FLAG, key, 0, 0);
        if (ret < 0) return (int)ret;
        at = (uint32_t)(value + vs_len(value) + 1 - options);
    }
    return 0;
}

static int create_mount(struct vs_child *c, int context, uint64_t slot, uint64_t attributes,
                        struct vs_fault *fault) {
    long ret = CALL(fault, SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (ret < 0) return (int)ret;
    ret = CALL(fault, SYS_fsmount, context, FSMOUNT_CLOEXEC, (unsigned)attributes);
    if (ret < 0) return (int)ret;
    c->slots[slot] = (int)ret;
    return 0;
}

int vs_op_fsmount(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *options = vs_blob(c->machine->plan, op->arg[3], &size);
    const char *source = vs_string(c->machine, op->arg[2]);
    long context =
        CALL(fault, SYS_fsopen, vs_string(c->machine, op->arg[1]), (unsigned)FSOPEN_CLOEXEC);
    if (context < 0) return (int)context;
    long ret = 0;
    if (*source) ret = CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", source, 0);
    if (ret >= 0) ret = configure((int)context, options, size, fault);
    if (ret >= 0) ret = create_mount(c, (int)context, op->arg[0], op->arg[4], fault);
    SYS(SYS_close, context);
    return (int)ret;
}

/* "/proc/self/fd/N" with `tail` behind it; returns its length. */
static size_t fd_path(char *out, int fd, const char *tail) {
    vs_copy(out, "/proc/self/fd/", 14);
    size_t n = 14 + vs_decimal(out + 14, (uint64_t)fd), size = vs_len(tail);
    vs_copy(out + n, tail, size + 1);
    return n + size;
}

/* Few layers fit one string, as every kernel takes it; more go one by one (Linux 6.5). */
static int set_lower(struct vs_child *c, int context, uint64_t lower, struct vs_fault *fault) {
    const struct vs_plan *plan = c->machine->plan;
    uint32_t count = (uint32_t)lower / 2;
    char *text = c->scratch;
    size_t n = 0;
    if (count > 8) {
        for (uint32_t i = 0; i < count; i++) {
            fd_path(text, c->slots[vs_listed(plan, lower, i)], "");
            long ret =
                CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_STRING, "lowerdir+", text, 0);
            if (ret < 0) return (int)ret;
        }
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i) text[n++] = ':';
        n += fd_path(text + n, c->slots[vs_listed(plan, lower, i)], "");
    }
    return (int)CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_STRING, "lowerdir", text, 0);
}

static int set_folder(struct vs_child *c, int context, const char *key, int fd, const char *name,
                      struct vs_fault *fault) {
    char *text = c->scratch;
    if (vs_len(name) > 200) return vs_refuse(fault, ENAMETOOLONG);
    size_t n = fd_path(text, fd, "/");
    vs_copy(text + n, name, vs_len(name) + 1);
    return (int)CALL(fault, SYS_fsconfig, context, FSCONFIG_SET_STRING, key, text, 0);
}

int vs_op_overlay(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *options = vs_blob(c->machine->plan, op->arg[5], &size);
    int scratch = c->slots[op->arg[2]];
    long context = CALL(fault, SYS_fsopen, "overlay", (unsigned)FSOPEN_CLOEXEC);
    if (context < 0) return (int)context;
    int fd = (int)context;
    long ret = set_lower(c, fd, op->arg[1], fault);
    if (ret >= 0)
        ret = set_folder(c, fd, "upperdir", scratch, vs_string(c->machine, op->arg[3]), fault);
    if (ret >= 0)
        ret = set_folder(c, fd, "workdir", scratch, vs_string(c->machine, op->arg[4]), fault);
    if (ret >= 0) ret = configure(fd, options, size, fault);
    if (ret >= 0) ret = create_mount(c, fd, op->arg[0], op->arg[6], fault);
    SYS(SYS_close, fd);
    return (int)ret;
}

static int set_attributes(int fd, uint64_t set, int deep, struct vs_fault *fault) {
    struct mount_attr attr = {.attr_set = set};
    return (int)CALL(fault, SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (deep ? AT_RECURSIVE : 0),
                     &attr, sizeof attr);
}

int vs_op_clone_tree(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int deep = op->arg[3] != 0;
    int from = vs_lookup(c, op->arg[1], vs_string(c->machine, op->arg[2]), O_PATH, 0, fault);
    if (from < 0) return from;
    long fd = CALL(fault, SYS_open_tree, from, "",
                   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (deep ? AT_RECURSIVE : 0));
    SYS(SYS_close, from);
    if (fd < 0) return (int)fd;
    c->slots[op->arg[0]] = (int)fd;
    return op->arg[4] ? set_attributes((int)fd, op->arg[4], deep, fault) : 0;
}

int vs_op_attach(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *target = vs_string(c->machine, op->arg[2]);
    int create = (int)op->arg[3];
    int to = op->arg[1] == VS_NONE ? vs_lookup(c, VS_NONE, target, O_PATH | O_DIRECTORY, 0, fault)
                                   : vs_lookup_or_make(c, op->arg[1], target, create, fault);
    if (to < 0) return to;
    long ret = CALL(fault, SYS_move_mount, c->slots[op->arg[0]], "", to, "",
                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    SYS(SYS_close, to);
    return (int)ret;
}

int vs_op_seal(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int fd = vs_lookup(c, op->arg[0], vs_string(c->machine, op->arg[1]), O_PATH, 0, fault);
    if (fd < 0) return fd;
    int ret = set_attributes(fd, op->arg[2], op->arg[3] != 0, fault);
    SYS(SYS_close, fd);
    return ret;
}

/* The id of the mount that `path` leads to, with what is mounted over it; 0 on failure. */
static uint64_t mount_id(int dir, const char *path, int flags) {
    struct statx is;
    if (SYS(SYS_statx, dir, path, flags, STATX_MNT_ID, &is) < 0) return 0;
    return is.stx_mask & STATX_MNT_ID ? is.stx_mnt_id : 0;
}

/* pivot_root(2), "pivot_root(".", ".")": the old root, with the scratch mounts that were stacked
 * on it, ends up on top of the new one and is unmounted from there, with no folder needed for it.
 * ".." follows mounts over the root where "/" does not: it tells when the last one is gone. */
int vs_op_pivot(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int root = c->slots[op->arg[0]];
    uint64_t own = mount_id(root, "", AT_EMPTY_PATH);
    long ret = CALL(fault, SYS_fchdir, root);
    if (ret >= 0) ret = CALL(fault, SYS_pivot_root, ".", ".");
    for (int i = 0; ret >= 0 && mount_id(AT_FDCWD, "..", 0) != own; i++) {
        if (!own || i == MAX_STACKED) return vs_refuse(fault, ELOOP);
        ret = CALL(fault, SYS_umount2, ".", MNT_DETACH);
    }
    if (ret >= 0) ret = CALL(fault, SYS_chdir, "/");
    return (int)ret;
}
