/* What a process is: namespaces, groups, names, limits, terminal, descriptors, program. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SPINS       3000
#define MAX_STRINGS 4096

/* What is its own beside that, it gets with the clone that a pid namespace needs in any case. A
 * time namespace is left to the process that comes of it, which is alone in its memory for that. */
int vs_op_join(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_setns, c->slots[op->arg[0]], (int)(op->arg[1] & ~CLONE_NEWTIME));
    if (ret < 0) return (int)ret;
    if (!(op->arg[1] & (CLONE_NEWPID | CLONE_NEWTIME)) && !op->arg[2]) return 0;
    return vs_join_clone(c, (uint32_t)c->report.index, op->arg[2], fault);
}

/* Its pid means nothing in another pid namespace: ask the descriptor of it that we inherited. */
int vs_parent_is_gone(struct vs_child *c) {
    struct pollfd parent = {.fd = c->host_pidfd, .events = POLLIN};
    struct {
        int64_t s, ns;
    } none = {0, 0};
    return parent.fd >= 0 && SYS(SYS_ppoll, &parent, 1, &none, 0, 8) > 0;
}

int vs_op_await(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)op;
    int32_t adopted;
    for (int spin = 0; spin < SPINS; spin++)
        if (__atomic_load_n(&c->adopted, __ATOMIC_ACQUIRE)) break;
    while (!(adopted = __atomic_load_n(&c->adopted, __ATOMIC_ACQUIRE))) {
        struct {
            int64_t s, ns;
        } step = {0, 50000000};
        SYS(SYS_futex, &c->adopted, FUTEX_WAIT, 0, &step);
        if (vs_parent_is_gone(c)) return vs_refuse(fault, ESRCH);
    }
    return adopted > 0 ? 0 : vs_refuse(fault, ECANCELED);
}

int vs_op_parent_death(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_prctl, PR_SET_PDEATHSIG, op->arg[0]);
    if (ret < 0) return (int)ret;
    return vs_parent_is_gone(c) ? vs_refuse(fault, ESRCH) : 0; /* gone before the call */
}

int vs_op_cgroup_join(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_write, c->slots[op->arg[0]], "0", 1);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_unshare(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    return (int)CALL(fault, SYS_unshare, op->arg[0]);
}

int vs_op_hostname(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *name = vs_string(c->machine, op->arg[0]);
    return (int)CALL(fault, SYS_sethostname, name, vs_len(name));
}

int vs_op_domainname(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *name = vs_string(c->machine, op->arg[0]);
    return (int)CALL(fault, SYS_setdomainname, name, vs_len(name));
}

static int raise_loopback(int fd, struct vs_fault *fault) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    return (int)CALL(fault, SYS_ioctl, fd, SIOCSIFFLAGS, &request);
}

int vs_op_loopback(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)op;
    long fd = CALL(fault, SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return (int)fd;
    int ret = raise_loopback((int)fd, fault);
    SYS(SYS_close, fd);
    return ret;
}

/* Leave for a network namespace with lo up; returns a descriptor of it. */
static long new_network(struct vs_fault *fault) {
    long ret = CALL(fault, SYS_unshare, CLONE_NEWNET);
    long fd = ret < 0 ? ret : CALL(fault, SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    ret = raise_loopback((int)fd, fault);
    if (ret >= 0) ret = CALL(fault, SYS_ioctl, fd, SIOCGSKNS);
    SYS(SYS_close, fd);
    return ret;
}

static void make_network(void *argument) {
    struct vs_child *c = argument;
    c->slots[c->maker_slot] = (int)new_network(&c->maker_fault);
    for (;;) SYS(SYS_exit, 0);
}

/* A network namespace costs as much as the rest of a machine: it is made by a process of its own,
 * on another CPU, while the child mounts. It is owned by the child's user namespace. Where the
 * machine's limit of processes leaves no room for the maker, the child makes it itself. */
int vs_op_network_make(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    c->maker_slot = (uint32_t)op->arg[0];
    c->maker_fault = (struct vs_fault){0};
    int ret = vs_start_maker(c, make_network, fault);
    if (ret != -EAGAIN) return ret;
    *fault = (struct vs_fault){0};
    long fd = new_network(fault);
    c->slots[c->maker_slot] = (int)fd;
    return fd < 0 ? (int)fd : 0;
}

int vs_op_network_join(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    vs_await_maker(c);
    if (c->maker_fault.err) {
        *fault = c->maker_fault;
        return -fault->err;
    }
    return (int)CALL(fault, SYS_setns, c->slots[op->arg[0]], CLONE_NEWNET);
}

int vs_op_rlimit(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    uint64_t limit[2] = {op->arg[1], op->arg[2]};
    return (int)CALL(fault, SYS_prlimit64, 0, op->arg[0], limit, 0);
}

int vs_op_umask(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)fault;
    SYS(SYS_umask, op->arg[0]);
    return 0;
}

