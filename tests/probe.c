/* What a hostile program in a machine tries. Static, so that it runs in any root.
 *
 *   probe calls                 each forbidden call in turn: "NAME OK" or "NAME ERRNO"
 *   probe writable FOLDER…      every file below that can be opened for writing
 *   probe readable PATH…        those of the paths that show something
 *   probe devices PATH…         try to open each: "PATH OK" or "PATH ERRNO"
 *   probe chroot-escape         leave by chroot(2) and "..": prints device:inode of the top reached
 *   probe ids                   real, effective and saved user ids, effective capabilities
 *   probe abstract NAME         connect to an abstract socket
 *   probe kill PID              signal 0
 *   probe tiocsti               type into its own terminal
 *   probe joiners SECONDS       watch /proc for processes whose memory or descriptors open
 *   probe write PATH            write to a path that may be a program: "OK" or ERRNO
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_open_tree      428
#define SYS_move_mount     429
#define SYS_fsopen         430
#define SYS_clone3         435
#define SYS_pidfd_getfd    438
#define SYS_mount_setattr  442
#endif
#ifndef SYS_fspick
#define SYS_fspick 433
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_kexec_file_load
#define SYS_kexec_file_load 320
#endif

static const char *error_name(int number) {
    static char text[16];
    switch (number) {
    case 0: return "OK";
    case EPERM: return "EPERM";
    case EACCES: return "EACCES";
    case ENOSYS: return "ENOSYS";
    case EROFS: return "EROFS";
    case ENOENT: return "ENOENT";
    case ESRCH: return "ESRCH";
    case EINVAL: return "EINVAL";
    case ENODEV: return "ENODEV";
    case ENXIO: return "ENXIO";
    case ETXTBSY: return "ETXTBSY";
    case ECONNREFUSED: return "ECONNREFUSED";
    case EAFNOSUPPORT: return "EAFNOSUPPORT";
    case EPROTONOSUPPORT: return "EPROTONOSUPPORT";
    case ESOCKTNOSUPPORT: return "ESOCKTNOSUPPORT";
    default: snprintf(text, sizeof text, "E%d", number); return text;
    }
}

/* The calls. Each returns what the system call does: negative is refused. */
#define S(...) syscall(__VA_ARGS__)
static char scratch[4096];

static long own_namespace(const char *name, int flag) {
    char path[64];
    snprintf(path, sizeof path, "/proc/1/ns/%s", name);
    int fd = open(path, O_RDONLY);
    return fd < 0 ? -1 : S(SYS_setns, fd, flag);
}

static long clone_with(unsigned long flags) {
    long pid = S(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    if (pid > 0) waitpid((pid_t)pid, NULL, 0);
    return pid;
}

static long clone3_with(unsigned long long flags) {
    unsigned long long args[11] = {flags, 0, 0, 0, SIGCHLD};
    long pid = S(SYS_clone3, args, 88);
    if (pid == 0) _exit(0);
    if (pid > 0) waitpid((pid_t)pid, NULL, 0);
    return pid;
}

static long make_node(mode_t kind, unsigned major_, unsigned minor_) {
    long ret = mknod("/tmp/probe-node", kind | 0666, makedev(major_, minor_));
    int fd = ret < 0 ? -1 : open("/tmp/probe-node", O_RDONLY | O_NONBLOCK);
    int kept = errno;
    unlink("/tmp/probe-node");
    errno = kept;
    return fd;
}

static long raise_capability(int number) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    S(SYS_capget, &header, data);
    for (int i = 0; i < 2; i++) data[number / 32].permitted |= 1u << number % 32;
    data[number / 32].effective |= 1u << number % 32;
    return S(SYS_capset, &header, data);
}

static long load_bpf(void) {
    struct {
        unsigned type, key, value, entries, flags;
        char rest[128];
    } map = {1, 4, 4, 1};
    return S(SYS_bpf, 0, &map, sizeof map);
}

static long load_bpf_program(void) {
    unsigned long long code[2] = {0xb7, 0x95};
    struct {
        unsigned type, count;
        unsigned long long code, license;
        char rest[112];
    } program = {1, 2, (unsigned long)code, (unsigned long)"GPL"};
    return S(SYS_bpf, 5, &program, sizeof program);
}

