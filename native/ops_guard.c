/* What a machine's process may do: ids, capabilities, Landlock, seccomp. */
#include "core.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#define LAST_CAPABILITY  63
#define MAX_GROUPS       1024
#define MAX_INSTRUCTIONS 4096

static int set_ids(uint64_t uid, uint64_t gid, struct vs_fault *fault) {
    long ret = CALL(fault, SYS_setresgid, gid, gid, gid);
    if (ret >= 0) ret = CALL(fault, SYS_setresuid, uid, uid, uid);
    return (int)ret;
}

/* The additional groups of the caller mean nothing in the machine. Where the host forbids
 * setgroups (one id, no helper) they stay, unmapped. */
int vs_op_become(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    SYS(SYS_setgroups, 0, 0);
    return set_ids(op->arg[0], op->arg[1], fault);
}

/* `list` holds decimal ids with spaces between. */
int vs_op_groups(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    const char *list = vs_string(c->machine, op->arg[0]);
    uint32_t groups[MAX_GROUPS], count = 0;
    while (*list) {
        uint32_t id = 0;
        if (*list < '0' || *list > '9' || count == MAX_GROUPS) return vs_refuse(fault, EINVAL);
        for (; *list >= '0' && *list <= '9'; list++) id = id * 10 + (uint32_t)(*list - '0');
        groups[count++] = id;
        while (*list == ' ') list++;
    }
    return (int)CALL(fault, SYS_setgroups, count, groups);
}

static int drop_bounding(uint64_t keep, struct vs_fault *fault) {
    for (unsigned long cap = 0; cap <= LAST_CAPABILITY; cap++) {
        if (keep >> cap & 1) continue;
        long ret = CALL(fault, SYS_prctl, PR_CAPBSET_DROP, cap);
        if (ret == -EINVAL) break; /* past the last one that this kernel knows */
        if (ret < 0) return (int)ret;
    }
    *fault = (struct vs_fault){0};
    return 0;
}

/* Only the bounding set shrinks here, and what execve would pass on is emptied: execve then takes
 * the rest away. Until then nobody in the machine has as many capabilities as this process, so
 * nobody there can trace it while it still runs on its parent's memory (commoncap.c). */
int vs_op_capabilities(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    int ret = drop_bounding(op->arg[0], fault);
    if (ret == 0) ret = (int)CALL(fault, SYS_capget, &header, data);
    data[0].inheritable = data[1].inheritable = 0; /* and with it the ambient set */
    return ret < 0 ? ret : (int)CALL(fault, SYS_capset, &header, data);
}

/* With `keep` the capabilities stay until execve takes them from a user who is not root. */
int vs_op_user(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (!op->arg[2]) return set_ids(op->arg[0], op->arg[1], fault);
    long ret = CALL(fault, SYS_prctl, PR_SET_KEEPCAPS, 1);
    if (ret >= 0) ret = set_ids(op->arg[0], op->arg[1], fault);
    if (ret >= 0) ret = CALL(fault, SYS_capget, &header, data);
    for (int i = 0; i < 2; i++) data[i].effective = data[i].permitted;
    return ret < 0 ? (int)ret : (int)CALL(fault, SYS_capset, &header, data);
}

/* The five sets as they are asked for, and the ids. In this order because dropping from the
 * bounding set takes a capability, and ambient ones must be permitted and inheritable
 * (capabilities(7)). */
int vs_op_privileges(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    long ret = drop_bounding(op->arg[0], fault);
    if (ret >= 0) ret = CALL(fault, SYS_prctl, PR_SET_KEEPCAPS, 1);
    if (ret >= 0) ret = set_ids(op->arg[5], op->arg[6], fault);
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(op->arg[1] >> 32 * i);
        data[i].permitted = (uint32_t)(op->arg[2] >> 32 * i);
        data[i].inheritable = (uint32_t)(op->arg[3] >> 32 * i);
    }
    if (ret >= 0) ret = CALL(fault, SYS_capset, &header, data);
    if (ret >= 0) ret = CALL(fault, SYS_prctl, PR_SET_KEEPCAPS, 0);
    for (unsigned long cap = 0; cap <= LAST_CAPABILITY && ret >= 0; cap++)
        if (op->arg[4] >> cap & 1)
            ret = CALL(fault, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return ret < 0 ? (int)ret : 0;
}

int vs_op_no_new_privileges(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)op;
    return (int)CALL(fault, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
}

int vs_op_session_keyring(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c, (void)op;
    long ret = CALL(fault, SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
    if (ret == -ENOSYS) *fault = (struct vs_fault){0}; /* a kernel without keys */
    return ret < 0 && ret != -ENOSYS ? (int)ret : 0;
}

int vs_op_landlock(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    (void)c;
    uint64_t rules[3] = {0, 0, op->arg[0]}; /* handled_access_fs, handled_access_net, scoped */
    long fd = CALL(fault, SYS_landlock_create_ruleset, rules, sizeof rules, 0);
    if (fd < 0) return (int)fd;
    long ret = CALL(fault, SYS_landlock_restrict_self, fd, 0);
    SYS(SYS_close, fd);
    return (int)ret;
}

int vs_op_seccomp(struct vs_child *c, const struct vs_op *op, struct vs_fault *fault) {
    uint32_t size;
    const char *program = vs_blob(c->machine->plan, op->arg[0], &size);
    struct {
        unsigned short len;
        const void *filter;
    } fprog = {(unsigned short)(size / 8), program};
    if (size % 8 || size / 8 > MAX_INSTRUCTIONS) return vs_refuse(fault, EINVAL);
    return (int)CALL(fault, SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->arg[1], &fprog);
}
