"""What this host is: probed once, frozen, and read by the drivers."""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock
from itertools import count

from .errors import HostError
from .frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Cgroups",
    "Host",
    "KernelPath",
    "cgroup_mounts",
    "kernel_version",
    "own_groups",
    "own_id",
    "probe",
    "status_field",
]

KERNEL_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/irq",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
)


class Cgroups(Frozen):
    """Where machines' groups go: absolute folders, by controller for v1, one for v2 ("")."""

    v1: tuple[tuple[str, str], ...] = ()
    v2: str = ""
    v2_controllers: tuple[str, ...] = ()
    cpus: str = "0"
    mems: str = "0"
    """CPUs and memory nodes of the v1 cpuset that machines' groups are made in."""

    @property
    def layout(self) -> str:
        """The layout's name: "v1", "v2", "hybrid" or "none"."""
        if self.v1:
            return "hybrid" if self.v2 else "v1"
        return "v2" if self.v2 else "none"


class KernelPath(Frozen):
    """A path of the kernel's file systems that machines are kept from: is it a folder, and may
    any user of the host read it, or write to it?
    """

    path: str
    folder: bool
    readable: bool
    writable: bool


def _kernel_paths() -> tuple[KernelPath, ...]:
    present = []
    for path in KERNEL_PATHS:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        folder = mode & 0o170000 == 0o040000
        present.append(KernelPath(path, folder, bool(mode & 0o4), bool(mode & 0o2)))
    return tuple(present)


class Host(Frozen):
    """The Linux system that everything lives on."""

    machine: str
    release: str
    uid: int
    gid: int
    cgroups: Cgroups
    kernel_paths: tuple[KernelPath, ...]
    last_capability: int
    capable: bool
    landlock_scopes: bool
    subordinate: tuple[tuple[int, int], tuple[int, int]] | None
    user_namespaces: bool
    full_identity: bool
    """Whether this is the initial user namespace, or one that maps every id."""
    ids: int
    """How many ids from 0 on this user namespace has."""
    home: str
    pasta: str
    """Path of pasta(1), which gives a network namespace a way out; empty where there is none."""
    shapes_links: bool
    """Whether nsenter(1), ip(8) and tc(8) are there, which limit a link's bandwidth."""

    @property
    def uses_detached(self) -> bool:
        """Whether a mount that is attached nowhere can be cloned and laid over (Linux 6.15)."""
        return self.kernel >= (6, 15)

    @property
    def prepares_devices(self) -> bool:
        """Whether a /dev can be made once and cloned into machines."""
        return self.capable and self.full_identity and self.uses_detached

    @property
    def kernel(self) -> tuple[int, int]:
        """The first two numbers of the kernel's version."""
        return kernel_version(self.release)


EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _read(path: str) -> str:
    """Return what a file of the kernel says, nothing where it is not there."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("utf-8", "surrogateescape")  # more than one page
    except OSError as error:
        if error.errno in EXHAUSTED:
            reason = os.strerror(error.errno).lower()
            raise HostError(f"{path}: {reason}", hint="raise ulimit -n, or end what runs") from None
        return ""


def own_groups() -> dict[str, str]:
    """Return this process's group by controller; the v2 one under ""."""
    groups = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def cgroup_mounts() -> dict[str, tuple[str, str]]:
    """Return mount point and root of each cgroup mount, by controller; the v2 one under ""."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        if " - cgroup" not in line:
            continue
        left, right = line.split(" - ", 1)
        root, point = left.split()[3:5]
        kind, _, options = right.split()[:3]
        if kind == "cgroup2":
            mounts.setdefault("", (point, root))
        elif kind == "cgroup":
            for option in options.split(","):
                mounts.setdefault(option.removeprefix("name="), (point, root))
    return mounts


def _folder(mounts: dict[str, tuple[str, str]], groups: dict[str, str], name: str) -> str:
    point, root = mounts[name]
    path = groups.get(name, "/")
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    folder = point + path.rstrip("/")
    return folder if os.path.isdir(folder) else point


def _topmost_writable(folder: str, top: str) -> str:
    """Return the highest group from `folder` up in which this process may make machines'."""
    best = ""
    while folder.startswith(top):
        if not (os.access(folder, os.W_OK) and os.access(folder + "/cgroup.procs", os.W_OK)):
            break
        best = folder
        folder = folder.rpartition("/")[0]
    return best


def _probe_cgroups() -> Cgroups:
    mounts, groups = cgroup_mounts(), own_groups()
    v1 = []
    for name in ("cpu", "cpuacct", "cpuset", "memory", "pids", "freezer", "devices", "blkio"):
        if name in mounts:
            folder = _folder(mounts, groups, name)
            if os.access(folder, os.W_OK):
                v1.append((name, folder))
    folder = dict(v1).get("cpuset", "")
    sets = [_read(f"{folder}/cpuset.effective_{what}").strip() or "0" for what in ("cpus", "mems")]
    if "" not in mounts:
        return Cgroups(tuple(v1), cpus=sets[0], mems=sets[1])
    top = mounts[""][0]
    v2 = _topmost_writable(_folder(mounts, groups, ""), top)
    controllers = _read(f"{v2}/cgroup.controllers").split() if v2 else []
    return Cgroups(tuple(v1), v2, tuple(controllers), *sets)


