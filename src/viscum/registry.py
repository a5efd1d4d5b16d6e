"""The machines that live on: a folder each, found by name, id or the begin of an id.

`<data>/machines/<id>/` has a machine's `config.json`, `status.json`, `lock`, log, writable layer
and what its monitor needs; `<data>/names/<name>` is a symbolic link to the id, so that taking a
name is one atomic call. A folder is made under another name and renamed: it is whole, or it is
not there. What crashed is recognised by whoever comes upon it: nothing is trusted that a process's
start time does not confirm.
"""

from __future__ import annotations

import os
import time

from .alive import is_alive, open_process
from .errors import MachineError, ViscumError
from .host import owner_prefix
from .places import data_folder, make_folder
from .record import Brief, Config, Status, boot_id, pid_namespace
from .resources.limits import PREFIX
from .spec import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = [
    "Locked",
    "Record",
    "create",
    "find",
    "machines",
    "new_machine_id",
    "open_machine",
    "rename",
    "write",
]

SHORT = 12
BLOCK = 1 << 16
MOMENT_SECONDS = 60
RUNNING = ("running", "paused", "restarting")
"""States in which something of the machine lives."""


def _read(path: str) -> bytes:
    """Return a small file at once: `open` takes three times as long. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, BLOCK)
        while len(data) % BLOCK == 0 and (more := os.read(fd, BLOCK)):
            data += more
    finally:
        os.close(fd)
    return data


def open_machine(status: Status) -> int:
    """Return a pidfd of a machine's first process; raises MachineError where it has ended."""
    try:
        return open_process(status.pid, status.start)
    except OSError:
        raise MachineError("the machine has just ended") from None


class Record:
    """A machine's folder, and what stands in it when it is looked at."""

    def __init__(self, machine_id: str) -> None:
        self.id = machine_id
        self.folder = f"{_top()}/machines/{machine_id}"
        self._config: Config | None = None
        self._brief: Brief | None = None

    def path(self, name: str) -> str:
        """Return the path of a file of the machine's folder."""
        return f"{self.folder}/{name}"

    @property
    def config(self) -> Config:
        """What was asked for; raises MachineError where it cannot be read."""
        if self._config is None:
            path = self.path("config.json")
            self._config = Config.decode(self._read(path), path)
        return self._config

    @property
    def brief(self) -> Brief:
        """What a listing tells of it; raises MachineError where it cannot be read."""
        if self._brief is None:
            path = self.path("config.json")
            self._brief = Brief.decode(self._read(path), path)
        return self._brief

    @property
    def name(self) -> str:
        """The machine's name, its short id where the config cannot be read."""
        try:
            return self.brief.name
        except MachineError:
            return self.id[:SHORT]

    @property
    def group(self) -> str:
        """The name of the machine's control groups."""
        try:
            return self.config.group
        except MachineError:
            return PREFIX + self.id

    def _read(self, path: str) -> bytes:
        try:
            return _read(path)
        except FileNotFoundError:
            raise _gone(self.id) from None

    def status(self) -> Status:
        """Return the status as it is now: what the monitor wrote, checked against the host."""
        path = self.path("status.json")
        try:
            written = Status.decode(_read(path), path)
        except FileNotFoundError:
            return Status()
        return self._checked(written)

    def _checked(self, written: Status) -> Status:
        if written.state not in RUNNING:
            return written
        if written.boot != boot_id():
            return written.replace(state="exited", error="the host was restarted")
        if written.pidns != pid_namespace():
            return written.replace(state="unknown", error="it runs in another pid namespace")
        if not is_alive(written.monitor, written.monitor_start):
            if not is_alive(written.pid, written.start):
                return written.replace(
                    state="exited", error=written.error or "its monitor was lost"
                )
            written = written.replace(monitor=0, error="its monitor was lost")
        if written.state == "running" and os.path.exists(self.path("paused")):
            return written.replace(state="paused")
        return written

    def exists(self) -> bool:
        """Return whether the machine is still there."""
        return os.path.isdir(self.folder)


def _top() -> str:
    return data_folder()


def _gone(word: str) -> MachineError:
    return MachineError(f"there is no machine {word[:64]!r}", hint="viscum ps -a lists them")


def new_machine_id() -> str:
    """Return a new id: 64 hexadecimal digits."""
    return os.urandom(32).hex()


def write(folder: str, name: str, data: bytes) -> None:
    """Replace a file of a machine's folder."""
    path = f"{folder}/{name}"
    with open(path + ".new", "wb", buffering=0) as file:
        file.write(data)
    os.rename(path + ".new", path)


