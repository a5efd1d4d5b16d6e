"""The only importer of the C extension; turns its reports into errors that say what to do."""

from __future__ import annotations

import errno as errno_names
import os

from . import _core
from . import plan as plan_module
from .errors import CommandNotExecutable, CommandNotFound, LaunchError, PlanError, ViscumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .plan import Plan

__all__ = [
    "CoreMachine",
    "CoreMeter",
    "CorePlan",
    "Figures",
    "TarFailure",
    "Untar",
    "enter",
    "give_away",
    "launch",
    "load",
    "mount",
    "open_at",
    "open_below",
    "open_inside",
    "open_null",
    "pipe",
    "run",
    "sync_file_system",
    "unmount",
    "wait_pressure",
    "watch",
    "watch_use",
]

CoreMachine = _core.Machine
CoreMeter = _core.Meter
Figures = _core.Figures
watch = _core.watch
watch_use = _core.watch_use
wait_pressure = _core.wait_pressure
CorePlan = _core.Plan
Untar = _core.Untar
TarFailure = _core.TarFailure

NO_FAULT = -1
NO_SLOT = plan_module.NONE
Failure = _core.Failure


def open_below(folder: int, path: str) -> int:
    """Open a file below a folder for reading; no link leads out of it. Raises OSError."""
    return _core.open_below(folder, path)


RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16


