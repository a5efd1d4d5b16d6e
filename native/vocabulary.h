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
    X(14, hold, "hold", VS_PREPARE, "FS") \
    X(15, sockets, "sockets", VS_PREPARE, "FF") \
    X(16, clone, "clone", VS_SPAWN, "IO") \
    X(17, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(18, map, "map", VS_ADOPT, "SS") \
    X(19, helper, "helper", VS_ADOPT, "SN") \
    X(20, service, "service", VS_ADOPT, "SNFO") \
    X(21, join, "join", VS_ENTER, "FII") \
    X(22, await, "await", VS_ENTER, "") \
    X(23, parent_death, "parent-death", VS_ENTER, "I") \
    X(24, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(25, unshare, "unshare", VS_ENTER, "I") \
    X(26, become, "become", VS_ENTER, "II") \
    X(27, propagation, "propagation", VS_ENTER, "I") \
    X(28, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(29, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(30, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(31, attach, "attach", VS_ENTER, "FOSI") \
    X(32, fail, "fail", VS_ENTER, "IS") \
    X(33, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(34, opaque, "opaque", VS_ENTER, "FSI") \
    X(35, symlink, "symlink", VS_ENTER, "FSS") \
    X(36, file, "file", VS_ENTER, "FSIB") \
    X(37, node, "node", VS_ENTER, "FSII") \
    X(38, lookup, "lookup", VS_ENTER, "FOSI") \
    X(39, write, "write", VS_ENTER, "FSS") \
    X(40, seal, "seal", VS_ENTER, "FSII") \
    X(41, pivot, "pivot", VS_ENTER, "F") \
    X(42, hostname, "hostname", VS_ENTER, "S") \
    X(43, domainname, "domainname", VS_ENTER, "S") \
    X(44, network_make, "network-make", VS_ENTER, "F") \
    X(45, network_join, "network-join", VS_ENTER, "F") \
    X(46, loopback, "loopback", VS_ENTER, "") \
    X(47, rlimit, "rlimit", VS_ENTER, "III") \
    X(48, umask, "umask", VS_ENTER, "I") \
    X(49, session, "session", VS_ENTER, "") \
    X(50, terminal, "terminal", VS_ENTER, "F") \
    X(51, stdio, "stdio", VS_ENTER, "") \
    X(52, groups, "groups", VS_ENTER, "S") \
    X(53, user, "user", VS_ENTER, "III") \
    X(54, capabilities, "capabilities", VS_ENTER, "I") \
    X(55, working_folder, "working-folder", VS_ENTER, "S") \
    X(56, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(57, session_keyring, "session-keyring", VS_ENTER, "") \
    X(58, landlock, "landlock", VS_ENTER, "I") \
    X(59, close, "close", VS_ENTER, "") \
    X(60, pass, "pass", VS_ENTER, "FI") \
    X(61, seccomp, "seccomp", VS_ENTER, "BI") \
    X(62, exec, "exec", VS_EXEC, "SNNS") \
    X(63, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(64, service_end, "service-end", VS_RELEASE, "F") \
    X(65, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS")

#endif
