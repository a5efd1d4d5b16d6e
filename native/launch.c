/* A launch as the parent sees it: sections in order, and the way back. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

static vs_load_fn *const load_handlers[] = {
    [OP_open] = vs_op_open,
    [OP_expect_host] = vs_op_expect_host,
    [OP_expect_file] = vs_op_expect_file,
    [OP_program] = vs_op_program,
    [OP_devices] = vs_op_devices,
    [OP_erofs] = vs_op_erofs,
    [OP_device] = vs_op_device,
    [OP_userns] = vs_op_userns,
    [OP_cgroup_root] = vs_op_cgroup_root,
    [OP_inherit] = vs_op_inherit,
    [OP_namespace] = vs_op_namespace,
    [OP_data] = vs_op_data,
};

static vs_host_fn *const host_handlers[] = {
    [OP_cgroup] = vs_op_cgroup,
    [OP_cgroup_write] = vs_op_cgroup_write,
    [OP_cgroup_open] = vs_op_cgroup_open,
    [OP_tree] = vs_op_tree,
    [OP_open_in] = vs_op_open_in,
    [OP_hold] = vs_op_hold,
    [OP_sockets] = vs_op_sockets,
    [OP_setgroups_deny] = vs_op_setgroups_deny,
    [OP_map] = vs_op_map,
    [OP_helper] = vs_op_helper,
    [OP_service] = vs_op_service,
    [OP_service_end] = vs_op_service_end,
    [OP_cgroup_remove] = vs_op_cgroup_remove,
    [OP_idmap] = vs_op_idmap,
    [OP_time_join] = vs_op_time_join,
    [OP_oom_score] = vs_op_oom_score,
    [OP_cgroup_path] = vs_op_cgroup_path,
    [OP_cgroup_path_end] = vs_op_cgroup_path_end,
    [OP_device_filter] = vs_op_device_filter,
    [OP_cgroup_leave] = vs_op_cgroup_leave,
    [OP_permit] = vs_op_permit,
    [OP_meet] = vs_op_meet,
    [OP_hook] = vs_op_hook,
};

const char *vs_string(const struct vs_machine *m, uint64_t arg) {
    if (arg & VS_PARAMETER_BIT) return m->parameters[arg - VS_PARAMETER_BIT];
    return m->plan->table + arg;
}

/* Move a descriptor away from 0, 1 and 2, which the caller may have closed: what is there becomes
 * the command's. */
int vs_above_standard(int fd) {
    if (fd > VS_STDERR || fd < 0) return fd;
    long moved = SYS(SYS_fcntl, fd, F_DUPFD_CLOEXEC, VS_STDERR + 1);
    SYS(SYS_close, fd);
    return (int)moved;
}

/* A pipe that execve closes, with neither end at 0, 1 or 2. */
int vs_pipe(int ends[2], struct vs_fault *fault) {
    long ret = CALL(fault, SYS_pipe2, ends, O_CLOEXEC);
    for (int i = 0; i < 2 && ret >= 0; i++) ends[i] = vs_above_standard(ends[i]);
    return (int)ret;
}

/* Put a descriptor of this launch into a slot. */
void vs_own(struct vs_machine *m, uint64_t slot, int fd) {
    m->slots[slot] = vs_above_standard(fd);
    m->owned[slot / 64] |= 1ull << slot % 64;
}

int vs_plan_load(struct vs_plan *plan, struct vs_report *report) {
    report->fault = (struct vs_fault){0};
    for (uint32_t i = plan->first[VS_LOAD]; i < plan->first[VS_LOAD + 1]; i++) {
        report->index = (int32_t)i;
        int ret = load_handlers[plan->ops[i].code](plan, &plan->ops[i], &report->fault);
        if (ret < 0) {
            vs_plan_unload(plan);
            return ret;
        }
    }
    for (int i = 0; i < VS_SLOTS; i++) plan->slots[i] = vs_above_standard(plan->slots[i]);
    report->index = -1;
    return 0;
}

void vs_plan_unload(struct vs_plan *plan) {
    for (int i = 0; i < VS_SLOTS; i++) {
        if (plan->slots[i] >= 0) SYS(SYS_close, plan->slots[i]);
        plan->slots[i] = -1;
    }
}

