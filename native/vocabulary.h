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
    X(9, inherit, "inherit", VS_LOAD, "FI") \
    X(10, namespace, "namespace", VS_LOAD, "FS") \
    X(11, data, "data", VS_LOAD, "FB") \
    X(12, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(13, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(14, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(15, tree, "tree", VS_PREPARE, "FFOIII") \
    X(16, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(17, sockets, "sockets", VS_PREPARE, "FF") \
    X(18, idmap, "idmap", VS_PREPARE, "FFI") \
    X(19, cgroup_path, "cgroup-path", VS_PREPARE, "FFS") \
    X(20, device_filter, "device-filter", VS_PREPARE, "FB") \
    X(21, clone, "clone", VS_SPAWN, "IO") \
    X(22, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(23, map, "map", VS_ADOPT, "SS") \
    X(24, helper, "helper", VS_ADOPT, "SN") \
    X(25, set_proc, "set-proc", VS_ADOPT, "SS") \
    X(26, permit, "permit", VS_ADOPT, "I") \
    X(27, meet, "meet", VS_ADOPT, "I") \
    X(28, hook, "hook", VS_ADOPT, "SNNBBIO") \
    X(29, service, "service", VS_ADOPT, "SNFO") \
    X(30, join, "join", VS_ENTER, "FII") \
    X(31, await, "await", VS_ENTER, "") \
    X(32, reach, "reach", VS_ENTER, "I") \
    X(33, wait_for, "wait-for", VS_ENTER, "I") \
    X(34, refork, "refork", VS_ENTER, "") \
    X(35, hook_inside, "hook-inside", VS_ENTER, "SNNBBIO") \
    X(36, parent_death, "parent-death", VS_ENTER, "I") \
    X(37, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(38, unshare, "unshare", VS_ENTER, "I") \
    X(39, become, "become", VS_ENTER, "II") \
    X(40, propagation, "propagation", VS_ENTER, "I") \
    X(41, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(42, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(43, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(44, attach, "attach", VS_ENTER, "FOSI") \
    X(45, set_attributes, "set-attributes", VS_ENTER, "FIIII") \
    X(46, cover_copy, "cover-copy", VS_ENTER, "FFS") \
    X(47, device_node, "device-node", VS_ENTER, "FSIIII") \
    X(48, device_link, "device-link", VS_ENTER, "FSS") \
    X(49, mask, "mask", VS_ENTER, "FSFF") \
    X(50, read_only, "read-only", VS_ENTER, "FS") \
    X(51, fail, "fail", VS_ENTER, "IS") \
    X(52, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(53, opaque, "opaque", VS_ENTER, "FSI") \
    X(54, symlink, "symlink", VS_ENTER, "FSS") \
    X(55, file, "file", VS_ENTER, "FSIB") \
    X(56, node, "node", VS_ENTER, "FSII") \
    X(57, lookup, "lookup", VS_ENTER, "FOSI") \
    X(58, write, "write", VS_ENTER, "FSS") \
    X(59, seal, "seal", VS_ENTER, "FSII") \
    X(60, pivot, "pivot", VS_ENTER, "F") \
    X(61, move_root, "move-root", VS_ENTER, "F") \
    X(62, hostname, "hostname", VS_ENTER, "S") \
    X(63, domainname, "domainname", VS_ENTER, "S") \
    X(64, network_make, "network-make", VS_ENTER, "F") \
    X(65, network_join, "network-join", VS_ENTER, "F") \
    X(66, loopback, "loopback", VS_ENTER, "") \
    X(67, rlimit, "rlimit", VS_ENTER, "III") \
    X(68, umask, "umask", VS_ENTER, "I") \
    X(69, session, "session", VS_ENTER, "") \
    X(70, terminal, "terminal", VS_ENTER, "F") \
    X(71, console, "console", VS_ENTER, "FIII") \
    X(72, own_streams, "own-streams", VS_ENTER, "II") \
    X(73, stdio, "stdio", VS_ENTER, "") \
    X(74, personality, "personality", VS_ENTER, "I") \
    X(75, scheduler, "scheduler", VS_ENTER, "IIIIIII") \
    X(76, io_priority, "io-priority", VS_ENTER, "I") \
    X(77, affinity, "affinity", VS_ENTER, "B") \
    X(78, groups, "groups", VS_ENTER, "S") \
    X(79, user, "user", VS_ENTER, "III") \
    X(80, capabilities, "capabilities", VS_ENTER, "I") \
    X(81, working_folder, "working-folder", VS_ENTER, "S") \
    X(82, inner_folder, "inner-folder", VS_ENTER, "SI") \
    X(83, privileges, "privileges", VS_ENTER, "IIIIIII") \
    X(84, find_program, "find-program", VS_ENTER, "SS") \
    X(85, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(86, session_keyring, "session-keyring", VS_ENTER, "") \
    X(87, landlock, "landlock", VS_ENTER, "I") \
    X(88, close, "close", VS_ENTER, "") \
    X(89, close_from, "close-from", VS_ENTER, "I") \
    X(90, pass, "pass", VS_ENTER, "FI") \
    X(91, seccomp, "seccomp", VS_ENTER, "BI") \
    X(92, seccomp_listen, "seccomp-listen", VS_ENTER, "BIFBBB") \
    X(93, exec, "exec", VS_EXEC, "SNNS") \
    X(94, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(95, exec_boot, "exec-boot", VS_EXEC, "FFONN") \
    X(96, service_end, "service-end", VS_RELEASE, "F") \
    X(97, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS") \
    X(98, cgroup_path_end, "cgroup-path-end", VS_RELEASE, "FFS")

#endif