static long open_event(void) {
    char attr[128] = {0};
    *(unsigned *)(attr + 0) = 1;
    *(unsigned *)(attr + 4) = 120;
    return S(SYS_perf_event_open, attr, 0, -1, -1, 0);
}

static long open_handle(void) {
    struct {
        unsigned bytes;
        int type;
        unsigned char data[128];
    } handle = {128};
    int id, root = open("/", O_RDONLY | O_DIRECTORY);
    if (S(SYS_name_to_handle_at, AT_FDCWD, "/", &handle, &id, 0) < 0) {
        handle.bytes = 8, handle.type = 1;
        *(unsigned *)handle.data = 2;
    }
    return S(SYS_open_by_handle_at, root, &handle, O_RDONLY);
}

static long set_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return S(SYS_clock_settime, CLOCK_REALTIME, &now);
}

static long new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0); }

static long paste(void) {
    char argument[2] = {3, 0};
    return ioctl(0, 0x541C, argument);
}

static long type_into(void) {
    char letter = 'x';
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), unlocked = 0;
    if (master < 0) return -1;
    ioctl(master, TIOCSPTLCK, &unlocked);
    int terminal = ioctl(master, 0x5441, O_RDWR | O_NOCTTY);
    setsid();
    ioctl(terminal, TIOCSCTTY, 0);
    return ioctl(terminal, TIOCSTI, &letter);
}

/* TIOCSTI with bits beyond the 32 that the kernel looks at. */
static long type_into_wide(void) {
    char letter = 'x';
    return S(SYS_ioctl, 0, 0xdeadbeef00000000ul | TIOCSTI, &letter);
}

static long raise_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_max == RLIM_INFINITY) return errno = EPERM, -1;
    limit.rlim_max = RLIM_INFINITY;
    return setrlimit(RLIMIT_MEMLOCK, &limit);
}
static long port_level(void) {
#ifdef SYS_iopl
    return S(SYS_iopl, 3);
#else
    return errno = ENOSYS, -1;
#endif
}
static long port_permission(void) {
#ifdef SYS_ioperm
    return S(SYS_ioperm, 0x80, 1, 1);
#else
    return errno = ENOSYS, -1;
#endif
}
static long adjust(void) {
    struct timex change = {.modes = ADJ_FREQUENCY};
    return S(SYS_adjtimex, &change);
}
static long lower_oom(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    return fd < 0 ? -1 : write(fd, "-1000", 5);
}

#define RAW(family, type, protocol) socket(family, type, protocol)