int vs_op_session(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)op;
    long ret = SYS(SYS_setsid);
    return ret < 0 ? vs_refuse(fault, (int)-ret) : 0;
}

static int send_descriptor(int socket, int fd, struct vs_fault *fault) {
    char byte = 0;
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
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

/* Show the terminal as /dev/console too, where there is such a file. */
static void bind_console(int terminal) {
    long tree =
        SYS(SYS_open_tree, terminal, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0) return;
    SYS(SYS_move_mount, tree, "", AT_FDCWD, "/dev/console", MOVE_MOUNT_F_EMPTY_PATH);
    SYS(SYS_close, tree);
}

/* A terminal from the machine's own devpts; its master goes to the parent over a socket. */
int vs_op_terminal(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int unlock = 0;
    long master = CALL(fault, SYS_openat, AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0) return (int)master;
    long ret = CALL(fault, SYS_ioctl, master, TIOCSPTLCK, &unlock);
    if (ret < 0) return (int)ret;
    long terminal = CALL(fault, SYS_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) return (int)terminal;
    ret = send_descriptor(c->slots[op->arg[0]], (int)master, fault);
    SYS(SYS_close, master);
    if (ret < 0) return (int)ret;
    bind_console((int)terminal);
    ret = CALL(fault, SYS_ioctl, terminal, TIOCSCTTY, 0);
    for (int i = VS_STDIN; i <= VS_STDERR; i++) c->slots[i] = (int)terminal;
    return (int)ret;
}

/* Moved up first, so that no source is overwritten before it was used. */
int vs_op_stdio(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)op;
    for (int i = VS_STDIN; i <= VS_STDERR; i++) {
        if (c->slots[i] >= 3 || c->slots[i] == i) continue;
        long moved = CALL(fault, SYS_fcntl, c->slots[i], F_DUPFD_CLOEXEC, 3);
        if (moved < 0) return (int)moved;
        c->slots[i] = (int)moved;
    }
    for (int i = VS_STDIN; i <= VS_STDERR; i++) {
        long ret = c->slots[i] == i ? CALL(fault, SYS_fcntl, i, F_SETFD, 0)
                                    : CALL(fault, SYS_dup3, c->slots[i], i, 0);
        if (ret < 0) return (int)ret;
    }
    return 0;
}

int vs_op_working_folder(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    return (int)CALL(fault, SYS_chdir, vs_string(c->machine, op->arg[0]));
}

/* Before execve in a machine: a pipe of which only this process has the writing end, in a
 * descriptor table that no other thread of the parent can have copied by a fork. execve closes it
 * once it has left the shared memory. Made before the filter, which may forbid it. */
static int tell_end_of_sharing(struct vs_child *c, struct vs_fault *fault) {
    int ends[2];
    if (!c->second_stack) return 0;
    long ret = CALL(fault, SYS_pipe2, ends, O_CLOEXEC);
    if (ret >= 0) ret = send_descriptor(c->sentinel[1], ends[0], fault);
    if (ret < 0) return (int)ret;
    SYS(SYS_close, ends[0]);
    c->told = 1;
    return 0;
}

int vs_op_close(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)op;
    int ret = tell_end_of_sharing(c, fault);
    if (ret < 0) return ret;
    return (int)CALL(fault, SYS_close_range, 3, UINT_MAX, CLOSE_RANGE_CLOEXEC);
}

int vs_op_close_from(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int ret = tell_end_of_sharing(c, fault);
    if (ret < 0) return ret;
    return (int)CALL(fault, SYS_close_range, op->arg[0], UINT_MAX, CLOSE_RANGE_CLOEXEC);
}

int vs_op_pass(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    int from = c->slots[op->arg[0]], to = (int)op->arg[1];
    if (from == to) return (int)CALL(fault, SYS_fcntl, to, F_SETFD, 0);
    long ret = CALL(fault, SYS_dup3, from, to, 0);
    return ret < 0 ? (int)ret : 0;
}

