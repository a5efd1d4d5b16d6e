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
    X(27, set_proc, "set-proc", VS_ADOPT, "SS") \
    X(28, permit, "permit", VS_ADOPT, "I") \
    X(29, meet, "meet", VS_ADOPT, "I") \
    X(30, hook, "hook", VS_ADOPT, "SNNBBIO") \
    X(31, service, "service", VS_ADOPT, "SNFO") \
    X(32, join, "join", VS_ENTER, "FII") \
    X(33, await, "await", VS_ENTER, "") \
    X(34, reach, "reach", VS_ENTER, "I") \
    X(35, wait_for, "wait-for", VS_ENTER, "I") \
    X(36, refork, "refork", VS_ENTER, "") \
    X(37, hook_inside, "hook-inside", VS_ENTER, "SNNBBIO") \
    X(38, parent_death, "parent-death", VS_ENTER, "I") \
    X(39, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(40, unshare, "unshare", VS_ENTER, "I") \
    X(41, become, "become", VS_ENTER, "II") \
    X(42, propagation, "propagation", VS_ENTER, "I") \
    X(43, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(44, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(45, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(46, attach, "attach", VS_ENTER, "FOSI") \
    X(47, set_attributes, "set-attributes", VS_ENTER, "FIIII") \
    X(48, cover_copy, "cover-copy", VS_ENTER, "FFS") \
    X(49, device_node, "device-node", VS_ENTER, "FSIIII") \
    X(50, device_link, "device-link", VS_ENTER, "FSS") \
    X(51, mask, "mask", VS_ENTER, "FSFF") \
    X(52, read_only, "read-only", VS_ENTER, "FS") \
    X(53, fail, "fail", VS_ENTER, "IS") \
    X(54, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(55, opaque, "opaque", VS_ENTER, "FSI") \
    X(56, symlink, "symlink", VS_ENTER, "FSS") \
    X(57, file, "file", VS_ENTER, "FSIB") \
    X(58, node, "node", VS_ENTER, "FSII") \
    X(59, lookup, "lookup", VS_ENTER, "FOSI") \
    X(60, write, "write", VS_ENTER, "FSS") \
    X(61, seal, "seal", VS_ENTER, "FSII") \
    X(62, pivot, "pivot", VS_ENTER, "F") \
    X(63, move_root, "move-root", VS_ENTER, "F") \
    X(64, hostname, "hostname", VS_ENTER, "S") \
    X(65, domainname, "domainname", VS_ENTER, "S") \
    X(66, network_make, "network-make", VS_ENTER, "F") \
    X(67, network_join, "network-join", VS_ENTER, "F") \
    X(68, loopback, "loopback", VS_ENTER, "") \
    X(69, rlimit, "rlimit", VS_ENTER, "III") \
    X(70, umask, "umask", VS_ENTER, "I") \
    X(71, session, "session", VS_ENTER, "") \
    X(72, terminal, "terminal", VS_ENTER, "F") \
    X(73, console, "console", VS_ENTER, "FIII") \
    X(74, own_streams, "own-streams", VS_ENTER, "II") \
    X(75, stdio, "stdio", VS_ENTER, "") \
    X(76, personality, "personality", VS_ENTER, "I") \
    X(77, scheduler, "scheduler", VS_ENTER, "IIIIIII") \
    X(78, io_priority, "io-priority", VS_ENTER, "I") \
    X(79, affinity, "affinity", VS_ENTER, "B") \
    X(80, groups, "groups", VS_ENTER, "S") \
    X(81, user, "user", VS_ENTER, "III") \
    X(82, capabilities, "capabilities", VS_ENTER, "I") \
    X(83, working_folder, "working-folder", VS_ENTER, "S") \
    X(84, inner_folder, "inner-folder", VS_ENTER, "SI") \
    X(85, privileges, "privileges", VS_ENTER, "IIIIIII") \
    X(86, find_program, "find-program", VS_ENTER, "SS") \
    X(87, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(88, session_keyring, "session-keyring", VS_ENTER, "") \
    X(89, landlock, "landlock", VS_ENTER, "I") \
    X(90, close, "close", VS_ENTER, "") \
    X(91, close_from, "close-from", VS_ENTER, "I") \
    X(92, pass, "pass", VS_ENTER, "FI") \
    X(93, seccomp, "seccomp", VS_ENTER, "BI") \
    X(94, seccomp_listen, "seccomp-listen", VS_ENTER, "BIFBBB") \
    X(95, exec, "exec", VS_EXEC, "SNNS") \
    X(96, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(97, exec_boot, "exec-boot", VS_EXEC, "FFONN") \
    X(98, service_end, "service-end", VS_RELEASE, "F") \
    X(99, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS") \
    X(100, cgroup_path_end, "cgroup-path-end", VS_RELEASE, "FFS")

#endif
