"""Work on the files of a machine, done by a process that becomes root of it.

Reading and writing a machine's files from the host goes wrong in many ways: links lead out of it,
ids are those of the host, and what is mounted in it is not seen. So a process of its own joins
the user namespace and the mounts of the machine, and from then on has no more power than the
machine's root, whatever its links lead to. What passes between it and the host is a stream, and
one report.

It cannot be traced from the machine, has no thread, and imports nothing once it is inside: the
path of modules would lead to the machine's files.
"""

from __future__ import annotations

import os
import sys

from .errors import MachineError, ViscumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLOSED", "Worker", "main", "start_time"]

PIDFD, REPORT = 3, 4
MAX_REPORT = 1 << 20
CLOSED = "the stream was closed"
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from viscum.inside import main; main()"


def start_time(pid: int) -> int:
    """Return when a process started, in ticks since boot; -1 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1


def _pidfd(pid: int, started: int | None) -> int:
    """Open a process, and make sure that it is still the one that started then."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        raise MachineError("the machine has ended") from None
    if started is not None and start_time(pid) != started:
        os.close(fd)
        raise MachineError("the machine has ended")
    return fd


def _other_user_namespace(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise MachineError(f"cannot enter the machine: {reason}") from None


class Worker:
    """A process that does one task in a machine: `stdin` and `stdout` are its streams.

    `pid` is of a process of the machine, `started` when it started, where that is known.
    """

    def __init__(
        self,
        task: Mapping[str, object],
        pid: int,
        *,
        started: int | None = None,
        stdin: int,
        stdout: int,
    ) -> None:
        import json

        pidfd = _pidfd(pid, started)
        reader, writer = os.pipe()
        try:
            words = {**task, "user": _other_user_namespace(pid)}
            self.pid = _spawn(json.dumps(words), (stdin, stdout, pidfd, writer))
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(pidfd)
            os.close(writer)
        self.report = reader

    def finish(self) -> dict[str, object]:
        """Wait for its end; return its report. Raises the ViscumError that it failed with."""
        import json

        with open(self.report, "rb") as file:
            data = file.read(MAX_REPORT)
        os.waitpid(self.pid, 0)
        try:
            told = json.loads(data)
        except ValueError:
            raise ViscumError(
                "the work in the machine ended early", hint="was it killed?"
            ) from None
        if "error" in told:
            raise ViscumError(str(told["error"]), hint=str(told["hint"]))
        return dict(told)


def _spawn(task: str, given: tuple[int, int, int, int]) -> int:
    """Start this module in a process with the descriptors `given` as 0, 1, 3 and 4."""
    # Numbers above those that are to be taken, so that none is overwritten before its turn.
    moved = [_high(fd) for fd in given]
    try:
        targets = (0, 1, PIDFD, REPORT)
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(moved, targets, strict=True)
        ]
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        words = [sys.executable, "-I", "-S", "-c", BOOT, package, task]
        return os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)
    finally:
        for fd in moved:
            os.close(fd)


def _high(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


# In the process.


def main() -> None:
    """Do the task in the last word of the command line, and report; never returns."""
    import json

    told: dict[str, object]
    try:
        task = json.loads(sys.argv[2])
        act = _prepare(task)
        told = act()
    except Exception as error:  # a traceback would show lines of the machine's files
        told = _failure(error)
    with open(REPORT, "wb") as file:
        file.write(json.dumps(told).encode())
    os._exit(0)


def _failure(error: Exception) -> dict[str, object]:
    """Return what is reported of an error."""
    if isinstance(error, ViscumError):
        return {"error": error.message, "hint": error.hint}
    if isinstance(error, BrokenPipeError):
        return {"error": CLOSED, "hint": ""}
    if isinstance(error, ProcessLookupError):
        return {"error": "the machine has ended", "hint": ""}
    if isinstance(error, OSError):
        name = f"{error.filename!r}: " if error.filename else ""
        return {"error": f"{name}{(error.strerror or '').lower()}", "hint": ""}
    return {"error": f"{type(error).__name__}: {error}", "hint": "report it"}


def _prepare(task: dict[str, object]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Import what the task needs, enter the machine, and return what does it."""
    from . import native, working

    act = getattr(working, str(task["do"]))
    working.import_all()
    native.enter(PIDFD, user=bool(task["user"]))
    sys.path.clear()
    sys.meta_path.clear()
    return lambda: act(task)
