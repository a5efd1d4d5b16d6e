/* The child: cloned with the memory of its parent, on a stack of its own, gone from that memory
 * when it executes or ends. No allocation, no locks and no C library state after the clone. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define STACK        65536
#define REGION       (sizeof(struct vs_child) + 3 * STACK)
#define POOL         16
#define SIGSET_BYTES 8
#define LAST_SIGNAL  64

static _Atomic(char *) pool[POOL];

static char *map_region(int how) {
    long ret =
        SYS(SYS_mmap, 0, REGION, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return ret < 0 && ret > -4096 ? NULL : (char *)ret;
}

static char *take_region(void) {
    for (int i = 0; i < POOL; i++) {
        char *region = atomic_exchange(&pool[i], NULL);
        if (region) return region;
    }
    return map_region(MAP_PRIVATE);
}

static void give_region(char *region) {
    for (int i = 0; i < POOL; i++) {
        char *none = NULL;
        if (atomic_compare_exchange_strong(&pool[i], &none, region)) return;
    }
    SYS(SYS_munmap, region, REGION);
}

/* One that a child with memory of its own has seen is shared with it alone. */
static void leave_region(struct vs_child *c) {
    if (c->apart)
        SYS(SYS_munmap, c, REGION);
    else
        give_region((char *)c);
}

/* clone3 whose child runs entry(argument) on the stack given in `args` and never returns. */
static long clone_onto(struct clone_args *args, void (*entry)(void *), void *argument) {
    long ret;
#if defined(__x86_64__)
    register void (*r8)(void *) __asm__("r8") = entry;
    register void *r9 __asm__("r9") = argument;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\t"
                     "mov %%r9, %%rdi\n\tcall *%%r8\n\thlt\n1:"
                     : "=a"(ret)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register void (*x2)(void *) __asm__("x2") = entry;
    register void *x3 __asm__("x3") = argument;
    __asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x29, #0\n\tmov x0, x3\n\tblr x2\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
                     : "memory", "cc");
    ret = x0;
#else
    register long a7 __asm__("a7") = SYS_clone3;
    register long a0 __asm__("a0") = (long)args;
    register long a1 __asm__("a1") = sizeof *args;
    register void (*a2)(void *) __asm__("a2") = entry;
    register void *a3 __asm__("a3") = argument;
    __asm__ volatile("ecall\n\tbnez a0, 1f\n\tmv a0, a3\n\tjalr a2\n1:"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3)
                     : "memory", "ra");
    ret = a0;
#endif
    return ret;
}

static void futex_wake(int32_t *word) { SYS(SYS_futex, word, FUTEX_WAKE, 1); }

static void block_signals(uint64_t *old) {
    uint64_t all = ~0ull;
    SYS(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, SIGSET_BYTES);
}

static void restore_signals(const uint64_t *mask) {
    SYS(SYS_rt_sigprocmask, SIG_SETMASK, mask, 0, SIGSET_BYTES);
}

/* Handlers of the parent must not run in the child, and ignored signals are not inherited. */
static void default_signals(void) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};
    for (int number = 1; number <= LAST_SIGNAL; number++)
        if (number != SIGKILL && number != SIGSTOP)
            SYS(SYS_rt_sigaction, number, &action, 0, SIGSET_BYTES);
}

/* A process beside this one, on the same memory and descriptors, in the same namespaces. */
int vs_start_maker(struct vs_child *c, void (*entry)(void *), struct vs_fault *fault) {
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FILES | CLONE_UNTRACED,
        .stack = (uint64_t)(uintptr_t)c->spare_stack,
        .stack_size = STACK,
    };
    long pid = clone_onto(&args, entry, c);
    if (pid > 0) c->maker = (int32_t)pid;
    if (pid < 0) {
        fault->nr = SYS_clone3;
        fault->err = (int32_t)-pid;
    }
    return (int)pid;
}

void vs_await_maker(struct vs_child *c) {
    if (!c->maker) return;
    while (SYS(SYS_wait4, c->maker, 0, __WALL, 0) == -EINTR) continue;
    c->maker = 0;
}

static void __attribute__((noreturn)) child_end(struct vs_child *c, int told) {
    vs_await_maker(c); /* it runs on our memory: nobody may use that again before it is gone */
    if (!told) {       /* no CLONE_CHILD_CLEARTID was asked for */
        __atomic_store_n(&c->running, 0, __ATOMIC_RELEASE);
        futex_wake(&c->running);
    }
    for (;;) SYS(SYS_exit, 127);
}

