/* Control groups, version 1 and 2: a folder each, made before the clone and removed after. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define REMOVE_ATTEMPTS 200
#define REMOVE_STEP_NS  1000000

/* A name is one component: nothing outside of the parent can be named. */
static int is_name(const char *name) {
    if (!*name || vs_same(name, ".") || vs_same(name, "..")) return 0;
    for (; *name; name++)
        if (*name == '/') return 0;
    return 1;
}

int vs_op_cgroup(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    int root = m->slots[op->arg[1]];
    const char *name = vs_string(m, op->arg[2]);
    if (!is_name(name)) return vs_refuse(fault, EINVAL);
    long ret = CALL(fault, SYS_mkdirat, root, name, 0755);
    if (ret < 0) return (int)ret;
    long fd = CALL(fault, SYS_openat, root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        SYS(SYS_unlinkat, root, name, AT_REMOVEDIR);
        return (int)fd;
    }
    vs_own(m, op->arg[0], (int)fd);
    return 0;
}

int vs_op_cgroup_write(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    const char *data = vs_string(m, op->arg[2]);
    long fd = CALL(fault, SYS_openat, m->slots[op->arg[0]], vs_string(m, op->arg[1]),
                   O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return (int)fd;
    long ret = CALL(fault, SYS_write, fd, data, vs_len(data));
    SYS(SYS_close, fd);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_cgroup_open(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    long fd = CALL(fault, SYS_openat, m->slots[op->arg[1]], vs_string(m, op->arg[2]),
                   O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return (int)fd;
    vs_own(m, op->arg[0], (int)fd);
    return 0;
}

/* The parent was in the group so that its child was born there. */
int vs_op_cgroup_leave(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_write, m->slots[op->arg[0]], "0", 1);
    return ret < 0 ? (int)ret : 0;
}

/* The kernel lets go of a group a moment after its last process: try for up to 200 ms. */
int vs_op_cgroup_remove(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    struct {
        int64_t s, ns;
    } step = {0, REMOVE_STEP_NS};
    if (m->slots[op->arg[0]] < 0) return 0; /* never made */
    const char *name = vs_string(m, op->arg[2]);
    long ret = -EBUSY;
    for (int attempt = 0; attempt < REMOVE_ATTEMPTS && ret == -EBUSY; attempt++) {
        if (attempt) SYS(SYS_nanosleep, &step, 0);
        ret = CALL(fault, SYS_unlinkat, m->slots[op->arg[1]], name, AT_REMOVEDIR);
    }
    return (int)ret;
}
