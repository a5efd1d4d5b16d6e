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
    X(12, erofs, "erofs", VS_LOAD, "FF") \
    X(13, cgroup, "cgroup", VS_PREPARE, "FFS") \
    X(14, cgroup_write, "cgroup-write", VS_PREPARE, "FSS") \
    X(15, cgroup_open, "cgroup-open", VS_PREPARE, "FFS") \
    X(16, tree, "tree", VS_PREPARE, "FFOIII") \
    X(17, open_in, "open-in", VS_PREPARE, "FFSI") \
    X(18, hold, "hold", VS_PREPARE, "FS") \
    X(19, sockets, "sockets", VS_PREPARE, "FF") \
    X(20, idmap, "idmap", VS_PREPARE, "FFI") \
    X(21, cgroup_path, "cgroup-path", VS_PREPARE, "FFS") \
    X(22, device_filter, "device-filter", VS_PREPARE, "FB") \
    X(23, clone, "clone", VS_SPAWN, "IO") \
    X(24, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(25, map, "map", VS_ADOPT, "SS") \
    X(26, helper, "helper", VS_ADOPT, "SN") \
    X(27, cgroup_leave, "cgroup-leave", VS_ADOPT, "F") \
    X(28, set_proc, "set-proc", VS_ADOPT, "SS") \
    X(29, permit, "permit", VS_ADOPT, "I") \
    X(30, meet, "meet", VS_ADOPT, "I") \
    X(31, hook, "hook", VS_ADOPT, "SNNBBIO") \
    X(32, service, "service", VS_ADOPT, "SNFO") \
    X(33, join, "join", VS_ENTER, "FII") \
    X(34, await, "await", VS_ENTER, "") \
    X(35, reach, "reach", VS_ENTER, "I") \
    X(36, wait_for, "wait-for", VS_ENTER, "I") \
    X(37, refork, "refork", VS_ENTER, "") \
    X(38, hook_inside, "hook-inside", VS_ENTER, "SNNBBIO") \
    X(39, parent_death, "parent-death", VS_ENTER, "I") \
    X(40, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(41, unshare, "unshare", VS_ENTER, "I") \
    X(42, become, "become", VS_ENTER, "II") \
    X(43, propagation, "propagation", VS_ENTER, "I") \
    X(44, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(45, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(46, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(47, attach, "attach", VS_ENTER, "FOSI") \
    X(48, set_attributes, "set-attributes", VS_ENTER, "FIIII") \
    X(49, cover_copy, "cover-copy", VS_ENTER, "FFS") \
    X(50, device_node, "device-node", VS_ENTER, "FSIIII") \
    X(51, device_link, "device-link", VS_ENTER, "FSS") \
    X(52, mask, "mask", VS_ENTER, "FSFF") \
    X(53, read_only, "read-only", VS_ENTER, "FS") \
    X(54, fail, "fail", VS_ENTER, "IS") \
    X(55, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(56, opaque, "opaque", VS_ENTER, "FSI") \
    X(57, symlink, "symlink", VS_ENTER, "FSS") \
    X(58, file, "file", VS_ENTER, "FSIB") \
    X(59, node, "node", VS_ENTER, "FSII") \
    X(60, lookup, "lookup", VS_ENTER, "FOSI") \
    X(61, write, "write", VS_ENTER, "FSS") \
    X(62, seal, "seal", VS_ENTER, "FSII") \
    X(63, pivot, "pivot", VS_ENTER, "F") \
    X(64, move_root, "move-root", VS_ENTER, "F") \
    X(65, hostname, "hostname", VS_ENTER, "S") \
    X(66, domainname, "domainname", VS_ENTER, "S") \
    X(67, network_make, "network-make", VS_ENTER, "F") \
    X(68, network_join, "network-join", VS_ENTER, "F") \
    X(69, loopback, "loopback", VS_ENTER, "") \
    X(70, rlimit, "rlimit", VS_ENTER, "III") \
    X(71, umask, "umask", VS_ENTER, "I") \
    X(72, session, "session", VS_ENTER, "") \
    X(73, terminal, "terminal", VS_ENTER, "F") \
    X(74, console, "console", VS_ENTER, "FIII") \
    X(75, own_streams, "own-streams", VS_ENTER, "II") \
    X(76, stdio, "stdio", VS_ENTER, "") \
    X(77, personality, "personality", VS_ENTER, "I") \
    X(78, scheduler, "scheduler", VS_ENTER, "IIIIIII") \
    X(79, io_priority, "io-priority", VS_ENTER, "I") \
    X(80, affinity, "affinity", VS_ENTER, "B") \
    X(81, groups, "groups", VS_ENTER, "S") \
    X(82, user, "user", VS_ENTER, "III") \
    X(83, capabilities, "capabilities", VS_ENTER, "I") \
    X(84, working_folder, "working-folder", VS_ENTER, "S") \
    X(85, inner_folder, "inner-folder", VS_ENTER, "SI") \
    X(86, privileges, "privileges", VS_ENTER, "IIIIIII") \
    X(87, find_program, "find-program", VS_ENTER, "SS") \
    X(88, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(89, session_keyring, "session-keyring", VS_ENTER, "") \
    X(90, landlock, "landlock", VS_ENTER, "I") \
    X(91, close, "close", VS_ENTER, "") \
    X(92, close_from, "close-from", VS_ENTER, "I") \
    X(93, pass, "pass", VS_ENTER, "FI") \
    X(94, seccomp, "seccomp", VS_ENTER, "BI") \
    X(95, seccomp_listen, "seccomp-listen", VS_ENTER, "BIFBBB") \
    X(96, exec, "exec", VS_EXEC, "SNNS") \
    X(97, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(98, exec_boot, "exec-boot", VS_EXEC, "FFONN") \
    X(99, service_end, "service-end", VS_RELEASE, "F") \
    X(100, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS") \
    X(101, cgroup_path_end, "cgroup-path-end", VS_RELEASE, "FFS")

#endif