#define CALLS(X)                                                                                   \
    X(mount_tmpfs, mount("none", "/tmp", "tmpfs", 0, ""))                                          \
    X(mount_proc, mount("proc", "/tmp", "proc", 0, ""))                                            \
    X(mount_sysfs, mount("sysfs", "/tmp", "sysfs", 0, ""))                                         \
    X(mount_cgroup, mount("cgroup", "/tmp", "cgroup", 0, "memory"))                                \
    X(mount_cgroup2, mount("cgroup2", "/tmp", "cgroup2", 0, ""))                                   \
    X(mount_bind, mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL))                                \
    X(mount_remount_proc_sys, mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL))          \
    X(mount_remount_root, mount(NULL, "/", NULL, MS_REMOUNT, NULL))                                \
    X(mount_overlay, mount("o", "/tmp", "overlay", 0, "lowerdir=/etc:/usr"))                       \
    X(mount_device, mount("/dev/vda", "/tmp", "ext4", MS_RDONLY, ""))                              \
    X(mount_shared, mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL))                              \
    X(umount_proc, umount2("/proc", MNT_DETACH))                                                   \
    X(umount_root, umount2("/", MNT_DETACH))                                                       \
    X(umount_mask, umount2("/proc/kcore", MNT_DETACH))                                             \
    X(pivot_root, S(SYS_pivot_root, ".", "."))                                                     \
    X(open_tree, S(SYS_open_tree, AT_FDCWD, "/", 1))                                               \
    X(move_mount, S(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0))                       \
    X(fsopen, S(SYS_fsopen, "tmpfs", 0))                                                           \
    X(fspick, S(SYS_fspick, AT_FDCWD, "/", 0))                                                     \
    X(mount_setattr, S(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, scratch, 32))                  \
    X(unshare_user, unshare(CLONE_NEWUSER))                                                        \
    X(unshare_user_mount, unshare(CLONE_NEWUSER | CLONE_NEWNS))                                    \
    X(unshare_mount, unshare(CLONE_NEWNS))                                                         \
    X(unshare_pid, unshare(CLONE_NEWPID))                                                          \
    X(unshare_net, unshare(CLONE_NEWNET))                                                          \
    X(unshare_ipc, unshare(CLONE_NEWIPC))                                                          \
    X(unshare_uts, unshare(CLONE_NEWUTS))                                                          \
    X(unshare_cgroup, unshare(CLONE_NEWCGROUP))                                                    \
    X(unshare_time, unshare(0x80))                                                                 \
    X(clone_user, clone_with(CLONE_NEWUSER))                                                       \
    X(clone_mount, clone_with(CLONE_NEWNS))                                                        \
    X(clone_net, clone_with(CLONE_NEWNET))                                                         \
    X(clone3_user, clone3_with(CLONE_NEWUSER))                                                     \
    X(clone3_mount, clone3_with(CLONE_NEWNS))                                                      \
    X(setns_mnt, own_namespace("mnt", CLONE_NEWNS))                                                \
    X(setns_pid, own_namespace("pid", CLONE_NEWPID))                                               \
    X(setns_net, own_namespace("net", CLONE_NEWNET))                                               \
    X(setns_user, own_namespace("user", CLONE_NEWUSER))                                            \
    X(setns_cgroup, own_namespace("cgroup", CLONE_NEWCGROUP))                                      \
    X(node_block_sda, make_node(S_IFBLK, 8, 0))                                                    \
    X(node_block_vda, make_node(S_IFBLK, 254, 0))                                                  \
    X(node_mem, make_node(S_IFCHR, 1, 1))                                                          \
    X(node_kvm, make_node(S_IFCHR, 10, 232))                                                       \
    X(node_fuse, make_node(S_IFCHR, 10, 229))                                                      \
    X(node_null, make_node(S_IFCHR, 1, 3))                                                         \
    X(swapon, S(SYS_swapon, "/dev/vda", 0))                                                        \
    X(swapoff, S(SYS_swapoff, "/dev/vda"))                                                         \
    X(reboot, S(SYS_reboot, 0xfee1dead, 672274793, 0, 0))                                          \
    X(kexec_load, S(SYS_kexec_load, 0, 0, 0, 0))                                                   \
    X(kexec_file_load, S(SYS_kexec_file_load, -1, -1, 0, "", 0))                                   \
    X(init_module, S(SYS_init_module, scratch, 1, ""))                                             \
    X(finit_module, S(SYS_finit_module, 0, "", 0))                                                 \
    X(delete_module, S(SYS_delete_module, "loop", O_NONBLOCK))                                     \
    X(bpf_map, load_bpf())                                                                         \
    X(bpf_program, load_bpf_program())                                                             \
    X(perf_event_open, open_event())                                                               \
    X(io_uring_setup, S(SYS_io_uring_setup, 4, memset(scratch, 0, sizeof scratch)))                \
    X(userfaultfd, S(SYS_userfaultfd, 0))                                                          \
    X(userfaultfd_user_only, S(SYS_userfaultfd, 1))                                                \
    X(add_key, S(SYS_add_key, "user", "viscum", "x", 1, -3))                                       \
    X(request_key, S(SYS_request_key, "user", "viscum", "", -3))                                   \
    X(keyctl_session, S(SYS_keyctl, 0, -3, 1))                                                     \
    X(keyctl_join, S(SYS_keyctl, 1, "viscum"))                                                     \
    X(socket_packet, RAW(17, SOCK_RAW, 0x0300))                                                    \
    X(socket_packet_cooked, RAW(17, SOCK_DGRAM, 0x0300))                                           \
    X(socket_raw, RAW(2, SOCK_RAW, 1))                                                             \
    X(socket_raw_any, RAW(2, SOCK_RAW, 255))                                                       \
    X(socket_raw6, RAW(10, SOCK_RAW, 58))                                                          \
    X(socket_vsock, RAW(40, SOCK_STREAM, 0))                                                       \
    X(socket_alg, RAW(38, SOCK_SEQPACKET, 0))                                                      \
    X(socket_key, RAW(15, SOCK_RAW, 2))                                                            \
    X(socket_xdp, RAW(44, SOCK_RAW, 0))                                                            \
    X(socket_can, RAW(29, SOCK_RAW, 1))                                                            \
    X(socket_bluetooth, RAW(31, SOCK_RAW, 1))                                                      \
    X(tiocsti, type_into())                                                                        \
    X(tiocsti_wide, type_into_wide())                                                              \
    X(tioclinux, paste())                                                                          \
    X(quotactl, S(SYS_quotactl, 0x800001, 0, 0, scratch))                                          \
    X(quotactl_fd, S(SYS_quotactl_fd, 0, 0x800001, 0, scratch))                                    \
    X(acct, S(SYS_acct, "/tmp/acct"))                                                              \
    X(syslog, S(SYS_syslog, 3, scratch, sizeof scratch))                                           \
    X(open_by_handle_at, open_handle())                                                            \
    X(clock_settime, set_time())                                                                   \
    X(settimeofday, settimeofday(&(struct timeval){1, 0}, NULL))                                   \
    X(sethostname, sethostname("owned", 5))                                                        \
    X(setdomainname, setdomainname("owned", 5))                                                    \
    X(vhangup, S(SYS_vhangup))                                                                     \
    X(fanotify_init, S(SYS_fanotify_init, 0, 0))                                                   \
    X(fanotify_init_unprivileged, S(SYS_fanotify_init, 0x200, 0))                                  \
    X(kcmp, S(SYS_kcmp, getpid(), getpid(), 0, 0, 0))                                              \
    X(pidfd_getfd, S(SYS_pidfd_getfd, S(SYS_pidfd_open, getpid(), 0), 0, 0))                       \
    X(capset_sys_admin, raise_capability(CAP_SYS_ADMIN))                                           \
    X(capset_sys_ptrace, raise_capability(CAP_SYS_PTRACE))                                         \
    X(capset_net_admin, raise_capability(CAP_NET_ADMIN))                                           \
    X(capset_mknod, raise_capability(CAP_MKNOD))                                                   \
    X(ambient_sys_admin, prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0))         \
    X(clear_no_new_privileges, new_privileges())                                                   \
    X(personality_read_implies_exec, S(SYS_personality, 0x0400000))                                \
    X(personality_no_randomize, S(SYS_personality, 0x0040000))                                     \
    X(priority_above_normal, setpriority(PRIO_PROCESS, 0, -5))                                     \
    X(rlimit_raise, raise_limit())                                                                 \
    X(iopl, port_level())                                                                          \
    X(ioperm, port_permission())                                                                   \
    X(modify_host_clock, adjust())                                                                 \
    X(lookup_dcookie, S(SYS_lookup_dcookie, 1ull, scratch, 10))                                    \
    X(migrate_pages, S(SYS_migrate_pages, 1, 0, 0, 0))                                             \
    X(oom_score_adj_lower, lower_oom())