static vs_enter_fn *const enter_handlers[] = {
    [OP_join] = vs_op_join,
    [OP_await] = vs_op_await,
    [OP_parent_death] = vs_op_parent_death,
    [OP_cgroup_join] = vs_op_cgroup_join,
    [OP_unshare] = vs_op_unshare,
    [OP_become] = vs_op_become,
    [OP_propagation] = vs_op_propagation,
    [OP_fsmount] = vs_op_fsmount,
    [OP_overlay] = vs_op_overlay,
    [OP_clone_tree] = vs_op_clone_tree,
    [OP_attach] = vs_op_attach,
    [OP_fail] = vs_op_fail,
    [OP_mkdir] = vs_op_mkdir,
    [OP_opaque] = vs_op_opaque,
    [OP_symlink] = vs_op_symlink,
    [OP_file] = vs_op_file,
    [OP_node] = vs_op_node,
    [OP_lookup] = vs_op_lookup,
    [OP_write] = vs_op_write,
    [OP_seal] = vs_op_seal,
    [OP_pivot] = vs_op_pivot,
    [OP_hostname] = vs_op_hostname,
    [OP_domainname] = vs_op_domainname,
    [OP_network_make] = vs_op_network_make,
    [OP_network_join] = vs_op_network_join,
    [OP_loopback] = vs_op_loopback,
    [OP_rlimit] = vs_op_rlimit,
    [OP_umask] = vs_op_umask,
    [OP_session] = vs_op_session,
    [OP_terminal] = vs_op_terminal,
    [OP_stdio] = vs_op_stdio,
    [OP_groups] = vs_op_groups,
    [OP_user] = vs_op_user,
    [OP_capabilities] = vs_op_capabilities,
    [OP_working_folder] = vs_op_working_folder,
    [OP_no_new_privileges] = vs_op_no_new_privileges,
    [OP_session_keyring] = vs_op_session_keyring,
    [OP_landlock] = vs_op_landlock,
    [OP_close] = vs_op_close,
    [OP_pass] = vs_op_pass,
    [OP_seccomp] = vs_op_seccomp,
    [OP_exec] = vs_op_exec,
    [OP_exec_slot] = vs_op_exec_slot,
    [OP_reach] = vs_op_reach,
    [OP_wait_for] = vs_op_wait_for,
    [OP_refork] = vs_op_refork,
    [OP_hook_inside] = vs_op_hook_inside,
    [OP_set_attributes] = vs_op_set_attributes,
    [OP_set_xattr] = vs_op_set_xattr,
    [OP_cover] = vs_op_cover,
    [OP_clone_anew] = vs_op_clone_anew,
    [OP_cover_copy] = vs_op_cover_copy,
    [OP_device_node] = vs_op_device_node,
    [OP_device_link] = vs_op_device_link,
    [OP_mask] = vs_op_mask,
    [OP_read_only] = vs_op_read_only,
    [OP_move_root] = vs_op_move_root,
    [OP_console] = vs_op_console,
    [OP_own_streams] = vs_op_own_streams,
    [OP_personality] = vs_op_personality,
    [OP_scheduler] = vs_op_scheduler,
    [OP_io_priority] = vs_op_io_priority,
    [OP_affinity] = vs_op_affinity,
    [OP_inner_folder] = vs_op_inner_folder,
    [OP_privileges] = vs_op_privileges,
    [OP_find_program] = vs_op_find_program,
    [OP_close_from] = vs_op_close_from,
    [OP_seccomp_listen] = vs_op_seccomp_listen,
    [OP_exec_boot] = vs_op_exec_boot,
};

/* Run the operations from `index` on; the last one executes the command. */
void vs_child_enter(struct vs_child *c, uint32_t index) {
    const struct vs_plan *plan = c->machine->plan;
    int told = !c->second_stack || c->joined_pid;
    for (; index < plan->first[VS_RELEASE]; index++) {
        c->report.index = (int32_t)index;
        if ((int32_t)index == c->machine->fail_at) {
            vs_refuse(&c->report.fault, EIO);
            child_end(c, told);
        }
        if (enter_handlers[plan->ops[index].code](c, &plan->ops[index], &c->report.fault) < 0)
            child_end(c, told);
    }
    vs_refuse(&c->report.fault, ENOEXEC); /* a plan without an exec */
    child_end(c, told);
}

/* Where the caller has closed 0, 1 or 2, no descriptor of ours may come to stand there. */
static void fill_standard(void) {
    for (int fd = VS_STDIN; fd <= VS_STDERR; fd++)
        if (SYS(SYS_fcntl, fd, F_GETFD) == -EBADF) SYS(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR);
}