def open_at(folder: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below `folder` as openat2(2) does with `resolve`. Raises OSError."""
    return _core.open_at(folder, path, flags, mode, resolve)


def enter(pidfd: int, *, user: bool) -> None:
    """Become root of the machine that a process is in, for good; see `viscum.inside`."""
    _core.enter(pidfd, user)


def open_inside(folder: int, path: bytes, flags: int) -> int:
    """Open what is below a folder, as `flags` say; links lead nowhere else. Raises OSError."""
    return _core.open_inside(folder, path, flags)


def mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """Show a file system in this process's mount namespace (mount(2)); raises OSError."""
    _core.mount(source, target, kind, flags, options)


def mount_overlay(lower: str, upper: str, work: str) -> int:
    """Lay a folder for changes over another one, attached nowhere; return a descriptor of what they
    show together, with which it goes. Raises OSError.
    """
    return _core.mount_overlay(lower, upper, work)


def mount_erofs(file: int) -> int:
    """Mount the EROFS image in an open file, attached nowhere; return a descriptor of its root,
    with which it goes. Raises OSError.
    """
    return _core.mount_erofs(file)


def unmount(target: str) -> None:
    """Take a mount away: umount2(2). Raises OSError."""
    _core.unmount(target)


def sync_file_system(folder: int) -> None:
    """Have the file system of a folder on disk: syncfs(2). Raises OSError."""
    _core.sync_file_system(folder)


def give_away(pipe_end: int, owner: tuple[int, int]) -> bool:
    """Make a pipe the machine's user's, who could not open /dev/stdout otherwise; False where the
    host does not allow it.
    """
    try:
        os.fchown(pipe_end, *owner)
    except OSError:
        return False
    return True


def pipe() -> tuple[int, int]:
    """Return read and write end of a pipe, neither at 0, 1 or 2; raises LaunchError."""
    try:
        return _core.pipe()
    except OSError as error:
        raise _no_stream(error) from None


def open_null() -> int:
    """Open /dev/null, not at 0, 1 or 2; raises LaunchError."""
    try:
        return _core.open_null()
    except OSError as error:
        raise _no_stream(error) from None


def _no_stream(error: OSError) -> LaunchError:
    number = error.errno or 0
    made = LaunchError(
        f"cannot make a stream: {os.strerror(number).lower()}", hint=_GENERAL_HINTS.get(number, "")
    )
    made.errno = number
    return made


def load(plan: Plan) -> CorePlan:
    """Return `plan` loaded into the core; raises PlanError, LaunchError."""
    try:
        return _core.Plan(plan.encode())
    except Failure as failure:
        raise explain(plan, failure) from None


def launch(
    plan: Plan,
    loaded: CorePlan,
    machine_id: str,
    streams: tuple[int, int, int],
    *,
    target: int = -1,
    fail_at: int = NO_FAULT,
) -> CoreMachine:
    """Start a machine; returns once its command executes. Raises LaunchError."""
    try:
        return _core.launch(loaded, machine_id, *streams, target, fail_at)
    except Failure as failure:
        raise explain(plan, failure) from None


def run(
    plan: Plan,
    loaded: CorePlan,
    machine_id: str,
    *,
    data: bytes | None,
    captures: bool,
    limit: int,
    timeout_ns: int,
    kill_slot: int,
    files: tuple[tuple[int, str], ...],
    owner: tuple[int, int],
    fail_at: int = NO_FAULT,
) -> tuple[tuple[int, ...], bool, bytes, bytes, int, tuple[bytes | None, ...]]:
    """Run a machine to its end: status, timed out, stdout, stderr, truncated, usage files."""
    try:
        return _core.run(
            loaded,
            machine_id,
            data,
            captures,
            limit,
            timeout_ns,
            kill_slot,
            files,
            *owner,
            fail_at,
        )
    except Failure as failure:
        raise explain(plan, failure) from None


_HINTS: Mapping[tuple[str, int], str] = {
    ("clone", errno_names.ENOSPC): "raise sysctl user.max_user_namespaces, or end other machines",
    ("clone", errno_names.EAGAIN): "too many processes: raise ulimit -u, or end other machines",
    ("clone", errno_names.ENOMEM): "the host is out of memory or of process ids",
    ("clone", errno_names.EPERM): "user namespaces are forbidden here; run: viscum doctor",
    ("clone", errno_names.ENOSYS): "a filter around this process hides clone3: in a machine, start "
    "the outer one with --cap-add SYS_ADMIN --security-opt unmask=ALL",
    ("service", errno_names.EPERM): "see what it says above; may it open /dev/net/tun?",
    ("expect-host", errno_names.EXDEV): "the plan is of another kernel: compile it again",
    ("expect-file", errno_names.ESTALE): "the file was replaced since compiling: compile again",
    (
        "erofs",
        errno_names.ENODEV,
    ): "this kernel has no EROFS: pull the image with --storage overlay",
    ("erofs", errno_names.ENOTBLK): "mounting from files takes Linux 6.15: --storage overlay",
    ("erofs", errno_names.EPERM): "only root can mount images: pull it with --storage overlay",
    ("erofs", errno_names.EUCLEAN): "the image file is damaged: viscum store check --repair",
    ("tree", errno_names.EINVAL): "this kernel maps no ids on the file system of that folder: "
    "keep roots, and VISCUM_DATA, on ext4, xfs or btrfs",
    ("attach", errno_names.ELOOP): "the root has a symbolic link there: remove it",
    (
        "clone-tree",
        errno_names.EINVAL,
    ): "other file systems are mounted below it, and only root can leave them out",
    ("attach", errno_names.EROFS): "the folder has other file systems below it, and is read-only "
    "for ordinary users' machines: choose another target",
    ("attach", errno_names.ENOTDIR): "a folder is needed there",
    ("cgroup", errno_names.ENOENT): "the group's parent is gone",
    ("cgroup-write", errno_names.ENOENT): "this kernel does not have this limit: leave it out",
    ("cgroup-write", errno_names.ENODEV): "there is no such block device, or it cannot be limited",
    ("cgroup-write", errno_names.EOPNOTSUPP): "the disk's scheduler knows no weights: write bfq to "
    "its queue/scheduler in /sys/block",
    ("cgroup-write", errno_names.EINVAL): "the kernel does not take this value",
    ("cgroup-write", errno_names.EBUSY): "the limit is below what is in use",
    ("cgroup-write", errno_names.EACCES): "the parent group allows less than this",
    ("helper", errno_names.EPERM): "it refused; for newuidmap check /etc/subuid and /etc/subgid",
    ("working-folder", errno_names.ENOENT): "make it in the root first",
    ("overlay", errno_names.EINVAL): "is the root itself on an overlay? mount a volume for it",
}
_GENERAL_HINTS = {
    errno_names.EMFILE: "raise the limit of open files: ulimit -n",
    errno_names.ENFILE: "the host is out of open files: raise sysctl fs.file-max",
    errno_names.ENOSPC: "the disk or the quota is full",
    errno_names.ECANCELED: "it was killed while it was set up; is the memory limit too low?",
    errno_names.EIO: "a fault was injected, or the disk failed",
}


def _syscall_name(number: int) -> str:
    from .guard.policy import arch_name
    from .guard.syscalls import numbers

    names = {value: name for name, value in numbers(arch_name(os.uname().machine)).items()}
    return names.get(number, "") if number else ""


def explain_report(plan: Plan, index: int, syscall: int, number: int) -> ViscumError:
    """Return the error that a monitor's report of a failed launch means."""
    return explain(plan, Failure(index, syscall, number))


def explain(plan: Plan, failure: BaseException) -> ViscumError:
    """Return the error that tells a person what the core's report means."""
    index, number, errno = failure.args
    if not 0 <= index < len(plan.operations):
        return _explain_whole(number, errno)
    operation = plan.operations[index]
    reason = os.strerror(errno).lower()
    if operation.name in ("exec", "exec-slot"):
        made = _explain_exec(operation.values[0], errno, reason)
    else:
        hint = _HINTS.get((operation.name, errno)) or _GENERAL_HINTS.get(errno, "")
        made = LaunchError(f"operation {index}, {operation.describe()}: {reason}", hint=hint)
    made.index, made.operation = index, operation.describe()
    made.errno, made.syscall = errno, _syscall_name(number)
    return made


def _explain_exec(command: object, errno: int, reason: str) -> LaunchError:
    if errno == errno_names.ENOENT:
        hint = "check the name and PATH, and the script's interpreter"
        return CommandNotFound(f"command {command!r} was not found", hint=hint)
    hint = {
        errno_names.EACCES: "is it executable, and not a folder?",
        errno_names.ENOEXEC: "a binary of another architecture, or a script without #!",
        errno_names.E2BIG: "the arguments and the environment are too long",
    }.get(errno, "")
    return CommandNotExecutable(f"command {command!r}: {reason}", hint=hint)


def _explain_whole(number: int, errno: int) -> ViscumError:
    if number:
        reason = os.strerror(errno).lower()
        hint = _GENERAL_HINTS.get(errno, "")
        error = LaunchError(f"cannot start: {reason}", hint=hint)
        error.errno = errno
        return error
    return PlanError(
        "the compiled plan is malformed or of another version", hint="compile it again"
    )
