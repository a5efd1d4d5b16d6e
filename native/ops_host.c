/* Operations on the host: load, prepare, adopt. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define MAX_HELPER_ARGUMENTS 64

static const char *text(const struct vs_plan *plan, uint64_t arg) {
    return arg & VS_PARAMETER_BIT ? "" : plan->table + arg; /* `load` knows no parameters */
}

int vs_op_open(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    const char *path = text(plan, op->arg[1]);
    long fd = CALL(fault, SYS_openat, AT_FDCWD, path, (int)op->arg[2] | O_PATH | O_CLOEXEC);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return 0;
}

int vs_op_expect_host(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    struct utsname host;
    long ret = CALL(fault, SYS_uname, &host);
    if (ret < 0) return (int)ret;
    if (vs_same(host.machine, text(plan, op->arg[0])) &&
        vs_same(host.release, text(plan, op->arg[1])))
        return 0;
    return vs_refuse(fault, EXDEV);
}

int vs_op_expect_file(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    struct stat is;
    long ret = CALL(fault, SYS_newfstatat, plan->slots[op->arg[0]], "", &is, AT_EMPTY_PATH);
    if (ret < 0) return (int)ret;
    if (is.st_dev == op->arg[1] && is.st_ino == op->arg[2]) return 0;
    return vs_refuse(fault, ESTALE);
}

/* Executed from a sealed copy, so that no machine can write to the host's program through
 * /proc/PID/exe (CVE-2019-5736). */
int vs_op_program(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    long from = CALL(fault, SYS_openat, AT_FDCWD, text(plan, op->arg[1]), O_RDONLY | O_CLOEXEC);
    if (from < 0) return (int)from;
    long fd = CALL(fault, SYS_memfd_create, "viscum-program", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    long ret = fd;
    while (ret > 0) ret = CALL(fault, SYS_sendfile, fd, from, 0, 1 << 20);
    SYS(SYS_close, from);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    if (ret < 0) return (int)ret;
    return (int)CALL(fault, SYS_fcntl, fd, F_ADD_SEALS,
                     F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

/* null(4), zero(4), full(4), random(4), tty(4): the same numbers on every Linux. */
static const struct {
    const char *name;
    unsigned device;
} nodes[] = {
    {"null", 0x103},   {"zero", 0x105},    {"full", 0x107},
    {"random", 0x108}, {"urandom", 0x109}, {"tty", 0x500},
};
static const struct {
    const char *name, *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

static int fill_devices(int dir, uint64_t uid, uint64_t gid, struct vs_fault *fault) {
    static const char *const folders[] = {"pts", "shm", "mqueue"};
    const char *name;
    long ret = 0;
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0] && ret >= 0; i++) {
        name = nodes[i].name;
        ret = CALL(fault, SYS_mknodat, dir, name, S_IFCHR | 0666, nodes[i].device);
        if (ret >= 0) ret = CALL(fault, SYS_fchmodat, dir, name, 0666);
        if (ret >= 0) ret = CALL(fault, SYS_fchownat, dir, name, uid, gid, AT_SYMLINK_NOFOLLOW);
    }
    for (size_t i = 0; i < sizeof links / sizeof links[0] && ret >= 0; i++)
        ret = CALL(fault, SYS_symlinkat, links[i].target, dir, links[i].name);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0] && ret >= 0; i++)
        ret = CALL(fault, SYS_mkdirat, dir, folders[i], 0755);
    if (ret >= 0) ret = CALL(fault, SYS_mknodat, dir, "console", S_IFREG | 0600, 0);
    return (int)ret;
}

/* A file system that is attached nowhere: it is gone with the last descriptor and the last clone.
 * `options` are pairs of a key and a value, NULL for a flag; a key of NULL ends them. */