static void child_entry(void *argument) {
    struct vs_child *c = argument;
    uint64_t none = 0;
    fill_standard();
    SYS(SYS_umask, 0); /* what is made for the machine has the modes that the plan says */
    default_signals();
    restore_signals(&none);
    vs_child_enter(c, c->machine->plan->first[VS_ENTER]);
}

static void joined_entry(void *argument) {
    struct vs_child *c = argument;
    const struct vs_op *op = &c->machine->plan->ops[c->report.index];
    if (c->apart && CALL(&c->report.fault, SYS_setns, c->slots[op->arg[0]], CLONE_NEWTIME) < 0)
        child_end(c, 1);
    vs_child_enter(c, (uint32_t)c->report.index + 1);
}

/* After a `join`: go on as a child that is in the pid namespace, and in new ones. Only returns on
 * failure. The kernel tells of a child that leaves our memory, but not of one that has its own: for
 * that one, who cloned it stays until it has executed or ended, and its own end tells. */
int vs_join_clone(struct vs_child *c, uint32_t index, uint64_t flags, struct vs_fault *fault) {
    struct clone_args args = {
        .flags = flags | CLONE_PARENT | CLONE_PARENT_SETTID |
                 (c->apart ? CLONE_VFORK : CLONE_VM | CLONE_CHILD_CLEARTID),
        .parent_tid = (uint64_t)(uintptr_t)&c->joined_pid,
        .child_tid = (uint64_t)(uintptr_t)&c->running,
        .stack = (uint64_t)(uintptr_t)c->second_stack,
        .stack_size = STACK,
    };
    c->report.index = (int32_t)index;
    long pid = clone_onto(&args, joined_entry, c);
    if (pid >= 0)
        for (;;) SYS(SYS_exit, 0);
    fault->nr = SYS_clone3;
    fault->err = (int32_t)-pid;
    return (int)pid;
}

/* Wait until the child has left our memory. */
static void await_departure(struct vs_child *c, int pidfd) {
    struct timespec_64 {
        int64_t s, ns;
    } step = {0, 50000000};
    int32_t running;
    siginfo_t end;
    if (c->apart) {
        while (SYS(SYS_waitid, P_PIDFD, pidfd, &end, WEXITED | WNOWAIT | __WALL, 0) == -EINTR)
            continue;
        return;
    }
    while ((running = __atomic_load_n(&c->running, __ATOMIC_ACQUIRE)) != 0) {
        SYS(SYS_futex, &c->running, FUTEX_WAIT, running, c->second_stack ? &step : NULL);
        siginfo_t info = {0};
        if (c->second_stack && !__atomic_load_n(&c->joined_pid, __ATOMIC_ACQUIRE) &&
            SYS(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, 0) == 0 &&
            info.si_pid)
            return; /* killed before it could clone: no one else will tell */
    }
}

/* Receive the pipe that the child made, and wait until execve has closed its other end, which it
 * does after it has left our memory (begin_new_exec): only then may we be dumpable again. */
static void await_exec(struct vs_child *c) {
    char byte;
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    int end = -1;
    long ret = SYS(SYS_recvmsg, c->sentinel[0], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = ret > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header) vs_copy(&end, CMSG_DATA(header), sizeof end);
    if (end < 0) return;
    do ret = SYS(SYS_read, end, &byte, 1);
    while (ret == -EINTR);
    SYS(SYS_close, end);
}

int vs_plan_joins(const struct vs_plan *plan) {
    const struct vs_op *first = &plan->ops[plan->first[VS_ENTER]];
    for (uint32_t i = plan->first[VS_ENTER]; i < plan->first[VS_ENTER + 1]; i++, first++)
        if ((first->code == OP_join &&
             (first->arg[1] & (CLONE_NEWPID | CLONE_NEWTIME) || first->arg[2])) ||
            first->code == OP_refork)
            return 1;
    return 0;
}

static int joins_time(const struct vs_plan *plan) {
    for (uint32_t i = plan->first[VS_ENTER]; i < plan->first[VS_ENTER + 1]; i++)
        if (plan->ops[i].code == OP_join && plan->ops[i].arg[1] & CLONE_NEWTIME) return 1;
    return 0;
}

