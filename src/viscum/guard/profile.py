"""The default seccomp profile, in groups of system calls with the reason for each.

Everything that no group allows fails with EPERM; calls newer than all that are named here fail
with ENOSYS, so that a C library falls back to an older one. The profile goes as far as those of
other container engines: what it lets through is either harmless within namespaces and control
groups, or guarded by the kernel's own checks.
"""

from __future__ import annotations

from ..errors import SpecError
from .policy import ALLOW, ENOSYS, EPERM, ERRNO, Condition, Policy, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .policy import Resolver, Segments

__all__ = ["GROUPS", "Group", "default_rules", "read_profile"]

DENY = ERRNO | EPERM
ABSENT = ERRNO | ENOSYS


class Group:
    """System calls that belong together, what they get, and why.

    `names` are separated by spaces. With `caps`, the group counts only for a machine that has
    one of them, and its calls are denied otherwise. `conditions` and `arches` are those of a
    rule. Groups are tried in order.
    """

    __slots__ = ("action", "arches", "caps", "conditions", "name", "names", "reason")

    def __init__(
        self,
        name: str,
        reason: str,
        names: str,
        action: int = ALLOW,
        conditions: tuple[Condition, ...] = (),
        caps: tuple[str, ...] = (),
        arches: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.reason = reason
        self.names = names
        self.action = action
        self.conditions = conditions
        self.caps = caps
        self.arches = arches

    def rule(self, action: int) -> Rule:
        """Return the rule that gives the calls of this group `action`."""
        return Rule(tuple(self.names.split()), action, self.conditions, self.arches)


_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET; clone(2) has no more."""
_INT = 0xFFFFFFFF
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_NOT_S390 = ("x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "ppc64le")


def _first_is(value: int) -> tuple[Condition, ...]:
    return (Condition(0, "EQ", value),)


GROUPS: tuple[Group, ...] = (
    # What every program needs.
    Group(
        "data",
        "moves data through descriptors that the program already holds",
        "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek "
        "sendfile sendfile64 splice tee vmsplice copy_file_range readahead fadvise64 "
        "fadvise64_64 arm_fadvise64_64 sync_file_range sync_file_range2 arm_sync_file_range "
        "cachestat",
    ),
    Group(
        "descriptors",
        "opens what the machine's own mounts and file permissions let it open",
        "open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock pipe pipe2 "
        "eventfd eventfd2 memfd_create memfd_secret",
    ),
    Group(
        "tree",
        "changes the tree of files within the machine's own mounts",
        "access faccessat faccessat2 chdir fchdir getcwd mkdir mkdirat mknod mknodat rmdir link "
        "linkat symlink symlinkat readlink readlinkat rename renameat renameat2 unlink unlinkat "
        "umask truncate truncate64 ftruncate ftruncate64 fallocate getdents getdents64 readdir",
    ),
    Group(
        "attributes",
        "reads and sets attributes of files; the kernel checks owner and capabilities",
        "stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 "
        "fstatfs fstatfs64 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 lchown "
        "lchown32 fchownat utime utimes futimesat utimensat utimensat_time64 getxattr lgetxattr "
        "fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr "
        "flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat "
        "name_to_handle_at file_getattr file_setattr",
    ),
    Group("flush", "writes cached data to storage", "sync syncfs fsync fdatasync msync"),
    Group(
        "watch",
        "reports changes of files that the program can open",
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    Group(
        "wait",
        "waits for descriptors",
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create "
        "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 signalfd signalfd4",
    ),
    Group(
        "aio",
        "asynchronous input and output of databases, bounded by fs.aio-max-nr",
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
    ),
    Group(
        "memory",
        "shapes the address space of the caller, which its control group accounts for",
        "brk mmap mmap2 mprotect munmap mremap madvise mincore mlock mlock2 mlockall munlock "
        "munlockall remap_file_pages pkey_alloc pkey_free pkey_mprotect mseal map_shadow_stack",
    ),
    Group(
        "processes",
        "starts, ends and awaits processes of the machine's own pid namespace",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid "
        "getpgid setpgid getpgrp getsid setsid pidfd_open pidfd_send_signal process_mrelease "
        "set_tid_address restart_syscall kill tkill tgkill",
    ),
    Group(
        "threads",
        "what thread libraries are made of",
        "futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv set_robust_list "
        "get_robust_list rseq rseq_slice_yield set_thread_area get_thread_area membarrier",
    ),
    Group(
        "signals",
        "handles and sends signals within the machine",
        "rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
        "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack pause sigaction "
        "sigpending sigprocmask sigreturn sigsuspend signal",
    ),
    Group(
        "time",
        "reads clocks, sleeps, and runs timers",
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 "
        "nanosleep clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer timer_create "
        "timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime "
        "timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
        "timerfd_settime64 times",
    ),
    Group(
        "clock-state",
        "reads how the clock is disciplined; the kernel asks for CAP_SYS_TIME to change it",
        "adjtimex clock_adjtime clock_adjtime64",
    ),
    Group(
        "scheduling",
        "sets priorities within what the kernel grants and the control group caps",
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr "
        "sched_getparam sched_setparam sched_getscheduler sched_setscheduler "
        "sched_get_priority_max sched_get_priority_min sched_rr_get_interval "
        "sched_rr_get_interval_time64 getpriority setpriority nice ioprio_get ioprio_set getcpu",
    ),
    Group(
        "identity",
        "changes user and group ids among those that the machine is mapped to",
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid "
        "getresuid32 getresgid getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 "
        "setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 "
        "setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    ),
    Group(
        "limits",
        "reads and lowers the caller's own limits, and asks about the system",
        "getrlimit setrlimit ugetrlimit prlimit64 getrusage sysinfo uname getrandom",
    ),
    Group(
        "confinement",
        "lets a program confine itself further",
        "prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    Group(
        "network",
        "uses sockets, which live in the machine's own network namespace",
        "bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt "
        "socketpair shutdown send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg "
        "recvmmsg_time64",
    ),
    Group(
        "messages",
        "System V and POSIX message passing, which lives in the machine's own ipc namespace",
        "shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64 msgget "
        "msgsnd msgrcv msgctl ipc mq_open mq_unlink mq_timedsend mq_timedsend_time64 "
        "mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr",
    ),
    Group(
        "debugging",
        "debuggers and sanitizers; a traced call meets the filter again since Linux 4.8",
        "ptrace process_vm_readv process_vm_writev",
    ),
    Group("mount-list", "tells of mounts that the caller can reach", "statmount listmount"),
    Group(
        "probes",
        "made by the kernel's own trampolines where the host probes a function of the machine",
        "uprobe uretprobe",
    ),
    Group(
        "unimplemented",
        "numbers that no kernel in use implements: it answers ENOSYS by itself",
        "afs_syscall break create_module epoll_ctl_old epoll_wait_old ftime get_kernel_syms "
        "getpmsg gtty idle lock mpx multiplexer nfsservctl prof profil putpmsg query_module "
        "security stty timerfd tuxcall ulimit usr26 vserver",
    ),
    # What only some architectures have.
    Group(
        "x86",
        "segment bases for thread libraries, descriptor tables for Wine",
        "arch_prctl modify_ldt",
    ),
    Group(
        "arm",
        "the kernel's helpers for thread pointers, caches and breakpoints",
        "breakpoint cacheflush set_tls get_tls usr32",
    ),
    Group(
        "riscv",
        "flushes the caller's instruction cache, tells what the processor can do",
        "riscv_flush_icache riscv_hwprobe",
    ),
    Group(
        "s390",
        "transactional instrumentation, and input and output on PCI devices that are mapped",
        "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ),
    Group("ppc", "switches user contexts within a thread", "swapcontext"),
    # What depends on arguments.
    Group(
        "ioctl-tiocsti",
        "would type into the terminal of whoever shares it",
        "ioctl",
        DENY,
        (Condition(1, "MASKED_EQ", _INT, _TIOCSTI),),
    ),
    Group(
        "ioctl-tioclinux",
        "would paste into a virtual console of the host",
        "ioctl",
        DENY,
        (Condition(1, "MASKED_EQ", _INT, _TIOCLINUX),),
    ),
    Group("ioctl", "speaks to devices, and only those that the machine was given", "ioctl"),
    Group("personality-linux", "the usual personality", "personality", ALLOW, _first_is(0)),
    Group("personality-32", "tells 32-bit programs so", "personality", ALLOW, _first_is(0x8)),
    Group("personality-26", "UNAME26, for old programs", "personality", ALLOW, _first_is(0x20000)),
    Group("personality-26-32", "both of these", "personality", ALLOW, _first_is(0x20008)),
    Group("personality-ask", "asks and sets nothing", "personality", ALLOW, _first_is(_INT)),
    Group(
        "socket-decnet",
        "DECnet has no namespace of its own and no user left",
        "socket",
        DENY,
        _first_is(12),
    ),
    Group(
        "socket-obsolete",
        "Econet and ATM circuits load host modules that nothing in a machine uses",
        "socket",
        DENY,
        (Condition(0, "GE", 19), Condition(0, "LE", 20)),
    ),
    Group(
        "socket-irda",
        "infrared was removed, and old kernels load its module for any user",
        "socket",
        DENY,
        _first_is(23),
    ),
    Group(
        "socket-wanpipe",
        "a driver's own family, which no machine uses",
        "socket",
        DENY,
        _first_is(25),
    ),
    Group(
        "socket-isdn",
        "telephone hardware of the host, outside network namespaces",
        "socket",
        DENY,
        _first_is(34),
    ),
    Group(
        "socket-caif",
        "modem hardware of the host, whose module any user could load",
        "socket",
        DENY,
        _first_is(37),
    ),
    Group(
        "socket-alg",
        "AF_ALG reaches the kernel's cryptography, which has let users write to shared page cache",
        "socket",
        DENY,
        _first_is(38),
    ),
    Group(
        "socket-vsock",
        "AF_VSOCK reaches the hypervisor and other guests past every network namespace",
        "socket",
        DENY,
        _first_is(40),
    ),
    Group(
        "socket-newer",
        "families that did not exist when this was written",
        "socket",
        DENY,
        (Condition(0, "GT", 45),),
    ),
    Group("socket", "the other families live in network namespaces", "socket"),
    Group(
        "socketcall-s390",
        "the only way to a socket for C libraries of s390x",
        "socketcall",
        arches=("s390x",),
    ),
    Group(
        "socketcall",
        "would hide the family in memory, out of a filter's sight; newer libraries use socket(2)",
        "socketcall",
        ABSENT,
        (Condition(0, "MASKED_EQ", _INT, 1),),
    ),
    Group("socketcall-rest", "acts on sockets that exist", "socketcall"),
    Group(
        "namespaces",
        "makes and enters namespaces, which an administrator of the machine may",
        "clone clone3 unshare setns",
        caps=("CAP_SYS_ADMIN",),
    ),
    Group(
        "clone",
        "starts processes and threads without new namespaces",
        "clone",
        ALLOW,
        (Condition(0, "MASKED_EQ", _NAMESPACES, 0),),
        arches=_NOT_S390,
    ),
    Group(
        "clone-s390",
        "the same; s390x has the flags in the second argument",
        "clone",
        ALLOW,
        (Condition(1, "MASKED_EQ", _NAMESPACES, 0),),
        arches=("s390x",),
    ),
    Group(
        "clone3",
        "has its flags in memory, out of a filter's sight; C libraries fall back to clone",
        "clone3",
        ABSENT,
    ),
    # What a capability brings along.
    Group(
        "mount",
        "mounts within the machine's own mount namespace",
        "mount umount umount2 pivot_root mount_setattr move_mount open_tree open_tree_attr fsopen "
        "fsconfig fsmount fspick",
        caps=("CAP_SYS_ADMIN",),
    ),
    Group(
        "administration",
        "host names, quotas, file system events, security modules and lists of namespaces",
        "sethostname setdomainname quotactl quotactl_fd fanotify_init lookup_dcookie listns "
        "lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
        caps=("CAP_SYS_ADMIN",),
    ),
    Group(
        "bpf",
        "loads programs into the kernel",
        "bpf",
        caps=("CAP_SYS_ADMIN", "CAP_BPF"),
    ),
    Group(
        "perf",
        "counts and samples events of the processor and the kernel",
        "perf_event_open",
        caps=("CAP_SYS_ADMIN", "CAP_PERFMON"),
    ),
    Group("syslog", "the kernel's log", "syslog", caps=("CAP_SYS_ADMIN", "CAP_SYSLOG")),
    Group("reboot", "restarts the machine's own init", "reboot", caps=("CAP_SYS_BOOT",)),
    Group("chroot", "changes the root folder", "chroot", caps=("CAP_SYS_CHROOT",)),
    Group(
        "handles",
        "opens files by number, past folders that are closed to the caller",
        "open_by_handle_at",
        caps=("CAP_DAC_READ_SEARCH",),
    ),
    Group(
        "modules",
        "loads code into the kernel",
        "init_module finit_module delete_module",
        caps=("CAP_SYS_MODULE",),
    ),
    Group("accounting", "writes a record of ended processes", "acct", caps=("CAP_SYS_PACCT",)),
    Group(
        "inspection",
        "looks into other processes and takes their descriptors",
        "kcmp pidfd_getfd process_madvise",
        caps=("CAP_SYS_PTRACE",),
    ),
    Group("ports", "input and output ports", "iopl ioperm", caps=("CAP_SYS_RAWIO",)),
    Group(
        "clock",
        "sets the clock of the host",
        "settimeofday stime clock_settime clock_settime64",
        caps=("CAP_SYS_TIME",),
    ),
    Group("hangup", "hangs up a terminal", "vhangup", caps=("CAP_SYS_TTY_CONFIG",)),
    Group(
        "numa",
        "places memory on chosen nodes",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
        caps=("CAP_SYS_NICE",),
    ),
    # What no capability brings along: only an explicit choice does.
    Group(
        "io_uring",
        "does what other calls do out of every filter's sight, with a long record of holes",
        "io_uring_setup io_uring_enter io_uring_register",
        DENY,
    ),
    Group(
        "keyring",
        "keys of the kernel are not kept apart by any namespace",
        "add_key request_key keyctl",
        DENY,
    ),
    Group(
        "userfaultfd",
        "stops the kernel at a fault of the caller's choice, which makes races easy to win",
        "userfaultfd",
        DENY,
    ),
    Group("kexec", "replaces the host's kernel", "kexec_load kexec_file_load", DENY),
    Group("swap", "changes where the host swaps to", "swapon swapoff", DENY),
    Group(
        "page-moves",
        "moves pages of other processes between nodes",
        "migrate_pages move_pages",
        DENY,
    ),
    Group(
        "obsolete",
        "no C library uses these, and few look after them",
        "_sysctl bdflush oldfstat oldlstat oldolduname oldstat olduname sgetmask ssetmask sysfs "
        "uselib ustat",
        DENY,
    ),
    Group(
        "vm86", "runs 16-bit code; a whole machine of its own in the kernel", "vm86 vm86old", DENY
    ),
    Group(
        "hardware",
        "configures buses, firmware, page tables and coprocessors of the host",
        "pciconfig_iobase pciconfig_read pciconfig_write rtas s390_guarded_storage s390_sthyi "
        "spu_create spu_run subpage_prot switch_endian sys_debug_setcontext",
        DENY,
    ),
)

_RESOLVED = {
    "x86_64": "x86_64",
    "x86": "x86_64",
    "x32": "x86_64",
    "aarch64": "aarch64",
    "arm": "aarch64",
}


def default_rules(caps: frozenset[str], *, allow: frozenset[str] = frozenset()) -> Policy:
    """Return the default policy for a machine with the capabilities `caps`.

    They are named as in capabilities(7), with or without CAP_. `allow` are names of groups
    that are let through although they would be denied. Raises SpecError for a group that
    does not exist.
    """
    held = {cap if cap[:4] == "CAP_" else f"CAP_{cap}" for cap in caps}
    missing = allow - {group.name for group in GROUPS} if allow else ()
    if missing:
        raise SpecError(
            f"no group {min(missing)!r} in the default seccomp profile",
            hint=f"one of {', '.join([group.name for group in GROUPS])}",
        )
    active: list[int] = []
    late: list[int] = []
    for place, group in enumerate(GROUPS):
        closed = group.caps and held.isdisjoint(group.caps) and group.name not in allow
        (late if closed else active).append(place)
    rules = []
    for place in active:
        group = GROUPS[place]
        rules.append(group.rule(ALLOW if group.name in allow else group.action))
    rules += [GROUPS[place].rule(DENY) for place in late]
    return Policy(DENY, tuple(rules), newer=ABSENT, resolved=_resolver(active + late))


def _resolver(order: list[int]) -> Resolver:
    """Return what finds the ranges of a policy whose rules are the groups in `order`."""
    places = [0] * len(order)
    for place, group in enumerate(order):
        places[group] = place

    def resolved(arch: str) -> Segments | None:
        name = _RESOLVED.get(arch)
        if name is None:
            return None
        module = __import__(f"viscum.guard.profile_{name}", fromlist=["RANGES"])
        starts, indexes = module.RANGES[arch]
        keys = [
            groups if groups is None else tuple(sorted([places[group] for group in groups]))
            for groups in module.GROUPS
        ]
        return starts, indexes, keys

    return resolved


def read_profile(data: bytes, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> Policy:
    """Return the policy that a profile in JSON asks for.

    `data` is a profile as Docker and Podman take it, or the `linux.seccomp` object of an OCI
    runtime specification. Its conditional entries are decided by the machine's capabilities
    `caps`, the host's architecture `arch` and its kernel version. Raises SpecError for
    anything that is not such a profile; names of calls that no architecture knows are ignored
    and listed in the policy's `unknown`.
    """
    from .profile_reader import read

    return read(data, caps, arch, kernel)