long vs_mount_detached(const char *kind, const char *const options[][2], unsigned long attributes,
                       struct vs_fault *fault) {
    long context = CALL(fault, SYS_fsopen, kind, (unsigned)FSOPEN_CLOEXEC), ret = 0;
    if (context < 0) return context;
    for (size_t i = 0; options[i][0] && ret >= 0; i++)
        ret = CALL(fault, SYS_fsconfig, context,
                   options[i][1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[i][0],
                   options[i][1], 0);
    if (ret >= 0) ret = CALL(fault, SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (ret >= 0) ret = CALL(fault, SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    SYS(SYS_close, context);
    return ret;
}

/* An image file, mounted straight from it (Linux 6.12). */
long vs_mount_erofs(int file, struct vs_fault *fault) {
    char path[40] = "/proc/self/fd/";
    path[14 + vs_decimal(path + 14, (uint64_t)file)] = 0;
    const char *const options[][2] = {{"source", path}, {"ro", NULL}, {NULL, NULL}};
    return vs_mount_detached("erofs", options, MOUNT_ATTR_RDONLY, fault);
}

int vs_op_erofs(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    long fd = vs_mount_erofs(plan->slots[op->arg[1]], fault);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return 0;
}

/* Made once, mounted nowhere, cloned read-only into each machine. */
int vs_op_devices(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    static const char *const options[][2] = {{"mode", "0755"}, {NULL, NULL}};
    long fd = vs_mount_detached("tmpfs", options, 0, fault);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return fill_devices((int)fd, op->arg[1], op->arg[2], fault);
}

/* One more node for this plan's /dev, in the folders of its name. The folder is ours alone and
 * mounted nowhere: no name in it can lead elsewhere. */
int vs_op_device(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    char path[4096];
    const char *name = text(plan, op->arg[1]);
    int dir = plan->slots[op->arg[0]];
    size_t size = vs_len(name);
    long ret = 0;
    if (size >= sizeof path) return vs_refuse(fault, ENAMETOOLONG);
    for (size_t i = 0; i < size && ret >= 0; i++) {
        path[i] = name[i];
        if (name[i] != '/') continue;
        path[i] = 0;
        ret = SYS(SYS_mkdirat, dir, path, 0755);
        if (ret < 0 && ret != -EEXIST) return vs_refuse(fault, (int)-ret);
        ret = 0;
        path[i] = '/';
    }
    ret = CALL(fault, SYS_mknodat, dir, name, (unsigned)op->arg[2], op->arg[3]);
    if (ret >= 0) ret = CALL(fault, SYS_fchmodat, dir, name, (unsigned)op->arg[2] & 0777);
    if (ret < 0) return (int)ret;
    return (int)CALL(fault, SYS_fchownat, dir, name, op->arg[4], op->arg[5], AT_SYMLINK_NOFOLLOW);
}

int vs_op_userns(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    int fd = vs_make_userns(text(plan, op->arg[1]), text(plan, op->arg[2]), fault);
    if (fd < 0) return fd;
    plan->slots[op->arg[0]] = fd;
    return 0;
}

/* The folder is made where it is missing: its parent is a cgroup mount or a delegated group. */
int vs_op_cgroup_root(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    const char *path = text(plan, op->arg[1]);
    const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    long fd = SYS(SYS_openat, AT_FDCWD, path, flags);
    if (fd == -ENOENT) {
        long ret = CALL(fault, SYS_mkdirat, AT_FDCWD, path, 0755);
        if (ret < 0 && ret != -EEXIST) return (int)ret;
        *fault = (struct vs_fault){0};
        fd = CALL(fault, SYS_openat, AT_FDCWD, path, flags);
    }
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return 0;
}

int vs_op_tree(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    unsigned deep = op->arg[5] ? AT_RECURSIVE : 0;
    long fd = CALL(fault, SYS_open_tree, m->slots[op->arg[1]], "",
                   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | deep);
    if (fd < 0) return (int)fd;
    vs_own(m, op->arg[0], (int)fd);
    struct mount_attr attr = {.attr_set = op->arg[3], .attr_clr = op->arg[4]};
    if (op->arg[2] != VS_NONE) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)m->slots[op->arg[2]];
    }
    if (!attr.attr_set && !attr.attr_clr) return 0;
    return (int)CALL(fault, SYS_mount_setattr, m->slots[op->arg[0]], "", AT_EMPTY_PATH | deep,
                     &attr, sizeof attr);
}

int vs_op_open_in(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    struct open_how how = {
        .flags = op->arg[3] | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    long fd =
        CALL(fault, SYS_openat2, m->slots[op->arg[1]], vs_string(m, op->arg[2]), &how, sizeof how);
    if (fd < 0) return (int)fd;
    vs_own(m, op->arg[0], (int)fd);
    return 0;
}

/* A shared lock (flock) for the life of the machine. Who wants to remove the folder asks for an
 * exclusive one, and may have done so just before us: then it has no name any more. */
int vs_op_hold(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    struct stat is;
    const int flags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
    long fd = CALL(fault, SYS_openat, AT_FDCWD, vs_string(m, op->arg[1]), flags);
    if (fd < 0) return (int)fd;
    vs_own(m, op->arg[0], (int)fd);
    fd = m->slots[op->arg[0]];
    long ret = CALL(fault, SYS_flock, fd, LOCK_SH | LOCK_NB);
    if (ret >= 0) ret = CALL(fault, SYS_newfstatat, fd, "", &is, AT_EMPTY_PATH);
    if (ret < 0) return (int)ret;
    return is.st_nlink ? 0 : vs_refuse(fault, ESTALE);
}

int vs_op_sockets(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    int pair[2];
    long ret = CALL(fault, SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    if (ret < 0) return (int)ret;
    vs_own(m, op->arg[0], pair[0]);
    vs_own(m, op->arg[1], pair[1]);
    return 0;
}

/* Write to a file of /proc/PID; the process is our child and cannot be reaped meanwhile. */
int vs_write_proc(int32_t pid, const char *file, const char *data, struct vs_fault *fault) {
    char path[64] = "/proc/";
    size_t n = 6 + vs_decimal(path + 6, (uint64_t)pid), size = vs_len(file);
    if (n + size >= sizeof path) return vs_refuse(fault, ENAMETOOLONG);
    vs_copy(path + n, file, size + 1);
    long fd = -EACCES;
    /* Another launch may have made the shared memory undumpable for a moment, and with it the
     * files in /proc/PID root's. */
    for (int attempt = 0; attempt < 1000 && fd == -EACCES; attempt++)
        fd = CALL(fault, SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return (int)fd;
    *fault = (struct vs_fault){0};
    long ret = CALL(fault, SYS_write, fd, data, vs_len(data));
    SYS(SYS_close, fd);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_setgroups_deny(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    (void)op;
    return vs_write_proc(vs_current_pid(m), "/setgroups", "deny", fault);
}

int vs_op_map(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    return vs_write_proc(vs_current_pid(m), vs_string(m, op->arg[0]), vs_string(m, op->arg[1]),
                         fault);
}

/* Lay out the arguments of a helper: "{pid}" becomes the process id of the child. */
static int helper_arguments(struct vs_machine *m, const struct vs_op *op, char *pid, char **argv,
                            struct vs_fault *fault) {
    uint32_t size, count = 1;
    const char *arguments = vs_blob(m->plan, op->arg[1], &size);
    vs_decimal(pid, (uint64_t)vs_current_pid(m));
    argv[0] = (char *)vs_string(m, op->arg[0]);
    for (uint32_t at = 0; at < size; at += (uint32_t)vs_len(arguments + at) + 1) {
        if (count + 1 >= MAX_HELPER_ARGUMENTS) return vs_refuse(fault, E2BIG);
        argv[count++] = vs_same(arguments + at, "{pid}") ? pid : (char *)arguments + at;
    }
    argv[count] = NULL;
    return 0;
}

int vs_op_helper(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    char pid[24], *argv[MAX_HELPER_ARGUMENTS];
    int ret = helper_arguments(m, op, pid, argv, fault);
    return ret < 0 ? ret : vs_run_helper(argv[0], argv, fault);
}

/* A helper that serves the machine for its whole life. */
int vs_op_service(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    char pid[24], *argv[MAX_HELPER_ARGUMENTS];
    int cgroup = op->arg[3] == VS_NONE ? -1 : m->slots[op->arg[3]];
    int ret = helper_arguments(m, op, pid, argv, fault);
    if (ret == 0) ret = vs_start_helper(argv[0], argv, cgroup, fault);
    if (ret < 0) return ret;
    vs_own(m, op->arg[2], ret);
    return 0;
}

int vs_op_service_end(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    (void)fault;
    if (m->slots[op->arg[0]] < 0) return 0;
    vs_end_helper(m->slots[op->arg[0]]);
    m->slots[op->arg[0]] = -1;
    m->owned[op->arg[0] / 64] &= ~(1ull << op->arg[0] % 64);
    return 0;
}