static long clone_child(struct vs_child *c, char *stack, struct vs_fault *fault) {
    struct vs_machine *m = c->machine;
    const struct vs_op *op = &m->plan->ops[m->plan->first[VS_SPAWN]];
    struct clone_args args = {
        .flags = op->arg[0] | CLONE_VM | CLONE_PIDFD | CLONE_UNTRACED,
        .pidfd = (uint64_t)(uintptr_t)&m->pidfd,
        .child_tid = (uint64_t)(uintptr_t)&c->running,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = STACK,
    };
    if (!c->second_stack) args.flags |= CLONE_CHILD_CLEARTID;
    if (op->arg[1] != VS_NONE) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)m->slots[op->arg[1]];
    }
    c->report.index = (int32_t)m->plan->first[VS_SPAWN];
    if (c->report.index == m->fail_at) return vs_refuse(fault, EIO);
    uint64_t mask;
    block_signals(&mask);
    long pid = clone_onto(&args, child_entry, c);
    restore_signals(&mask);
    if (pid < 0) {
        fault->nr = SYS_clone3;
        fault->err = (int32_t)-pid;
    }
    return pid;
}

/* The child that a `join` left behind is the machine's process from here on. */
static void follow_joined(struct vs_machine *m, struct vs_child *c) {
    struct vs_stat ignored;
    vs_reap(m->pidfd, 0, &ignored);
    SYS(SYS_close, m->pidfd);
    m->pid = c->joined_pid;
    m->pidfd = m->pid > 0 ? (int)SYS(SYS_pidfd_open, m->pid, 0) : -1;
}

/* The child has left: executing, or with a report of what failed. */
static int settle(struct vs_machine *m, struct vs_child *c, struct vs_report *report) {
    struct vs_stat ignored;
    if (c->second_stack) follow_joined(m, c);
    if (c->executing && !c->report.fault.err && !report->fault.err) return 0;
    if (m->pidfd >= 0) {
        SYS(SYS_pidfd_send_signal, m->pidfd, SIGKILL, 0, 0);
        vs_reap(m->pidfd, 0, &ignored);
    }
    if (report->fault.err && (!c->report.fault.err || c->report.fault.err == ECANCELED))
        return -report->fault.err; /* adopting failed, and the child gave up for it */
    if (!c->report.fault.err) c->report.fault.err = ECANCELED; /* killed from outside */
    *report = c->report;
    return -report->fault.err;
}

static int adopt(struct vs_machine *m, struct vs_child *c, struct vs_report *report) {
    int ret = vs_adopt(m, report);
    __atomic_store_n(&c->adopted, ret < 0 ? -1 : 1, __ATOMIC_RELEASE);
    futex_wake(&c->adopted);
    if (ret < 0) __atomic_store_n(&c->permitted, -1, __ATOMIC_RELEASE);
    if (ret < 0) futex_wake(&c->permitted);
    return ret;
}

static int spawn_on(struct vs_machine *m, struct vs_child *c, char *stacks,
                    struct vs_report *report) {
    c->second_stack = vs_plan_joins(m->plan) ? stacks + STACK : NULL;
    c->spare_stack = stacks + 2 * STACK;
    c->maker = 0;
    c->running = 1;
    long pid = clone_child(c, stacks, &report->fault);
    if (pid < 0) {
        report->index = c->report.index;
        return (int)pid;
    }
    m->pid = (int32_t)pid;
    if (m->plan->first[VS_ADOPT] != m->plan->first[VS_ADOPT + 1]) adopt(m, c, report);
    await_departure(c, m->pidfd);
    if (c->told) await_exec(c);
    return settle(m, c, report);
}

int vs_spawn(struct vs_machine *m, int host_pidfd, struct vs_report *report) {
    int apart = joins_time(m->plan);
    char *region = apart ? map_region(MAP_SHARED) : take_region();
    if (!region) {
        report->fault = (struct vs_fault){.nr = SYS_mmap, .err = ENOMEM};
        return -ENOMEM;
    }
    struct vs_child *c = (struct vs_child *)region;
    c->machine = m;
    c->report = (struct vs_report){.index = -1};
    c->adopted = c->executing = c->joined_pid = c->reached = c->permitted = 0;
    m->child = c;
    c->host_pidfd = host_pidfd;
    c->apart = apart;
    for (int i = 0; i < VS_SLOTS; i++) c->slots[i] = m->slots[i];
    int joins = vs_plan_joins(m->plan);
    long ret = joins ? CALL(&report->fault, SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
                            c->sentinel)
                     : 0;
    c->told = 0;
    for (int i = 0; i < 2 && joins && ret >= 0; i++)
        c->sentinel[i] = vs_above_standard(c->sentinel[i]);
    if (ret < 0) {
        leave_region(c);
        return (int)ret;
    }
    vs_memory_enter(joins);
    char *stacks = region + ((sizeof *c + 63) & ~63ul);
    ret = spawn_on(m, c, (char *)((uintptr_t)stacks & ~63ul), report);
    vs_memory_leave(joins);
    m->child = NULL;
    for (int i = 0; i < 2 && joins; i++) SYS(SYS_close, c->sentinel[i]);
    /* A child that was killed from outside may have left its maker running for a moment. */
    if (ret != -ECANCELED) leave_region(c);
    return (int)ret;
}