#define FUNCTION(name, call)                                                                       \
    static long try_##name(void) { return call; }
CALLS(FUNCTION)
static const struct {
    const char *name;
    long (*call)(void);
} calls[] = {
#define ROW(name, call) {#name, try_##name},
    CALLS(ROW)};

/* Each in a process of its own: one that succeeds must not change the next. */
static int try_calls(void) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(5);
            errno = 0;
            long ret = calls[i].call();
            printf("%s %s\n", calls[i].name, ret < 0 ? error_name(errno) : "OK");
            fflush(stdout);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status)) printf("%s signal-%d\n", calls[i].name, WTERMSIG(status));
    }
    return 0;
}

static int is_own(const char *path) { /* files of the machine's own processes */
    if (strncmp(path, "/proc/", 6)) return 0;
    return (path[6] >= '0' && path[6] <= '9') || !strncmp(path + 6, "self", 4) ||
           !strncmp(path + 6, "thread-self", 11);
}

static void walk(const char *path, int depth) {
    DIR *folder = depth > 24 ? NULL : opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char below[4096];
        struct stat is;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(below, sizeof below, "%s/%s", strcmp(path, "/") ? path : "", entry->d_name);
        if (is_own(below) || lstat(below, &is) < 0) continue;
        if (S_ISDIR(is.st_mode)) walk(below, depth + 1);
        if (!S_ISREG(is.st_mode)) continue;
        int fd = open(below, O_WRONLY | O_NONBLOCK | O_NOCTTY);
        if (fd < 0) continue;
        puts(below);
        close(fd);
    }
    if (folder) closedir(folder);
}

