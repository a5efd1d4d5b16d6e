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
    X(21, time_join, "time-join", VS_PREPARE, "FF") \
    X(22, oom_score, "oom-score", VS_PREPARE, "S") \
    X(23, cgroup_path, "cgroup-path", VS_PREPARE, "FFS") \
    X(24, device_filter, "device-filter", VS_PREPARE, "FB") \
    X(25, clone, "clone", VS_SPAWN, "IO") \
    X(26, setgroups_deny, "setgroups-deny", VS_ADOPT, "") \
    X(27, map, "map", VS_ADOPT, "SS") \
    X(28, helper, "helper", VS_ADOPT, "SN") \
    X(29, cgroup_leave, "cgroup-leave", VS_ADOPT, "F") \
    X(30, permit, "permit", VS_ADOPT, "I") \
    X(31, meet, "meet", VS_ADOPT, "I") \
    X(32, hook, "hook", VS_ADOPT, "SNNBBIO") \
    X(33, service, "service", VS_ADOPT, "SNFO") \
    X(34, join, "join", VS_ENTER, "FII") \
    X(35, await, "await", VS_ENTER, "") \
    X(36, reach, "reach", VS_ENTER, "I") \
    X(37, wait_for, "wait-for", VS_ENTER, "I") \
    X(38, refork, "refork", VS_ENTER, "") \
    X(39, hook_inside, "hook-inside", VS_ENTER, "SNNBBIO") \
    X(40, parent_death, "parent-death", VS_ENTER, "I") \
    X(41, cgroup_join, "cgroup-join", VS_ENTER, "F") \
    X(42, unshare, "unshare", VS_ENTER, "I") \
    X(43, become, "become", VS_ENTER, "II") \
    X(44, propagation, "propagation", VS_ENTER, "I") \
    X(45, fsmount, "fsmount", VS_ENTER, "FSSNI") \
    X(46, overlay, "overlay", VS_ENTER, "FLFSSNI") \
    X(47, clone_tree, "clone-tree", VS_ENTER, "FOSII") \
    X(48, attach, "attach", VS_ENTER, "FOSI") \
    X(49, set_attributes, "set-attributes", VS_ENTER, "FIIII") \
    X(50, set_xattr, "set-xattr", VS_ENTER, "FSS") \
    X(51, cover, "cover", VS_ENTER, "FSF") \
    X(52, clone_anew, "clone-anew", VS_ENTER, "FI") \
    X(53, cover_copy, "cover-copy", VS_ENTER, "FFS") \
    X(54, device_node, "device-node", VS_ENTER, "FSIIII") \
    X(55, device_link, "device-link", VS_ENTER, "FSS") \
    X(56, mask, "mask", VS_ENTER, "FSFF") \
    X(57, read_only, "read-only", VS_ENTER, "FS") \
    X(58, fail, "fail", VS_ENTER, "IS") \
    X(59, mkdir, "mkdir", VS_ENTER, "FSI") \
    X(60, opaque, "opaque", VS_ENTER, "FSI") \
    X(61, symlink, "symlink", VS_ENTER, "FSS") \
    X(62, file, "file", VS_ENTER, "FSIB") \
    X(63, node, "node", VS_ENTER, "FSII") \
    X(64, lookup, "lookup", VS_ENTER, "FOSI") \
    X(65, write, "write", VS_ENTER, "FSS") \
    X(66, seal, "seal", VS_ENTER, "FSII") \
    X(67, pivot, "pivot", VS_ENTER, "F") \
    X(68, move_root, "move-root", VS_ENTER, "F") \
    X(69, hostname, "hostname", VS_ENTER, "S") \
    X(70, domainname, "domainname", VS_ENTER, "S") \
    X(71, network_make, "network-make", VS_ENTER, "F") \
    X(72, network_join, "network-join", VS_ENTER, "F") \
    X(73, loopback, "loopback", VS_ENTER, "") \
    X(74, rlimit, "rlimit", VS_ENTER, "III") \
    X(75, umask, "umask", VS_ENTER, "I") \
    X(76, session, "session", VS_ENTER, "") \
    X(77, terminal, "terminal", VS_ENTER, "F") \
    X(78, console, "console", VS_ENTER, "FIII") \
    X(79, own_streams, "own-streams", VS_ENTER, "II") \
    X(80, stdio, "stdio", VS_ENTER, "") \
    X(81, personality, "personality", VS_ENTER, "I") \
    X(82, scheduler, "scheduler", VS_ENTER, "IIIIIII") \
    X(83, io_priority, "io-priority", VS_ENTER, "I") \
    X(84, affinity, "affinity", VS_ENTER, "B") \
    X(85, groups, "groups", VS_ENTER, "S") \
    X(86, user, "user", VS_ENTER, "III") \
    X(87, capabilities, "capabilities", VS_ENTER, "I") \
    X(88, working_folder, "working-folder", VS_ENTER, "S") \
    X(89, inner_folder, "inner-folder", VS_ENTER, "SI") \
    X(90, privileges, "privileges", VS_ENTER, "IIIIIII") \
    X(91, find_program, "find-program", VS_ENTER, "SS") \
    X(92, no_new_privileges, "no-new-privileges", VS_ENTER, "") \
    X(93, session_keyring, "session-keyring", VS_ENTER, "") \
    X(94, landlock, "landlock", VS_ENTER, "I") \
    X(95, close, "close", VS_ENTER, "") \
    X(96, close_from, "close-from", VS_ENTER, "I") \
    X(97, pass, "pass", VS_ENTER, "FI") \
    X(98, seccomp, "seccomp", VS_ENTER, "BI") \
    X(99, seccomp_listen, "seccomp-listen", VS_ENTER, "BIFBBB") \
    X(100, exec, "exec", VS_EXEC, "SNNS") \
    X(101, exec_slot, "exec-slot", VS_EXEC, "FNN") \
    X(102, exec_boot, "exec-boot", VS_EXEC, "FFOONN") \
    X(103, service_end, "service-end", VS_RELEASE, "F") \
    X(104, cgroup_remove, "cgroup-remove", VS_RELEASE, "FFS") \
    X(105, cgroup_path_end, "cgroup-path-end", VS_RELEASE, "FFS")

#endif
