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
    X(17, hold, "hold", VS_PREPARE, "FS") \
    X(18, sockets, "sockets", VS_PREPARE, "FF") \
    X(19, idmap, "idmap", VS_PREPARE, "FFI") \
    X(20, cgroup_path, "cgroup-path", VS_PREPARE, "FFS") \
    X(21, device_filter, "device-filter", VS_PREPARE, "FB") \
    X(22, clone, "clone", VS_SPAWN, "IO") \
    X(23, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(24, map, "map", VS_ADOPT, "SS") \
    X(25, helper, "helper", VS_ADOPT, "SN") \
    X(26, set_proc, "set-proc", VS_ADOPT, "SS") \
    X(27, permit, "permit", VS_ADOPT, "I") \
    X(28, meet, "meet", VS_ADOPT, "I") \
    X(29, hook, "hook", VS_ADOPT, "SNNBBIO") \
    X(30, service, "service", VS_ADOPT, "SNFO") \
    X(31, join, "join", VS_ENTER, "FII") \
    X(32, await, "await", VS_ENTER, "") \
    X(33, reach, "reach", VS_ENTER, "I") \
    X(34, wait_for, "wait-for", VS_ENTER, "I") \
    X(35, refork, "refork", VS_ENTER, "") \
    X(36, hook_inside, "hook-inside", VS_ENTER, "SNNBBIO") \
    X(37, parent_death, "parent-death", VS_ENTER, "I") \
    X(38, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(39, unshare, "unshare", VS_ENTER, "I") \
    X(40, become, "become", VS_ENTER, "II") \
    X(41, propagation, "propagation", VS_ENTER, "I") \
    X(42, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(43, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(44, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(45, attach, "attach", VS_ENTER, "FOSI") \
    X(46, set_attributes, "set-attributes", VS_ENTER, "FIIII") \
    X(47, cover_copy, "cover-copy", VS_ENTER, "FFS") \
    X(48, device_node, "device-node", VS_ENTER, "FSIIII") \
    X(49, device_link, "device-link", VS_ENTER, "FSS") \
    X(50, mask, "mask", VS_ENTER, "FSFF") \
    X(51, read_only, "read-only", VS_ENTER, "FS") \
    X(52, fail, "fail", VS_ENTER, "IS") \
    X(53, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(54, opaque, "opaque", VS_ENTER, "FSI") \
    X(55, symlink, "symlink", VS_ENTER, "FSS") \
    X(56, file, "file", VS_ENTER, "FSIB") \
    X(57, node, "node", VS_ENTER, "FSII") \
    X(58, lookup, "lookup", VS_ENTER, "FOSI") \
    X(59, write, "write", VS_ENTER, "FSS") \
    X(60, seal, "seal", VS_ENTER, "FSII") \
    X(61, pivot, "pivot", VS_ENTER, "F") \
    X(62, move_root, "move-root", VS_ENTER, "F") \
    X(63, hostname, "hostname", VS_ENTER, "S") \
    X(64, domainname, "domainname", VS_ENTER, "S") \
    X(65, network_make, "network-make", VS_ENTER, "F") \
    X(66, network_join, "network-join", VS_ENTER, "F") \
    X(67, loopback, "loopback", VS_ENTER, "") \
    X(68, rlimit, "rlimit", VS_ENTER, "III") \
    X(69, umask, "umask", VS_ENTER, "I") \
    X(70, session, "session", VS_ENTER, "") \
    X(71, terminal, "terminal", VS_ENTER, "F") \
    X(72, console, "console", VS_ENTER, "FIII") \
    X(73, own_streams, "own-streams", VS_ENTER, "II") \
    X(74, stdio, "stdio", VS_ENTER, "") \
    X(75, personality, "personality", VS_ENTER, "I") \
    X(76, scheduler, "scheduler", VS_ENTER, "IIIIIII") \
    X(77, io_priority, "io-priority", VS_ENTER, "I") \
    X(78, affinity, "affinity", VS_ENTER, "B") \
    X(79, groups, "groups", VS_ENTER, "S") \
    X(80, user, "user", VS_ENTER, "III") \
    X(81, capabilities, "capabilities", VS_ENTER, "I") \
    X(82, working_folder, "working-folder", VS_ENTER, "S") \
    X(83, inner_folder, "inner-folder", VS_ENTER, "SI") \
    X(84, privileges, "privileges", VS_ENTER, "IIIIIII") \
    X(85, find_program, "find-program", VS_ENTER, "SS") \
    X(86, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(87, session_keyring, "session-keyring", VS_ENTER, "") \
    X(88, landlock, "landlock", VS_ENTER, "I") \
    X(89, close, "close", VS_ENTER, "") \
    X(90, close_from, "close-from", VS_ENTER, "I") \
    X(91, pass, "pass", VS_ENTER, "FI") \
    X(92, seccomp, "seccomp", VS_ENTER, "BI") \
    X(93, seccomp_listen, "seccomp-listen", VS_ENTER, "BIFBBB") \
    X(94, exec, "exec", VS_EXEC, "SNNS") \
    X(95, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(96, exec_boot, "exec-boot", VS_EXEC, "FFONN") \
    X(97, service_end, "service-end", VS_RELEASE, "F") \
    X(98, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS") \
    X(99, cgroup_path_end, "cgroup-path-end", VS_RELEASE, "FFS")

#endif