def create(config: Config) -> Record:
    """Make the folder of a new machine and take its name; raises MachineError, ViscumError."""
    top = make_folder(_top(), "machines", "names", hint="make it writable, or set VISCUM_DATA")
    record = Record(config.id)
    fresh = f"{top}/machines/.{config.id}"
    taken = False
    try:
        os.mkdir(fresh, 0o700)
        for layer in ("upper", "work") if config.spec.layer else ():
            os.makedirs(f"{fresh}/layer/{layer}", 0o755)
        write(fresh, "config.json", config.encode())
        os.close(os.open(f"{fresh}/lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _take_name(config.name, config.id)
        taken = True
        os.rename(fresh, record.folder)
    except BaseException as error:
        _remove_tree(fresh)
        if taken:
            _drop_name(config.name, config.id)
        if isinstance(error, OSError):
            reason = (error.strerror or "").lower()
            raise ViscumError(f"cannot write {fresh!r}: {reason}") from None
        raise
    return record


def _take_name(name: str, machine_id: str) -> None:
    link = f"{_top()}/names/{check_name(name)}"
    for _ in range(3):
        try:
            os.symlink(machine_id, link)
        except FileExistsError:
            if not _is_stale(link):
                raise MachineError(
                    f"a machine named {name!r} is there already",
                    hint="choose another --name, or remove it: viscum rm",
                ) from None
        else:
            return
    raise MachineError(f"the name {name!r} is fought over", hint="try again")


def _is_stale(link: str) -> bool:
    """Free a name whose machine is gone; one that is being made has its folder already."""
    try:
        machine_id = os.readlink(link)
    except FileNotFoundError:
        return True
    if Record(f".{machine_id}").exists():
        return False
    record = Record(machine_id)
    if record.exists() and _is_there(record):
        return False
    _drop_name(os.path.basename(link), machine_id)
    return True


def _drop_name(name: str, machine_id: str) -> None:
    link = f"{_top()}/names/{name}"
    try:
        if os.readlink(link) == machine_id:
            os.unlink(link)
    except OSError:
        return


def rename(record: Record, name: str) -> None:
    """Give a machine another name; raises MachineError where it is taken. Under its lock."""
    config = record.config
    _take_name(name, record.id)
    try:
        changed = config.replace(name=name)
        write(record.folder, "config.json", changed.encode())
    except BaseException:
        _drop_name(name, record.id)
        raise
    _drop_name(config.name, record.id)


def _ids() -> list[str]:
    try:
        names = os.listdir(f"{_top()}/machines")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ViscumError(f"{_top()!r}: {(error.strerror or '').lower()}") from None
    return [name for name in names if not name.startswith(".")]


def machines() -> list[Record]:
    """Return every machine, the newest last; those whose caller is gone are removed."""
    records = [Record(machine_id) for machine_id in _ids()]
    return sorted(filter(_is_there, records), key=_age)


def _age(record: Record) -> int:
    try:
        return record.brief.created
    except MachineError:
        return 0


def _is_there(record: Record) -> bool:
    """Whether a machine is one to show; an abandoned foreground one is cleared away."""
    try:
        owner = record.brief.owner
    except MachineError:
        return record.exists()
    if owner and _owner_is_gone(owner):
        remove_entry(record)
        return False
    return True


def _owner_is_gone(owner: str) -> bool:
    fields = owner.split("-")
    if int(fields[0], 16) != pid_namespace():
        return False
    return owner_prefix(int(fields[1], 16)) != owner


def find(word: str) -> Record:
    """Return the machine of that name, id, or unambiguous begin of an id; raises MachineError."""
    if not word or "/" in word or word.startswith("."):
        raise _gone(word)
    try:
        named = Record(os.readlink(f"{_top()}/names/{word}"))
        if named.exists() and _is_there(named):
            return named
    except OSError:
        pass
    found = [machine_id for machine_id in _ids() if machine_id.startswith(word)]
    if len(found) > 1 and word not in found:
        short = ", ".join(sorted(machine_id[:SHORT] for machine_id in found)[:4])
        raise MachineError(f"{word!r} is the begin of several ids: {short}", hint="give more of it")
    if not found:
        raise _gone(word)
    record = Record(word if word in found else found[0])
    if not _is_there(record):
        raise _gone(word)
    return record


def hide(record: Record) -> str:
    """Take a machine's folder out of sight and free its name; return where its content is now,
    to be removed. Empty where somebody else has done so.
    """
    name = record.name
    hidden = f"{_top()}/machines/.gone-{record.id}"
    try:
        os.rename(record.folder, hidden)
    except FileNotFoundError:
        return ""
    _drop_name(name, record.id)
    return hidden


def remove_entry(record: Record) -> None:
    """Remove what is written down of a foreground machine: it has no layer."""
    hidden = hide(record)
    if hidden:
        _remove_tree(hidden)


def _remove_tree(path: str) -> None:
    from .folders import remove_tree

    try:
        remove_tree(path)
    except OSError:
        return


class Locked:
    """Holds a machine's lock: every change of one machine is made by one process at a time.

    Raises MachineError where the machine is gone by the time that the lock is had.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.fd = -1

    def __enter__(self) -> Self:
        import fcntl

        try:
            self.fd = os.open(self.record.path("lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _gone(self.record.id) from None
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        if not self.record.exists():
            os.close(self.fd)
            raise _gone(self.record.id)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.fd)


def leftovers() -> Iterator[str]:
    """Yield folders that a crash left half-made or half-removed; not those of a moment ago, which
    somebody may be at.
    """
    folder = f"{_top()}/machines"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        try:
            old = time.time() - os.lstat(path).st_ctime > MOMENT_SECONDS
        except FileNotFoundError:
            continue
        if name.startswith(".") and old:
            yield path
