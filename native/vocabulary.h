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
    X(6, devices, "devices", VS_LOAD, "FII") \
    X(7, cgroup_root, "cgroup-root", VS_LOAD, "FS") \
    X(8, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(9, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(10, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(11, tree, "tree", VS_PREPARE, "FFFIII") \
    X(12, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(13, sockets, "sockets", VS_PREPARE, "FF") \
    X(14, clone, "clone", VS_SPAWN, "IF") \
    X(15, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(16, map, "map", VS_ADOPT, "SS") \
    X(17, helper, "helper", VS_ADOPT, "SN") \
    X(18, service, "service", VS_ADOPT, "SNFF") \
    X(19, join, "join", VS_ENTER, "FI") \
    X(20, await, "await", VS_ENTER, "") \
    X(21, parent_death, "parent-death", VS_ENTER, "I") \
    X(22, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(23, unshare, "unshare", VS_ENTER, "I") \
    X(24, become, "become", VS_ENTER, "II") \
    X(25, propagation, "propagation", VS_ENTER, "I") \
    X(26, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(27, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(28, clone_tree, "clone-tree", VS_ENTER, "FFSII") \
    X(29, attach, "attach", VS_ENTER, "FFSI") \
    X(30, fail, "fail", VS_ENTER, "IS") \
    X(31, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(32, symlink, "symlink", VS_ENTER, "FSS") \
    X(33, file, "file", VS_ENTER, "FSIB") \
    X(34, node, "node", VS_ENTER, "FSII") \
    X(35, lookup, "lookup", VS_ENTER, "FFSI") \
    X(36, write, "write", VS_ENTER, "FSS") \
    X(37, seal, "seal", VS_ENTER, "FSII") \
    X(38, pivot, "pivot", VS_ENTER, "F") \
    X(39, hostname, "hostname", VS_ENTER, "S") \
    X(40, domainname, "domainname", VS_ENTER, "S") \
    X(41, loopback, "loopback", VS_ENTER, "") \
    X(42, rlimit, "rlimit", VS_ENTER, "III") \
    X(43, umask, "umask", VS_ENTER, "I") \
    X(44, session, "session", VS_ENTER, "") \
    X(45, terminal, "terminal", VS_ENTER, "F") \
    X(46, stdio, "stdio", VS_ENTER, "") \
    X(47, groups, "groups", VS_ENTER, "S") \
    X(48, user, "user", VS_ENTER, "III") \
    X(49, capabilities, "capabilities", VS_ENTER, "I") \
    X(50, working_folder, "working-folder", VS_ENTER, "S") \
    X(51, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(52, landlock, "landlock", VS_ENTER, "I") \
    X(53, close, "close", VS_ENTER, "") \
    X(54, pass, "pass", VS_ENTER, "FI") \
    X(55, seccomp, "seccomp", VS_ENTER, "BI") \
    X(56, exec, "exec", VS_EXEC, "SNNS") \
    X(57, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(58, service_end, "service-end", VS_RELEASE, "F") \
    X(59, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS")

#endif
