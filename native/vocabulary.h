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
    X(4, program, "program", VS_LOAD, "FS") \
    X(5, userns, "userns", VS_LOAD, "FSS") \
    X(6, cgroup_root, "cgroup-root", VS_LOAD, "FS") \
    X(7, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(8, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(9, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(10, tree, "tree", VS_PREPARE, "FFFIII") \
    X(11, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(12, sockets, "sockets", VS_PREPARE, "FF") \
    X(13, clone, "clone", VS_SPAWN, "IF") \
    X(14, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(15, map, "map", VS_ADOPT, "SS") \
    X(16, map_helper, "map-helper", VS_ADOPT, "SN") \
    X(17, join, "join", VS_ENTER, "FI") \
    X(18, await, "await", VS_ENTER, "") \
    X(19, parent_death, "parent-death", VS_ENTER, "I") \
    X(20, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(21, unshare, "unshare", VS_ENTER, "I") \
    X(22, become, "become", VS_ENTER, "II") \
    X(23, propagation, "propagation", VS_ENTER, "I") \
    X(24, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(25, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(26, clone_tree, "clone-tree", VS_ENTER, "FFSII") \
    X(27, attach, "attach", VS_ENTER, "FFSI") \
    X(28, fail, "fail", VS_ENTER, "IS") \
    X(29, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(30, symlink, "symlink", VS_ENTER, "FSS") \
    X(31, file, "file", VS_ENTER, "FSIB") \
    X(32, node, "node", VS_ENTER, "FSII") \
    X(33, lookup, "lookup", VS_ENTER, "FFSI") \
    X(34, write, "write", VS_ENTER, "FSS") \
    X(35, seal, "seal", VS_ENTER, "FSII") \
    X(36, pivot, "pivot", VS_ENTER, "F") \
    X(37, hostname, "hostname", VS_ENTER, "S") \
    X(38, domainname, "domainname", VS_ENTER, "S") \
    X(39, loopback, "loopback", VS_ENTER, "") \
    X(40, rlimit, "rlimit", VS_ENTER, "III") \
    X(41, umask, "umask", VS_ENTER, "I") \
    X(42, session, "session", VS_ENTER, "") \
    X(43, terminal, "terminal", VS_ENTER, "F") \
    X(44, stdio, "stdio", VS_ENTER, "") \
    X(45, groups, "groups", VS_ENTER, "S") \
    X(46, user, "user", VS_ENTER, "III") \
    X(47, capabilities, "capabilities", VS_ENTER, "IIII") \
    X(48, working_folder, "working-folder", VS_ENTER, "S") \
    X(49, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(50, landlock, "landlock", VS_ENTER, "I") \
    X(51, close, "close", VS_ENTER, "") \
    X(52, pass, "pass", VS_ENTER, "FI") \
    X(53, seccomp, "seccomp", VS_ENTER, "BI") \
    X(54, exec, "exec", VS_EXEC, "SNNS") \
    X(55, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(56, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS")

#endif