def _subordinate(file: str, uid: int) -> tuple[int, int] | None:
    """Return the first range that subuid(5) gives this user: first id and count."""
    text = _read(file)
    if not text:
        return None
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    for line in text.splitlines():
        fields = line.split(":")
        numbers = len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit()
        if numbers and fields[0] in (name, str(uid)) and int(fields[2]) >= 65536:
            return int(fields[1]), int(fields[2])
    return None


def _subordinate_ids(uid: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if not (os.access("/usr/bin/newuidmap", os.X_OK) and os.access("/usr/bin/newgidmap", os.X_OK)):
        return None
    uids, gids = _subordinate("/etc/subuid", uid), _subordinate("/etc/subgid", uid)
    return (uids, gids) if uids and gids else None


def status_field(name: str) -> str:
    """Return a field of /proc/self/status; empty where the kernel has none of that name."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return ""


SHAPING = (
    ("/usr/bin/nsenter",),
    ("/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip", "/bin/ip"),
    ("/usr/sbin/tc", "/usr/bin/tc", "/sbin/tc"),
)
PASTA = ("/usr/bin/pasta", "/usr/local/bin/pasta")
CAP_SYS_ADMIN = 21
CAP_SETUID = 7
FULL_IDENTITY = 4294967295


NS_GET_USERNS = 0xB701


def _owns_mounts() -> bool:
    """Whether this mount namespace belongs to this user namespace (ioctl_ns(2)): only then do
    capabilities here mean anything for mounts.
    """
    import fcntl

    try:
        mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            owner = fcntl.ioctl(mounts, NS_GET_USERNS)
        finally:
            os.close(mounts)
    except OSError:
        return False
    try:
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
    finally:
        os.close(owner)


def _found(paths: tuple[str, ...]) -> str:
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def probe() -> Host:
    """Return what this host is, as seen by this process."""
    system = os.uname()
    uid = os.geteuid()
    effective = int(status_field("CapEff") or "0", 16)
    capable = bool(effective >> CAP_SYS_ADMIN & 1 and effective >> CAP_SETUID & 1)
    mapped = _read("/proc/self/uid_map").split()
    initial = len(mapped) == 3 and int(mapped[2]) == FULL_IDENTITY
    capable = capable and (initial or _owns_mounts())
    limit = _read("/proc/sys/user/max_user_namespaces").strip()
    return Host(
        machine=system.machine,
        release=system.release,
        uid=uid,
        gid=os.getegid(),
        cgroups=_probe_cgroups(),
        kernel_paths=_kernel_paths(),
        last_capability=int(_read("/proc/sys/kernel/cap_last_cap").strip() or 40),
        capable=capable,
        landlock_scopes=kernel_version(system.release) >= (6, 12),
        subordinate=None if capable and initial else _subordinate_ids(uid),
        user_namespaces=limit != "0",
        full_identity=initial,
        ids=int(mapped[2]) if len(mapped) >= 3 and mapped[0] == "0" else 1,
        pasta=_found(PASTA),
        shapes_links=all(map(_found, SHAPING)),
        home=os.path.realpath(os.path.expanduser("~")),
    )


_lock = allocate_lock()


def kernel_version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel's release."""
    major, minor = release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


DEAD = ("Z", "X")
"""States of a process that has ended, though nobody may have waited for it (proc_pid_stat(5))."""


def owner_prefix(pid: int | None = None) -> str:
    """Return `PIDNS-PID-START`, in hexadecimal: which process owns a machine of that id.

    With the start time (proc_pid_stat(5), field 22) it names one process since boot.
    """
    process = "self" if pid is None else str(pid)
    stat = _read(f"/proc/{process}/stat")
    fields = stat.rpartition(")")[2].split()
    start = int(fields[19]) if fields and fields[0] not in DEAD else 0
    number = os.getpid() if pid is None else pid
    return f"{os.stat('/proc/self/ns/pid').st_ino:x}-{number:x}-{start:x}"


_owner: tuple[int, str, count[int]] = (0, "", count(1))


def own_id() -> str:
    """Return a new machine id of this process: its owner prefix and a number."""
    global _owner  # noqa: PLW0603 - one counter for the process, another one after a fork
    pid = os.getpid()
    if _owner[0] != pid:
        with _lock:
            if _owner[0] != pid:
                _owner = (pid, owner_prefix(), count(1))
    return f"{_owner[1]}-{next(_owner[2]):x}"


def mount_points() -> list[str]:
    """Return every mount point that this process sees."""
    return [line.split()[4] for line in _read("/proc/self/mountinfo").splitlines()]


def mount_lines() -> list[tuple[str, str, str]]:
    """Return source, place and options of every mount that this process sees."""
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        _, source, options = after.split(" ", 2)
        place = before.split()[4]
        found.append((unescaped(source), unescaped(place), unescaped(options)))
    return found


def unescaped(text: str) -> str:
    """Return a field of mountinfo with its octal escapes read."""
    if "\\" not in text:
        return text
    parts = text.split("\\")
    read = [
        chr(int(p[:3], 8)) + p[3:] if p[:3].isdigit() and int(p[:3], 8) < 256 else "\\" + p
        for p in parts[1:]
    ]
    return parts[0] + "".join(read)


def submounts(folders: Iterable[str]) -> set[str]:
    """Return those of `folders` that have mounts below them."""
    points = mount_points()
    return {folder for folder in folders if any(point.startswith(folder + "/") for point in points)}