/* What a helper program is started with. */
struct helper {
    const char *path;
    char *const *argv;
    int report;      /* becomes descriptor 3; -1: none */
    int with_parent; /* die with the thread that started it */
};

static void helper_entry(void *argument) {
    struct helper *h = argument;
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    uint64_t none = 0;
    default_signals();
    restore_signals(&none);
    if (h->with_parent) SYS(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (h->report >= 0) {
        SYS(SYS_dup3, h->report, 3, 0);
        if (h->report == 3) SYS(SYS_fcntl, 3, F_SETFD, 0);
    }
    SYS(SYS_execve, h->path, h->argv, environment);
    for (;;) SYS(SYS_exit, 127);
}

/* Stands for its user namespace until it is killed; never longer than its parent lives. */
static void idle_entry(void *argument) {
    const long *parent = argument;
    SYS(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    while (SYS(SYS_getppid) == *parent) SYS(SYS_ppoll, 0, 0, 0, 0, 8);
    for (;;) SYS(SYS_exit, 0);
}

/* Clone a short-lived child of our own that shares memory; returns its pid. */
static long clone_helper(char *stack, uint64_t flags, int cgroup, void (*entry)(void *),
                         void *argument, int *pidfd) {
    struct clone_args args = {
        .flags = flags | CLONE_VM | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = STACK,
    };
    uint64_t mask;
    block_signals(&mask);
    long pid = clone_onto(&args, entry, argument);
    restore_signals(&mask);
    return pid;
}

/* Run a helper program and wait for it; EPERM where it fails. */
int vs_run_helper(const char *path, char *const *argv, struct vs_fault *fault) {
    char *region = take_region();
    if (!region) return vs_refuse(fault, ENOMEM);
    struct helper h = {.path = path, .argv = argv, .report = -1};
    struct vs_stat stat = {0};
    int pidfd = -1;
    long pid = clone_helper(region, CLONE_VFORK, -1, helper_entry, &h, &pidfd);
    if (pid >= 0) {
        vs_reap(pidfd, 0, &stat);
        SYS(SYS_close, pidfd);
    }
    give_region(region);
    if (pid < 0) return vs_refuse(fault, (int)-pid);
    if (stat.code == CLD_EXITED && stat.status == 0) return 0;
    return vs_refuse(fault, stat.status == 127 ? ENOENT : EPERM);
}

/* Start a helper program that stays, in `cgroup` where there is one, and wait until it writes to
 * its descriptor 3. Returns its pidfd; EPERM where it ends before. */
int vs_start_helper(const char *path, char *const *argv, int cgroup, struct vs_fault *fault) {
    char *region = take_region(), byte;
    int ends[2], pidfd = -1;
    if (!region) return vs_refuse(fault, ENOMEM);
    long ret = vs_pipe(ends, fault);
    if (ret < 0) {
        give_region(region);
        return (int)ret;
    }
    struct helper h = {path, argv, ends[1], cgroup < 0};
    long pid = clone_helper(region, CLONE_VFORK, cgroup, helper_entry, &h, &pidfd);
    give_region(region);
    SYS(SYS_close, ends[1]);
    do ret = pid < 0 ? 0 : SYS(SYS_read, ends[0], &byte, 1);
    while (ret == -EINTR);
    SYS(SYS_close, ends[0]);
    if (pid < 0) return vs_refuse(fault, (int)-pid);
    if (ret == 1) return pidfd;
    vs_end_helper(pidfd);
    return vs_refuse(fault, EPERM);
}

void vs_end_helper(int pidfd) {
    struct vs_stat ignored;
    SYS(SYS_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
    vs_reap(pidfd, 0, &ignored);
    SYS(SYS_close, pidfd);
}

int32_t vs_current_pid(const struct vs_machine *m) {
    int32_t joined = m->child ? __atomic_load_n(&m->child->joined_pid, __ATOMIC_ACQUIRE) : 0;
    return joined > 0 ? joined : m->pid;
}

int vs_child_lives(const struct vs_machine *m) {
    struct vs_child *c = m->child;
    siginfo_t info = {0};
    if (!__atomic_load_n(&c->running, __ATOMIC_ACQUIRE)) return 0;
    if (!c->second_stack || __atomic_load_n(&c->joined_pid, __ATOMIC_ACQUIRE)) return 1;
    SYS(SYS_waitid, P_PIDFD, m->pidfd, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, 0);
    return !info.si_pid;
}

static void hook_entry(void *argument) {
    struct vs_hook *h = argument;
    uint64_t none = 0;
    default_signals();
    restore_signals(&none);
    SYS(SYS_setpgid, 0, 0); /* so that whatever it starts can be ended with it */
    SYS(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (SYS(SYS_getppid) != h->parent) SYS(SYS_exit, 127); /* killed meanwhile */
    int null = (int)SYS(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC);
    int given[3] = {h->input, h->output, h->output};
    for (int i = 0; i < 3; i++) {
        int from = given[i] >= 0 ? given[i] : null;
        if (from >= 0) SYS(SYS_dup3, from, i, 0);
    }
    SYS(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    struct vs_fault ignored = {0};
    if (*h->oom_score) vs_write_proc((int32_t)SYS(SYS_getpid), OOM_SCORE, h->oom_score, &ignored);
    h->err = (int)-SYS(SYS_execve, h->path, h->argv, h->envp);
    for (;;) SYS(SYS_exit, 127);
}

/* Wait for a hook; one whose time is over is killed, with what it started. */
static int end_hook(struct vs_hook *hook, long pid, int pidfd, struct vs_fault *fault) {
    struct pollfd poll = {.fd = pidfd, .events = POLLIN};
    int64_t limit[2] = {hook->timeout_ms / 1000, hook->timeout_ms % 1000 * 1000000};
    siginfo_t info = {0};
    long ret;
    do ret = SYS(SYS_ppoll, &poll, 1, hook->timeout_ms ? limit : NULL, 0, SIGSET_BYTES);
    while (ret == -EINTR);
    int late = ret == 0;
    if (late) SYS(SYS_kill, -pid, SIGKILL);
    do ret = SYS(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | __WALL, 0);
    while (ret == -EINTR);
    SYS(SYS_close, pidfd);
    hook->status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
    if (late) hook->status = -1;
    if (hook->err) return vs_refuse(fault, hook->err);
    if (late) return vs_refuse(fault, ETIMEDOUT);
    return hook->status ? vs_refuse(fault, ECHILD) : 0;
}

/* Run a hook to its end on `stack`, by default one of our own. */
int vs_run_hook(struct vs_hook *hook, char *stack, struct vs_fault *fault) {
    char *region = stack ? NULL : take_region();
    int pidfd = -1;
    if (!stack && !region) return vs_refuse(fault, ENOMEM);
    hook->err = 0;
    hook->parent = SYS(SYS_getpid);
    long pid = clone_helper(stack ? stack : region, CLONE_VFORK, -1, hook_entry, hook, &pidfd);
    if (region) give_region(region);
    if (pid < 0) return vs_refuse(fault, (int)-pid);
    return end_hook(hook, pid, pidfd, fault);
}

/* Make a user namespace with the given maps and return a descriptor of it. */
int vs_make_userns(const char *uid_map, const char *gid_map, struct vs_fault *fault) {
    char *region = take_region(), path[40] = "/proc/";
    if (!region) return vs_refuse(fault, ENOMEM);
    int pidfd = -1, fd = -1;
    long self = SYS(SYS_getpid);
    long pid = clone_helper(region, CLONE_NEWUSER, -1, idle_entry, &self, &pidfd);
    if (pid < 0) {
        give_region(region);
        fault->nr = SYS_clone3;
        return fault->err = (int)-pid, (int)pid;
    }
    int ret = vs_write_proc((int32_t)pid, "/uid_map", uid_map, fault);
    if (ret == 0) ret = vs_write_proc((int32_t)pid, "/gid_map", gid_map, fault);
    if (ret == 0) {
        size_t n = 6 + vs_decimal(path + 6, (uint64_t)pid);
        vs_copy(path + n, "/ns/user", 9);
        fd = (int)CALL(fault, SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        ret = fd < 0 ? fd : 0;
    }
    vs_end_helper(pidfd);
    give_region(region);
    return ret < 0 ? ret : fd;
}
