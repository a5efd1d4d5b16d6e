/* What containers of the OCI runtime specification need beyond a machine's plan. */
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define REMOVE_ATTEMPTS  200
#define REMOVE_STEP_NS   1000000
#define MEET_STEP_NS     20000000
#define MAX_INSTRUCTIONS 4096
#define NEW_LISTENER     8

/* load */

int vs_op_inherit(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    long fd = CALL(fault, SYS_fcntl, op->arg[1], F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return 0;
}

int vs_op_namespace(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    long fd = CALL(fault, SYS_openat, AT_FDCWD, plan->table + op->arg[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0) return (int)fd;
    plan->slots[op->arg[0]] = (int)fd;
    return 0;
}

static int make_data(const struct vs_plan *plan, uint64_t blob, struct vs_fault *fault) {
    uint32_t size;
    const char *data = vs_blob(plan, blob, &size);
    long fd = CALL(fault, SYS_memfd_create, "viscum-data", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    long ret = fd;
    for (size_t done = 0; done < size && ret >= 0; done += (size_t)ret)
        ret = CALL(fault, SYS_write, fd, data + done, size - done);
    if (ret >= 0)
        ret = CALL(fault, SYS_fcntl, fd, F_ADD_SEALS,
                   F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    if (ret < 0 && fd >= 0) SYS(SYS_close, fd);
    return ret < 0 ? (int)ret : (int)fd;
}

int vs_op_data(struct vs_plan *plan, const struct vs_op *op, struct vs_fault *fault) {
    int fd = make_data(plan, op->arg[1], fault);
    if (fd < 0) return fd;
    plan->slots[op->arg[0]] = fd;
    return 0;
}

/* A child that shares its parent's memory cannot enter a time namespace: who does must be alone in
 * its memory. So the parent does, while it has one thread; the child begins there, and vs_launch
 * comes back. */
int vs_op_time_join(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    long own = CALL(fault, SYS_openat, AT_FDCWD, "/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
    if (own < 0) return (int)own;
    vs_own(m, op->arg[1], (int)own);
    return (int)CALL(fault, SYS_setns, m->slots[op->arg[0]], CLONE_NEWTIME);
}

static long read_at(int dir, const char *name, char *data, size_t size) {
    long fd = SYS(SYS_openat, dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return fd;
    long n = SYS(SYS_read, fd, data, size - 1);
    SYS(SYS_close, fd);
    data[n > 0 ? n : 0] = 0;
    return n;
}

/* A process is born with the score of who clones it. From outside it cannot be given another while
 * it joins, since its files in /proc are root's then. */
int vs_op_oom_score(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    long ret = read_at(AT_FDCWD, "/proc/self" OOM_SCORE, m->oom_score, sizeof m->oom_score);
    if (ret < 0) return vs_refuse(fault, (int)-ret);
    return vs_write_proc((int32_t)SYS(SYS_getpid), OOM_SCORE, vs_string(m, op->arg[0]), fault);
}

/* Control groups by path. */

static void write_at(int dir, const char *name, const char *data, size_t size) {
    long fd = SYS(SYS_openat, dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    SYS(SYS_write, fd, data, size);
    SYS(SYS_close, fd);
}

/* A new cpuset of version 1 is empty, and an empty one takes no task: it gets its parent's. */
static void fill_cpuset(int parent, int group) {
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char data[4096];
    for (int i = 0; i < 2; i++) {
        long n = read_at(group, files[i], data, sizeof data);
        if (n < 0) return;
        if (n > 1) continue;
        n = read_at(parent, files[i], data, sizeof data);
        if (n > 1) write_at(group, files[i], data, (size_t)n);
    }
}

/* Version 2: what the parent has is for its children too, as far as it can be. */
static void pass_controllers(int parent) {
    char data[512], word[64] = "+";
    long n = read_at(parent, "cgroup.controllers", data, sizeof data);
    for (long at = 0; at < n;) {
        size_t size = 0;
        while (at + (long)size < n && data[at + (long)size] != ' ' && data[at + (long)size] != '\n')
            size++;
        if (size && size < sizeof word - 1) {
            vs_copy(word + 1, data + at, size);
            write_at(parent, "cgroup.subtree_control", word, size + 1);
        }
        at += (long)size + 1;
    }
}

/* Make one level; returns a descriptor of it, and closes that of its parent. */
static long descend(int parent, const char *name, struct vs_fault *fault) {
    if (!vs_is_plain(name)) return vs_refuse(fault, EINVAL);
    pass_controllers(parent);
    long ret = CALL(fault, SYS_mkdirat, parent, name, 0755);
    if (ret < 0 && ret != -EEXIST) return ret;
    *fault = (struct vs_fault){0};
    long fd =
        CALL(fault, SYS_openat, parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) fill_cpuset(parent, (int)fd);
    return fd;
}

int vs_op_cgroup_path(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    const char *path = vs_string(m, op->arg[2]);
    char name[256];
    long fd =
        CALL(fault, SYS_openat, m->slots[op->arg[1]], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && *path) {
        size_t size = 0;
        while (path[size] && path[size] != '/') size++;
        if (size >= sizeof name) return vs_refuse(fault, ENAMETOOLONG);
        vs_copy(name, path, size);
        name[size] = 0;
        path += size + (path[size] == '/');
        long next = size ? descend((int)fd, name, fault) : (long)SYS(SYS_dup, fd);
        SYS(SYS_close, fd);
        fd = next;
    }
    if (fd < 0) return (int)fd;
    vs_own(m, op->arg[0], (int)fd);
    return 0;
}

int vs_op_cgroup_path_end(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    int64_t step[2] = {0, REMOVE_STEP_NS};
    if (m->slots[op->arg[0]] < 0) return 0; /* never made */
    long ret = -EBUSY;
    for (int attempt = 0; attempt < REMOVE_ATTEMPTS && ret == -EBUSY; attempt++) {
        if (attempt) SYS(SYS_nanosleep, step, 0);
        ret =
            CALL(fault, SYS_unlinkat, m->slots[op->arg[1]], vs_string(m, op->arg[2]), AT_REMOVEDIR);
    }
    return (int)ret;
}

int vs_op_device_filter(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *program = vs_blob(m->plan, op->arg[1], &size);
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE};
    union bpf_attr attach = {.attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
    load.insns = (uint64_t)(uintptr_t)program;
    load.insn_cnt = size / 8;
    load.license = (uint64_t)(uintptr_t) "Apache-2.0";
    long fd = CALL(fault, SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    if (fd < 0) return (int)fd;
    attach.target_fd = (uint32_t)m->slots[op->arg[0]];
    attach.attach_bpf_fd = (uint32_t)fd;
    long ret = CALL(fault, SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach);
    SYS(SYS_close, fd);
    return (int)ret;
}

int vs_op_idmap(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
    attr.userns_fd = (uint64_t)m->slots[op->arg[1]];
    return (int)CALL(fault, SYS_mount_setattr, m->slots[op->arg[0]], "",
                     AT_EMPTY_PATH | (op->arg[2] ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

/* Parent and child in step. */

static void tell(int32_t *word, uint64_t step) {
    __atomic_store_n(word, (int32_t)step, __ATOMIC_RELEASE);
    SYS(SYS_futex, word, FUTEX_WAKE, 1);
}

int vs_op_permit(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    (void)fault;
    tell(&m->child->permitted, op->arg[0]);
    return 0;
}

int vs_op_meet(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    int64_t step[2] = {0, MEET_STEP_NS};
    int32_t *word = &m->child->reached, reached;
    while ((reached = __atomic_load_n(word, __ATOMIC_ACQUIRE)) < (int32_t)op->arg[0]) {
        if (!vs_child_lives(m)) return vs_refuse(fault, ECANCELED);
        SYS(SYS_futex, word, FUTEX_WAIT, reached, step);
    }
    return 0;
}

int vs_op_reach(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)fault;
    tell(&c->reached, op->arg[0]);
    return 0;
}

int vs_op_wait_for(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int32_t permitted;
    while ((permitted = __atomic_load_n(&c->permitted, __ATOMIC_ACQUIRE)) < (int32_t)op->arg[0]) {
        int64_t step[2] = {0, MEET_STEP_NS};
        if (permitted < 0) return vs_refuse(fault, ECANCELED);
        SYS(SYS_futex, &c->permitted, FUTEX_WAIT, permitted, step);
        if (vs_parent_is_gone(c)) return vs_refuse(fault, ESRCH);
    }
    return 0;
}

int vs_op_refork(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)op;
    return vs_join_clone(c, (uint32_t)c->report.index, 0, fault);
}

/* Hooks. */

#define MAX_HOOK_WORDS 512

static int point_words(const struct vs_plan *plan, uint64_t arg, const char **out,
                       struct vs_fault *fault) {
    uint32_t size, count = 0;
    const char *strings = vs_blob(plan, arg, &size);
    for (uint32_t at = 0; at < size; at += (uint32_t)vs_len(strings + at) + 1) {
        if (count + 1 >= MAX_HOOK_WORDS) return vs_refuse(fault, E2BIG);
        out[count++] = strings + at;
    }
    out[count] = NULL;
    return 0;
}

static int write_blob(int fd, const struct vs_plan *plan, uint64_t arg, struct vs_fault *fault) {
    uint32_t size;
    const char *data = vs_blob(plan, arg, &size);
    long ret = 0;
    for (size_t done = 0; done < size && ret >= 0; done += (size_t)ret)
        ret = CALL(fault, SYS_write, fd, data + done, size - done);
    return ret < 0 ? (int)ret : 0;
}

/* The state of the container, as a file: its process id stands between two halves. */
static int write_state(const struct vs_machine *m, uint64_t before, uint64_t after,
                       struct vs_fault *fault) {
    char pid[24];
    long fd = CALL(fault, SYS_memfd_create, "viscum-state", MFD_CLOEXEC);
    if (fd < 0) return (int)fd;
    size_t size = vs_decimal(pid, (uint64_t)vs_current_pid(m));
    int ret = write_blob((int)fd, m->plan, before, fault);
    if (ret >= 0) ret = (int)CALL(fault, SYS_write, fd, pid, size);
    if (ret >= 0) ret = write_blob((int)fd, m->plan, after, fault);
    if (ret >= 0) ret = (int)CALL(fault, SYS_lseek, fd, 0, 0);
    if (ret < 0) SYS(SYS_close, fd);
    return ret < 0 ? ret : (int)fd;
}

static void note_status(int output, const struct vs_hook *hook) {
    char text[64] = "status ";
    size_t n = 7 + vs_decimal(text + 7, (uint64_t)(uint32_t)hook->status);
    text[n] = '\n';
    if (output >= 0) SYS(SYS_write, output, text, n + 1);
}

static int do_hook(const struct vs_machine *m, const int *slots, const struct vs_op *op,
                   char *stack, struct vs_fault *fault) {
    const char *argv[MAX_HOOK_WORDS], *envp[MAX_HOOK_WORDS];
    struct vs_hook hook = {.path = vs_string(m, op->arg[0]), .argv = argv, .envp = envp};
    hook.timeout_ms = (int64_t)op->arg[5] * 1000;
    hook.oom_score = stack ? "" : m->oom_score; /* in the parent, its own */
    hook.output = op->arg[6] == VS_NONE ? -1 : slots[op->arg[6]];
    int ret = point_words(m->plan, op->arg[1], argv, fault);
    if (ret == 0) ret = point_words(m->plan, op->arg[2], envp, fault);
    if (ret == 0) ret = hook.input = write_state(m, op->arg[3], op->arg[4], fault);
    if (ret < 0) return ret;
    ret = vs_run_hook(&hook, stack, fault);
    SYS(SYS_close, hook.input);
    if (ret < 0 && !hook.err) note_status(hook.output, &hook);
    return ret;
}

int vs_op_hook(struct vs_machine *m, const struct vs_op *op, struct vs_fault *fault) {
    return do_hook(m, m->slots, op, NULL, fault);
}

int vs_op_hook_inside(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return do_hook(c->machine, c->slots, op, c->spare_stack, fault);
}

/* What a process is. */

static int send_with(int socket, int fd, struct iovec *parts, int count, struct vs_fault *fault) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = (unsigned)count,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    vs_copy(CMSG_DATA(header), &fd, sizeof fd);
    long ret = CALL(fault, SYS_sendmsg, socket, &message, MSG_NOSIGNAL);
    return ret < 0 ? (int)ret : 0;
}

static int hand_over(struct vs_child *c, int socket, int master, struct vs_fault *fault) {
    unsigned number = 0;
    char *name = c->scratch;
    vs_copy(name, "/dev/pts/", 9);
    long ret = CALL(fault, SYS_ioctl, master, TIOCGPTN, &number);
    if (ret < 0) return (int)ret;
    struct iovec data = {.iov_base = name, .iov_len = 9 + vs_decimal(name + 9, number)};
    return send_with(socket, master, &data, 1, fault);
}

/* Laid over /dev/console, a file that was made for it and that no link may stand for
 * (CVE-2025-52565). */
static int show_console(int terminal, struct vs_fault *fault) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    long to = SYS(SYS_openat2, AT_FDCWD, "/dev/console", &how, sizeof how);
    if (to < 0) return 0;
    const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    long tree = CALL(fault, SYS_open_tree, terminal, "", flags);
    long ret = tree < 0 ? tree
                        : CALL(fault, SYS_move_mount, tree, "", to, "",
                               MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (tree >= 0) SYS(SYS_close, tree);
    SYS(SYS_close, to);
    return (int)ret;
}

static long open_master(struct vs_fault *fault) {
    const int flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    long master = CALL(fault, SYS_openat, AT_FDCWD, "/dev/pts/ptmx", flags);
    if (master < 0) master = CALL(fault, SYS_openat, AT_FDCWD, "/dev/ptmx", flags);
    if (master >= 0) *fault = (struct vs_fault){0};
    return master;
}

int vs_op_console(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    struct winsize size = {.ws_row = (unsigned short)op->arg[1],
                           .ws_col = (unsigned short)op->arg[2]};
    int unlock = 0;
    long master = open_master(fault);
    if (master < 0) return (int)master;
    long ret = CALL(fault, SYS_ioctl, master, TIOCSPTLCK, &unlock);
    if (ret >= 0 && (size.ws_row || size.ws_col))
        ret = CALL(fault, SYS_ioctl, master, TIOCSWINSZ, &size);
    long terminal =
        ret < 0 ? ret : CALL(fault, SYS_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) return (int)terminal;
    ret = hand_over(c, c->slots[op->arg[0]], (int)master, fault);
    SYS(SYS_close, master);
    if (ret >= 0) SYS(SYS_fchown, terminal, op->arg[3], -1);
    if (ret >= 0) ret = show_console((int)terminal, fault);
    if (ret >= 0) ret = CALL(fault, SYS_ioctl, terminal, TIOCSCTTY, 0);
    for (int i = VS_STDIN; i <= VS_STDERR; i++) c->slots[i] = (int)terminal;
    return (int)ret;
}

/* Pipes and terminals become the user's, who could not open /dev/stdout otherwise. */
int vs_op_own_streams(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)fault;
    struct stat is;
    for (int fd = 0; fd < 3; fd++) {
        if (SYS(SYS_fstat, fd, &is) < 0 || is.st_uid == op->arg[0]) continue;
        if (S_ISFIFO(is.st_mode) || (S_ISCHR(is.st_mode) && is.st_rdev != 0x103))
            SYS(SYS_fchown, fd, op->arg[0], -1);
    }
    return 0;
}

int vs_op_personality(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    long ret = CALL(fault, SYS_personality, op->arg[0]);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_scheduler(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {
        48,         (uint32_t)op->arg[0], op->arg[3], (int32_t)op->arg[1], (uint32_t)op->arg[2],
        op->arg[4], op->arg[5],           op->arg[6]};
    return (int)CALL(fault, SYS_sched_setattr, 0, &attr, 0);
}

int vs_op_io_priority(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    return (int)CALL(fault, SYS_ioprio_set, 1, 0, op->arg[0]);
}

int vs_op_affinity(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *mask = vs_blob(c->machine->plan, op->arg[0], &size);
    long ret = CALL(fault, SYS_sched_setaffinity, 0, size, mask);
    return ret < 0 ? (int)ret : 0;
}

#define AT_EFFECTIVE 0x200

static int may_run(const char *path, struct vs_fault *fault) {
    struct stat is;
    long ret = CALL(fault, SYS_newfstatat, AT_FDCWD, path, &is, 0);
    if (ret < 0) return (int)ret;
    if (S_ISDIR(is.st_mode)) return vs_refuse(fault, EACCES);
    return (int)CALL(fault, SYS_faccessat2, AT_FDCWD, path, 1, AT_EFFECTIVE);
}

/* As execvp(3) will look for it. */
int vs_op_find_program(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *file = vs_string(c->machine, op->arg[0]), *path = vs_string(c->machine, op->arg[1]);
    size_t length = vs_len(file);
    int worst = -ENOENT;
    for (size_t i = 0; i < length; i++)
        if (file[i] == '/') return may_run(file, fault);
    while (*path && length) {
        size_t n = 0;
        while (path[n] && path[n] != ':') n++;
        if (n + length + 2 < sizeof c->scratch) {
            vs_copy(c->scratch, path, n);
            c->scratch[n] = '/';
            vs_copy(c->scratch + n + 1, file, length + 1);
            int ret = may_run(n ? c->scratch : c->scratch + 1, fault);
            *fault = (struct vs_fault){0};
            if (ret == 0) return 0;
            if (ret == -EACCES) worst = ret;
        }
        path += path[n] ? n + 1 : n;
    }
    return vs_refuse(fault, -worst);
}

int vs_op_seccomp_listen(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *program = vs_blob(c->machine->plan, op->arg[0], &size);
    struct {
        unsigned short len;
        const void *filter;
    } fprog = {(unsigned short)(size / 8), program};
    char pid[24];
    struct iovec parts[5];
    if (size % 8 || size / 8 > MAX_INSTRUCTIONS) return vs_refuse(fault, EINVAL);
    long fd = CALL(fault, SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->arg[1] | NEW_LISTENER, &fprog);
    if (fd < 0) return (int)fd;
    for (int i = 0; i < 5; i += 2) {
        parts[i].iov_base = (char *)vs_blob(c->machine->plan, op->arg[3 + i / 2], &size);
        parts[i].iov_len = size;
    }
    parts[1].iov_base = parts[3].iov_base = pid;
    parts[1].iov_len = parts[3].iov_len = vs_decimal(pid, (uint64_t)vs_current_pid(c->machine));
    int ret = send_with(c->slots[op->arg[2]], (int)fd, parts, 5, fault);
    SYS(SYS_close, fd);
    SYS(SYS_close, c->slots[op->arg[2]]);
    return ret;
}