static void show_readable(const char *path) {
    struct stat is;
    if (stat(path, &is) < 0) return;
    if (S_ISDIR(is.st_mode)) {
        DIR *folder = opendir(path);
        for (struct dirent *entry; folder && (entry = readdir(folder));)
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
                printf("%s/%s\n", path, entry->d_name);
                break;
            }
        if (folder) closedir(folder);
        return;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    char byte;
    if (fd >= 0 && read(fd, &byte, 1) > 0) puts(path);
    if (fd >= 0) close(fd);
}

static int chroot_escape(void) {
    struct stat top;
    mkdir("/tmp/jail", 0755);
    int here = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/tmp/jail") < 0) perror("chroot");
    fchdir(here);
    for (int i = 0; i < 64; i++) chdir("..");
    chroot(".");
    stat("/", &top);
    printf("%lu:%lu\n", (unsigned long)top.st_dev, (unsigned long)top.st_ino);
    return 0;
}

static int show_ids(void) {
    uid_t ids[3];
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    getresuid(&ids[0], &ids[1], &ids[2]);
    S(SYS_capget, &header, data);
    printf("%u %u %u %x\n", ids[0], ids[1], ids[2], data[0].effective | data[1].effective);
    return 0;
}

static int connect_abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int ret = connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length);
    puts(ret < 0 ? error_name(errno) : "OK");
    return 0;
}

static int is_library(const char *path) {
    return !strncmp(path, "/usr/", 5) || !strncmp(path, "/lib", 4) || !strncmp(path, "/etc/ld", 7);
}

static int found;

static void watch_one(int pid) {
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDWR);
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int comm = open(path, O_RDONLY);
    ssize_t n = comm < 0 ? 0 : read(comm, target, sizeof target - 1);
    target[n > 0 ? n - 1 : 0] = 0;
    if (comm >= 0) close(comm);
    if (memory >= 0 && !strncmp(target, "py", 2)) found += printf("memory of %s\n", target) > 0;
    if (memory >= 0) close(memory);
    for (int number = 3; number < 64; number++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, number);
        n = readlink(path, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = 0;
        if (is_library(target)) continue; /* it executes already, and loads what it needs */
        found += printf("descriptor %d: %s\n", number, target) > 0;
        break;
    }
}

static int watch_joiners(double seconds) {
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    puts("ready");
    fflush(stdout);
    do {
        DIR *folder = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(folder));) {
            int pid = atoi(entry->d_name);
            if (pid > 1 && pid != getpid()) watch_one(pid);
        }
        closedir(folder);
        fflush(stdout);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (found < 99 &&
             now.tv_sec - start.tv_sec + (now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
    return 0;
}

static int write_to(const char *path) {
    int fd = open(path, O_WRONLY);
    long ret = fd < 0 ? -1 : write(fd, "owned", 5);
    puts(ret < 0 ? error_name(errno) : "OK");
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    if (!strcmp(verb, "calls")) return try_calls();
    if (!strcmp(verb, "chroot-escape")) return chroot_escape();
    if (!strcmp(verb, "ids")) return show_ids();
    if (!strcmp(verb, "tiocsti")) return puts(type_into() < 0 ? error_name(errno) : "OK"), 0;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(verb, "writable")) walk(argv[i], 0);
        if (!strcmp(verb, "readable")) show_readable(argv[i]);
        if (!strcmp(verb, "devices")) {
            int fd = open(argv[i], O_RDONLY | O_NONBLOCK);
            printf("%s %s\n", argv[i], fd < 0 ? error_name(errno) : "OK");
        }
        if (!strcmp(verb, "abstract")) return connect_abstract(argv[i]);
        if (!strcmp(verb, "kill")) {
            int ret = kill(atoi(argv[i]), 0);
            puts(ret < 0 ? error_name(errno) : "OK");
        }
        if (!strcmp(verb, "joiners")) return watch_joiners(atof(argv[i]));
        if (!strcmp(verb, "write")) return write_to(argv[i]);
    }
    return 0;
}
