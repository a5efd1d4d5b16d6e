/* The core: decodes a plan, runs its sections in order, and reports
 * (operation index, system call, error number). It decides nothing.
 *
 *   vs_plan_decode  bytes -> plan, every length and reference checked
 *   vs_plan_load    the `load` section, once for all launches of the plan
 *   vs_launch       prepare, spawn, adopt in the parent; enter, exec in the child
 *   vs_release      what the launch took from the host is given back
 */
#ifndef VISCUM_CORE_H
#define VISCUM_CORE_H

#include "sys.h"
#include "vocabulary.h"

#define VS_PRIVATE __attribute__((visibility("hidden")))
#define OOM_SCORE  "/oom_score_adj"

enum {
    VS_STDIN,
    VS_STDOUT,
    VS_STDERR,
    VS_TARGET,
    VS_LIFE /* pidfd of the owner */,
    VS_FIXED_SLOTS
};

enum {
#define VS_CODE(code, id, name, section, kinds) OP_##id = code,
    VS_VOCABULARY(VS_CODE)
#undef VS_CODE
};

struct vs_op {
    uint32_t code;
    uint32_t section;
    uint64_t arg[7];
};

struct vs_plan {
    const struct vs_op *ops;
    const char *table;
    uint32_t count;
    uint32_t table_size;
    uint32_t first[VS_SECTIONS + 1]; /* first[s] .. first[s + 1]: the operations of section s */
    int slots[VS_SLOTS];             /* opened by `load`, kept until vs_plan_unload */
};

/* Where and why something failed. */
struct vs_report {
    int32_t index; /* operation, -1 where none was running */
    struct vs_fault fault;
};

/* One launch, from vs_launch until vs_release. */
struct vs_machine {
    const struct vs_plan *plan;
    const char *parameters[VS_PARAMETERS];
    int slots[VS_SLOTS]; /* those of the plan, the caller's, and this launch's own */
    uint64_t owned[(VS_SLOTS + 63) / 64];
    int32_t pid;
    int pidfd;
    char oom_score[8];      /* the parent's own, while it has the machine's; else empty */
    int32_t fail_at;        /* fault injection: the operation that fails with EIO, or -1 */
    struct vs_child *child; /* while it is launched */
};

/* What the child runs on: shared memory with the parent, written by one side at a time. */
struct vs_child {
    struct vs_machine *machine;
    struct vs_report report;
    int slots[VS_SLOTS]; /* the child's descriptor table is its own, so are the numbers */
    int32_t running;     /* futex: not 0 until the child has left this memory (exec or exit) */
    int32_t adopted;     /* futex: 0 wait, 1 go on, -1 give up */
    int32_t reached;     /* futex: the last step that the child told of */
    int32_t permitted;   /* futex: the last step that the parent permits */
    int32_t executing;   /* set right before exec: from here on the status is the command's */
    int32_t joined_pid;  /* the child that a `join` cloned into the machine's pid namespace */
    int host_pidfd;      /* of the launching process */
    int sentinel[2];     /* with a join: what tells the parent that execve is over comes over it */
    int told;            /* it was sent */
    char *second_stack;  /* with a join: of the child inside */
    int apart;           /* that child has memory of its own but for this struct and its stack */
    char *spare_stack;   /* of the process that makes the network namespace */
    int32_t maker;       /* that process, 0 where there is none */
    struct vs_fault maker_fault;
    uint32_t maker_slot;
    char scratch[8192];
    const char *environment[4096];
};

struct vs_stat {
    int32_t code;   /* CLD_EXITED, CLD_KILLED, CLD_DUMPED; 0 where it could not be told */
    int32_t status; /* exit status or signal */
    int64_t user_us, system_us, peak_kib, read_blocks, written_blocks;
};

/* decode.c */
VS_PRIVATE int vs_plan_decode(struct vs_plan *plan, const void *data, size_t size,
                              struct vs_report *report);
VS_PRIVATE const char *vs_op_name(uint32_t code);

static inline const char *vs_blob(const struct vs_plan *plan, uint64_t arg, uint32_t *size) {
    *size = (uint32_t)arg;
    return plan->table + (arg >> 32);
}

/* Slot number `index` of a list: two bytes each, little-endian. */
static inline uint32_t vs_listed(const struct vs_plan *plan, uint64_t arg, uint32_t index) {
    uint32_t size;
    const unsigned char *at = (const unsigned char *)vs_blob(plan, arg, &size) + 2 * index;
    return at[0] | (uint32_t)at[1] << 8;
}

/* launch.c */
VS_PRIVATE int vs_plan_load(struct vs_plan *plan, struct vs_report *report);
VS_PRIVATE void vs_plan_unload(struct vs_plan *plan);
VS_PRIVATE void vs_machine_init(struct vs_machine *m, const struct vs_plan *plan);
VS_PRIVATE int vs_launch(struct vs_machine *m, int host_pidfd, struct vs_report *report);
VS_PRIVATE void vs_release(struct vs_machine *m);
VS_PRIVATE void vs_forget(struct vs_machine *m);
VS_PRIVATE const char *vs_string(const struct vs_machine *m, uint64_t arg);
VS_PRIVATE int vs_above_standard(int fd);
VS_PRIVATE int vs_pipe(int ends[2], struct vs_fault *fault);
VS_PRIVATE void vs_own(struct vs_machine *m, uint64_t slot, int fd);

VS_PRIVATE int vs_adopt(struct vs_machine *m, struct vs_report *report);

/* spawn.c */
VS_PRIVATE int vs_spawn(struct vs_machine *m, int host_pidfd, struct vs_report *report);
VS_PRIVATE int vs_join_clone(struct vs_child *c, uint32_t index, uint64_t flags,
                             struct vs_fault *fault);
