/* Generated from src/viscum/plan.py by tools/gen_vocabulary.py. Do not edit. */
#ifndef VISCUM_VOCABULARY_H
#define VISCUM_VOCABULARY_H

#define VS_MAGIC "VISCUMPL"
#define VS_VERSION 1
#define VS_HEADER_SIZE 32
#define VS_RECORD_SIZE 64
#define VS_MAX_OPERATIONS 4096
#define VS_MAX_TABLE 4194304
#define VS_SLOTS 96
#define VS_NONE 255
#define VS_PARAMETER_BIT 0x80000000u
#define VS_PARAMETERS 1

enum vs_section {
    VS_LOAD = 0,
    VS_PREPARE = 1,
    VS_SPAWN = 2,
    VS_ADOPT = 3,
    VS_ENTER = 4,
    VS_EXEC = 5,
    VS_RELEASE = 6,
    VS_SECTIONS = 7,
};

/* X(code, identifier, name, section, kinds of its arguments) */
#define VS_VOCABULARY(X) \
    X(1, open, "open", VS_LOAD, "FSI") \
    X(2, expect_host, "expect-host", VS_LOAD, "SS") \
    X(3, expect_file, "expect-file", VS_LOAD, "FII") \
    X(4, userns, "userns", VS_LOAD, "FSS") \
    X(5, cgroup_root, "cgroup-root", VS_LOAD, "FS") \
    X(6, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(7, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(8, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(9, tree, "tree", VS_PREPARE, "FFFIII") \
    X(10, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(11, sockets, "sockets", VS_PREPARE, "FF") \
    X(12, clone, "clone", VS_SPAWN, "IF") \
    X(13, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(14, map, "map", VS_ADOPT, "SS") \
    X(15, map_helper, "map-helper", VS_ADOPT, "SN") \
    X(16, join, "join", VS_ENTER, "FI") \
    X(17, await, "await", VS_ENTER, "") \
    X(18, parent_death, "parent-death", VS_ENTER, "I") \
    X(19, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(20, unshare, "unshare", VS_ENTER, "I") \
    X(21, become, "become", VS_ENTER, "II") \
    X(22, propagation, "propagation", VS_ENTER, "I") \
    X(23, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(24, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(25, clone_tree, "clone-tree", VS_ENTER, "FFSII") \
    X(26, attach, "attach", VS_ENTER, "FFSI") \
    X(27, fail, "fail", VS_ENTER, "IS") \
    X(28, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(29, symlink, "symlink", VS_ENTER, "FSS") \
    X(30, file, "file", VS_ENTER, "FSIB") \
    X(31, node, "node", VS_ENTER, "FSII") \
    X(32, lookup, "lookup", VS_ENTER, "FFSI") \
    X(33, write, "write", VS_ENTER, "FSS") \
    X(34, seal, "seal", VS_ENTER, "FSII") \
    X(35, pivot, "pivot", VS_ENTER, "F") \
    X(36, hostname, "hostname", VS_ENTER, "S") \
    X(37, domainname, "domainname", VS_ENTER, "S") \
    X(38, loopback, "loopback", VS_ENTER, "") \
    X(39, rlimit, "rlimit", VS_ENTER, "III") \
    X(40, umask, "umask", VS_ENTER, "I") \
    X(41, session, "session", VS_ENTER, "") \
    X(42, terminal, "terminal", VS_ENTER, "F") \
    X(43, stdio, "stdio", VS_ENTER, "") \
    X(44, groups, "groups", VS_ENTER, "S") \
    X(45, user, "user", VS_ENTER, "III") \
    X(46, capabilities, "capabilities", VS_ENTER, "IIII") \
    X(47, working_folder, "working-folder", VS_ENTER, "S") \
    X(48, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(49, landlock, "landlock", VS_ENTER, "I") \
    X(50, close, "close", VS_ENTER, "") \
    X(51, seccomp, "seccomp", VS_ENTER, "BI") \
    X(52, exec, "exec", VS_EXEC, "SNNS") \
    X(53, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(54, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS")

#endif