void vs_machine_init(struct vs_machine *m, const struct vs_plan *plan) {
    *m = (struct vs_machine){.plan = plan, .pid = -1, .pidfd = -1, .fail_at = -1};
    for (int i = 0; i < VS_SLOTS; i++) m->slots[i] = plan->slots[i];
    m->slots[VS_STDIN] = 0;
    m->slots[VS_STDOUT] = 1;
    m->slots[VS_STDERR] = 2;
    m->slots[VS_TARGET] = m->slots[VS_LIFE] = -1;
}

/* Run the operations of one section in the parent. */
static int run_section(struct vs_machine *m, int section, struct vs_report *report) {
    for (uint32_t i = m->plan->first[section]; i < m->plan->first[section + 1]; i++) {
        const struct vs_op *op = &m->plan->ops[i];
        report->index = (int32_t)i;
        if ((int32_t)i == m->fail_at) return vs_refuse(&report->fault, EIO);
        int ret = host_handlers[op->code](m, op, &report->fault);
        if (ret < 0) return ret;
    }
    report->index = -1;
    return 0;
}

static void close_owned(struct vs_machine *m) {
    for (unsigned word = 0; word < sizeof m->owned / sizeof m->owned[0]; word++) {
        for (uint64_t left = m->owned[word]; left; left &= left - 1) {
            unsigned slot = word * 64 + (unsigned)__builtin_ctzll(left);
            SYS(SYS_close, m->slots[slot]);
            m->slots[slot] = -1;
        }
        m->owned[word] = 0;
    }
}

/* Close what belongs to the launch, and leave the machine alone. */
void vs_forget(struct vs_machine *m) {
    close_owned(m);
    if (m->pidfd >= 0) SYS(SYS_close, m->pidfd);
    m->pidfd = -1;
}

/* Give back what the launch took. The child must have been reaped. Failing to remove one thing
 * never keeps the rest from being removed. */
void vs_release(struct vs_machine *m) {
    struct vs_report ignored = {0};
    for (uint32_t i = m->plan->first[VS_RELEASE]; i < m->plan->first[VS_RELEASE + 1]; i++)
        host_handlers[m->plan->ops[i].code](m, &m->plan->ops[i], &ignored.fault);
    vs_forget(m);
}

/* What only the launch needed: every descriptor kept for a machine is one more that the clone of
 * the next one copies. */
static void shed(struct vs_machine *m) {
    for (uint32_t i = m->plan->first[VS_PREPARE]; i < m->plan->first[VS_PREPARE + 1]; i++) {
        const struct vs_op *op = &m->plan->ops[i];
        uint64_t slot = op->arg[0];
        if (op->code != OP_cgroup_open && op->code != OP_tree) continue;
        if (m->slots[slot] >= 0 && m->owned[slot / 64] >> slot % 64 & 1)
            SYS(SYS_close, m->slots[slot]);
        m->slots[slot] = -1;
        m->owned[slot / 64] &= ~(1ull << slot % 64);
    }
}

/* Leave the time namespace of the machine: in it, times of /proc are not the host's. */
static void leave_time(struct vs_machine *m) {
    for (uint32_t i = m->plan->first[VS_PREPARE]; i < m->plan->first[VS_PREPARE + 1]; i++) {
        const struct vs_op *op = &m->plan->ops[i];
        if (op->code == OP_time_join && m->slots[op->arg[1]] >= 0)
            SYS(SYS_setns, m->slots[op->arg[1]], CLONE_NEWTIME);
    }
}

/* The child, which has left our memory, keeps the score that it was born with. */
static void put_back_score(struct vs_machine *m) {
    struct vs_fault ignored = {0};
    if (*m->oom_score) vs_write_proc((int32_t)SYS(SYS_getpid), OOM_SCORE, m->oom_score, &ignored);
    *m->oom_score = 0;
}

/* Run the plan until its command runs. On failure nothing of the launch is left. */
int vs_launch(struct vs_machine *m, int host_pidfd, struct vs_report *report) {
    *report = (struct vs_report){.index = -1};
    int ret = run_section(m, VS_PREPARE, report);
    if (ret == 0) ret = vs_spawn(m, host_pidfd, report);
    leave_time(m);
    put_back_score(m);
    if (ret < 0)
        vs_release(m);
    else
        shed(m);
    return ret;
}

/* Called by vs_spawn once the child exists. */
int vs_adopt(struct vs_machine *m, struct vs_report *report) {
    return run_section(m, VS_ADOPT, report);
}