/* Lay pointers to the NUL-ended strings of a blob into `out`. */
static int point(const struct vs_plan *plan, uint64_t arg, const char **out,
                 struct vs_fault *fault) {
    uint32_t size, count = 0;
    const char *strings = vs_blob(plan, arg, &size);
    for (uint32_t at = 0; at < size; at += (uint32_t)vs_len(strings + at) + 1) {
        if (count + 1 >= MAX_STRINGS) return vs_refuse(fault, E2BIG);
        out[count++] = strings + at;
    }
    out[count] = NULL;
    return 0;
}

static long execute(struct vs_child *c, const char *file, const char **argv, const char **envp,
                    struct vs_fault *fault) {
    *fault = (struct vs_fault){0}; /* of the folder tried before: success never comes back here */
    c->executing = 1;
    long ret = CALL(fault, SYS_execve, file, argv, envp);
    c->executing = 0;
    return ret;
}

/* execvp(3): the folders of `path` in turn; a file that may not be run is remembered. */
static long execute_search(struct vs_child *c, const char *file, const char *path,
                           const char **argv, const char **envp, struct vs_fault *fault) {
    size_t length = vs_len(file);
    long worst = -ENOENT;
    if (!length) return vs_refuse(fault, ENOENT);
    while (*path) {
        size_t n = 0;
        while (path[n] && path[n] != ':') n++;
        if (n + length + 2 < sizeof c->scratch) {
            vs_copy(c->scratch, path, n);
            c->scratch[n] = '/';
            vs_copy(c->scratch + n + 1, file, length + 1);
            long ret = execute(c, c->scratch, argv, envp, fault);
            if (ret != -ENOENT && ret != -ENOTDIR && ret != -EACCES) return ret;
            if (ret == -EACCES) worst = ret;
        }
        path += path[n] ? n + 1 : n;
    }
    fault->nr = SYS_execve;
    fault->err = (int32_t)-worst;
    return worst;
}

static const char *slash(const char *text) {
    while (*text && *text != '/') text++;
    return *text ? text : NULL;
}

int vs_op_exec(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *argv[MAX_STRINGS], *file = vs_string(c->machine, op->arg[0]);
    const char **envp = (const char **)c->environment;
    int ret = point(c->machine->plan, op->arg[1], argv, fault);
    if (ret == 0) ret = point(c->machine->plan, op->arg[2], envp, fault);
    if (ret < 0) return ret;
    if (slash(file)) return (int)execute(c, file, argv, envp, fault);
    return (int)execute_search(c, file, vs_string(c->machine, op->arg[3]), argv, envp, fault);
}

/* A program opened on the host, such as the machine's init: no path leads to it inside. */
int vs_op_exec_slot(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *argv[MAX_STRINGS];
    const char **envp = (const char **)c->environment;
    int ret = point(c->machine->plan, op->arg[1], argv, fault);
    if (ret == 0) ret = point(c->machine->plan, op->arg[2], envp, fault);
    if (ret < 0) return ret;
    c->executing = 1;
    ret = (int)CALL(fault, SYS_execveat, c->slots[op->arg[0]], "", argv, envp, AT_EMPTY_PATH);
    c->executing = 0;
    return ret;
}

/* The init of a container, a sealed copy: it gets the numbers of its data, of the gate that it
 * waits at and of the folder of its attributes as its first arguments, the command's after them. */
int vs_op_exec_boot(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *argv[MAX_STRINGS + 4];
    const char **envp = (const char **)c->environment;
    char *numbers[3] = {c->scratch, c->scratch + 32, c->scratch + 64};
    int ret = point(c->machine->plan, op->arg[4], argv + 4, fault);
    if (ret == 0) ret = point(c->machine->plan, op->arg[5], envp, fault);
    argv[0] = "viscum-oci-init";
    for (int i = 0; i < 3 && ret >= 0; i++) {
        int fd = op->arg[1 + i] == VS_NONE ? -1 : c->slots[op->arg[1 + i]];
        argv[1 + i] = fd < 0 ? "-" : numbers[i];
        if (fd < 0) continue;
        vs_decimal(numbers[i], (uint64_t)fd);
        ret = (int)CALL(fault, SYS_fcntl, fd, F_SETFD, 0);
    }
    if (ret < 0) return ret;
    c->executing = 1;
    ret = (int)CALL(fault, SYS_execveat, c->slots[op->arg[0]], "", argv, envp, AT_EMPTY_PATH);
    c->executing = 0;
    return ret;
}
