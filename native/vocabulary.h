/* Generated from src/viscum/plan.py by tools/gen_vocabulary.py. Do not edit. */
/* clang-format off */
#ifndef VISCUM_VOCABULARY_H
#define VISCUM_VOCABULARY_H

#define VS_MAGIC "VISCUMPL"
#define VS_VERSION 1
#define VS_HEADER_SIZE 32
#define VS_RECORD_SIZE 64
#define VS_MAX_OPERATIONS 4096
#define VS_MAX_TABLE 4194304
#define VS_SLOTS 1024
#define VS_NONE 65535
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
    X(7, device, "device", VS_LOAD, "FSIIII") \
    X(8, cgroup_root, "cgroup-root", VS_LOAD, "FS") \
    X(9, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(10, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(11, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(12, tree, "tree", VS_PREPARE, "FFOIII") \
    X(13, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(14, sockets, "sockets", VS_PREPARE, "FF") \
    X(15, clone, "clone", VS_SPAWN, "IO") \
    X(16, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(17, map, "map", VS_ADOPT, "SS") \
    X(18, helper, "helper", VS_ADOPT, "SN") \
    X(19, service, "service", VS_ADOPT, "SNFO") \
    X(20, join, "join", VS_ENTER, "FII") \
    X(21, await, "await", VS_ENTER, "") \
    X(22, parent_death, "parent-death", VS_ENTER, "I") \
    X(23, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(24, unshare, "unshare", VS_ENTER, "I") \
    X(25, become, "become", VS_ENTER, "II") \
    X(26, propagation, "propagation", VS_ENTER, "I") \
    X(27, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(28, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(29, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(30, attach, "attach", VS_ENTER, "FOSI") \
    X(31, fail, "fail", VS_ENTER, "IS") \
    X(32, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(33, opaque, "opaque", VS_ENTER, "FSI") \
    X(34, symlink, "symlink", VS_ENTER, "FSS") \
    X(35, file, "file", VS_ENTER, "FSIB") \
    X(36, node, "node", VS_ENTER, "FSII") \
    X(37, lookup, "lookup", VS_ENTER, "FOSI") \
    X(38, write, "write", VS_ENTER, "FSS") \
    X(39, seal, "seal", VS_ENTER, "FSII") \
    X(40, pivot, "pivot", VS_ENTER, "F") \
    X(41, hostname, "hostname", VS_ENTER, "S") \
    X(42, domainname, "domainname", VS_ENTER, "S") \
    X(43, network_make, "network-make", VS_ENTER, "F") \
    X(44, network_join, "network-join", VS_ENTER, "F") \
    X(45, loopback, "loopback", VS_ENTER, "") \
    X(46, rlimit, "rlimit", VS_ENTER, "III") \
    X(47, umask, "umask", VS_ENTER, "I") \
    X(48, session, "session", VS_ENTER, "") \
    X(49, terminal, "terminal", VS_ENTER, "F") \
    X(50, stdio, "stdio", VS_ENTER, "") \
    X(51, groups, "groups", VS_ENTER, "S") \
    X(52, user, "user", VS_ENTER, "III") \
    X(53, capabilities, "capabilities", VS_ENTER, "I") \
    X(54, working_folder, "working-folder", VS_ENTER, "S") \
    X(55, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(56, session_keyring, "session-keyring", VS_ENTER, "") \
    X(57, landlock, "landlock", VS_ENTER, "I") \
    X(58, close, "close", VS_ENTER, "") \
    X(59, pass, "pass", VS_ENTER, "FI") \
    X(60, seccomp, "seccomp", VS_ENTER, "BI") \
    X(61, exec, "exec", VS_EXEC, "SNNS") \
    X(62, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(63, service_end, "service-end", VS_RELEASE, "F") \
    X(64, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS")

#endif