VS_PRIVATE int vs_start_maker(struct vs_child *c, void (*entry)(void *), struct vs_fault *fault);
VS_PRIVATE void vs_await_maker(struct vs_child *c);
VS_PRIVATE void vs_child_enter(struct vs_child *c, uint32_t index) __attribute__((noreturn));
VS_PRIVATE int vs_run_helper(const char *path, char *const *argv, struct vs_fault *fault);
VS_PRIVATE int vs_start_helper(const char *path, char *const *argv, int cgroup,
                               struct vs_fault *fault);
VS_PRIVATE void vs_end_helper(int pidfd);
VS_PRIVATE int vs_make_userns(const char *uid_map, const char *gid_map, struct vs_fault *fault);
VS_PRIVATE long vs_mount_detached(const char *kind, const char *const options[][2],
                                  unsigned long attributes, struct vs_fault *fault);
VS_PRIVATE long vs_mount_erofs(int file, struct vs_fault *fault);
VS_PRIVATE int vs_write_proc(int32_t pid, const char *file, const char *data,
                             struct vs_fault *fault);

VS_PRIVATE int vs_plan_joins(const struct vs_plan *plan);
/* The child as its parent sees it: the one that a `join` or `refork` left, once there is one. */
VS_PRIVATE int32_t vs_current_pid(const struct vs_machine *m);
VS_PRIVATE int vs_parent_is_gone(struct vs_child *c);
VS_PRIVATE int vs_child_lives(const struct vs_machine *m);

/* A program that is waited for, fed and bound in time. */
struct vs_hook {
    const char *path;
    const char *const *argv, *const *envp;
    int input, output; /* become its 0, and its 1 and 2; -1: /dev/null */
    int64_t timeout_ms;
    const char *oom_score; /* that it runs with; empty: as it is */
    int status;            /* of its end: as wait(2) has it, -1 where its time was over */
    int err;               /* why it could not be executed */
    long parent;
};
VS_PRIVATE int vs_run_hook(struct vs_hook *hook, char *stack, struct vs_fault *fault);

/* memory.c */
VS_PRIVATE void vs_memory_enter(int joins);
VS_PRIVATE void vs_memory_leave(int joins);

/* wait.c */
VS_PRIVATE int vs_reap(int pidfd, int options, struct vs_stat *stat);
VS_PRIVATE int vs_is_dropped(int32_t pid, int number);

/* One handler for each word of the vocabulary. Those of `load`, `prepare`, `adopt` and `release`
 * run in the parent, those of `enter` and `exec` in the child. 0, or a negative error number with
 * the fault noted. */
typedef int vs_load_fn(struct vs_plan *, const struct vs_op *, struct vs_fault *);
typedef int vs_host_fn(struct vs_machine *, const struct vs_op *, struct vs_fault *);
typedef int vs_enter_fn(struct vs_child *, const struct vs_op *, struct vs_fault *);

/* ops_host.c: load */
vs_load_fn vs_op_erofs, vs_op_open, vs_op_expect_host, vs_op_expect_file, vs_op_program,
    vs_op_devices, vs_op_device, vs_op_userns, vs_op_cgroup_root, vs_op_inherit, vs_op_namespace,
    vs_op_data;
/* ops_cgroup.c, ops_host.c: prepare, adopt, release */
vs_host_fn vs_op_cgroup, vs_op_cgroup_write, vs_op_cgroup_open, vs_op_cgroup_leave, vs_op_tree,
    vs_op_open_in, vs_op_hold, vs_op_sockets, vs_op_setgroups_deny, vs_op_map, vs_op_helper,
    vs_op_service, vs_op_service_end, vs_op_cgroup_remove;
/* ops_container.c */
vs_host_fn vs_op_idmap, vs_op_time_join, vs_op_oom_score, vs_op_cgroup_path, vs_op_cgroup_path_end,
    vs_op_device_filter, vs_op_permit, vs_op_meet, vs_op_hook;
vs_enter_fn vs_op_reach, vs_op_wait_for, vs_op_refork, vs_op_hook_inside, vs_op_set_attributes,
    vs_op_set_xattr, vs_op_cover, vs_op_clone_anew, vs_op_cover_copy, vs_op_device_node,
    vs_op_device_link, vs_op_mask, vs_op_read_only, vs_op_move_root, vs_op_console,
    vs_op_own_streams, vs_op_personality, vs_op_scheduler, vs_op_io_priority, vs_op_affinity,
    vs_op_inner_folder, vs_op_find_program, vs_op_seccomp_listen;
/* ops_mount.c */
vs_enter_fn vs_op_propagation, vs_op_fsmount, vs_op_overlay, vs_op_clone_tree, vs_op_attach,
    vs_op_seal, vs_op_pivot;
/* ops_file.c */
vs_enter_fn vs_op_fail, vs_op_mkdir, vs_op_opaque, vs_op_symlink, vs_op_file, vs_op_node,
    vs_op_lookup, vs_op_write;
/* ops_process.c */
vs_enter_fn vs_op_join, vs_op_await, vs_op_parent_death, vs_op_cgroup_join, vs_op_unshare,
    vs_op_hostname, vs_op_domainname, vs_op_network_make, vs_op_network_join, vs_op_loopback,
    vs_op_rlimit, vs_op_umask, vs_op_session, vs_op_terminal, vs_op_stdio, vs_op_working_folder,
    vs_op_close, vs_op_pass, vs_op_exec, vs_op_exec_slot, vs_op_close_from, vs_op_exec_boot;
/* ops_guard.c */
vs_enter_fn vs_op_become, vs_op_groups, vs_op_user, vs_op_capabilities, vs_op_no_new_privileges,
    vs_op_session_keyring, vs_op_landlock, vs_op_seccomp, vs_op_privileges;

#endif
