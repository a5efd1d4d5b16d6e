"""The processes of a machine, read from the host's /proc, with ids as they are in the machine."""

from __future__ import annotations

import os

from ... import native
from ...frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["IdMap", "Process", "names_of_ids", "pids_of", "read_process"]

MAX_PASSWD = 4 << 20
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def pids_of(folders: Iterable[str], first: int) -> list[int]:
    """Return the process ids of a machine: those in its groups, or in `first`'s pid namespace."""
    for folder in folders:
        listed = _read(f"{folder}/cgroup.procs").split()
        if listed:
            return [int(word) for word in listed if word != b"0"]
    try:
        own = os.readlink(f"/proc/{first}/ns/pid")
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == own:
                    found.append(int(name))
            except OSError:
                continue
    return found


class IdMap:
    """The map of a user namespace, as /proc/PID/uid_map tells it to this process."""

    def __init__(self, path: str) -> None:
        self.rows = [
            tuple(map(int, line.split())) for line in _read(path).splitlines() if line.strip()
        ]

    def inside(self, outside: int) -> int:
        """Return the id in the namespace; the overflow id, 65534, where it has none."""
        for first, start, count in self.rows:
            if start <= outside < start + count:
                return first + outside - start
        return 65534


def names_of_ids(pid: int, file: str) -> dict[int, str]:
    """Return names by their ids from the `file`, `etc/passwd` or `etc/group`, of a machine."""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        with open(native.open_below(root, file), "rb") as stream:
            data = stream.read(MAX_PASSWD) or b""
    except OSError:
        return {}
    finally:
        os.close(root)
    rows = (line.split(":") for line in data.decode("utf-8", "replace").splitlines())
    return {
        int(row[2]): row[0]
        for row in reversed(list(rows))
        if len(row) > 3 and row[2].isascii() and row[2].isdecimal() and len(row[2]) < 11
    }


class Process(Frozen):
    """A process: ids on the host and in the machine, seconds and bytes."""

    host_pid: int
    host_parent: int
    pid: int
    uid: int
    gid: int
    state: str
    name: str
    command: str
    terminal: str
    nice: int
    cpu_seconds: float
    age_seconds: float
    virtual_bytes: int
    resident_bytes: int


def _terminal(number: int) -> str:
    major, minor = os.major(number), os.minor(number)
    if not number:
        return "?"
    return f"pts/{minor}" if major == 136 else "console" if major == 5 else f"{major}:{minor}"


def _status(pid: int) -> dict[str, list[str]]:
    text = _read(f"/proc/{pid}/status").decode("utf-8", "replace")
    rows = (line.partition(":") for line in text.splitlines())
    return {name: value.split() for name, _, value in rows}


def read_process(pid: int, uids: IdMap, gids: IdMap, uptime: float) -> Process | None:
    """Return what /proc tells of a process; None where it has ended."""
    stat, status = _read(f"/proc/{pid}/stat"), _status(pid)
    before, _, after = stat.rpartition(b")")
    fields = after.split()
    if len(fields) < 22 or "Uid" not in status:
        return None
    name = before.partition(b"(")[2].decode("utf-8", "replace")
    words = _read(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ")
    return Process(
        host_pid=pid,
        host_parent=int(fields[1]),
        pid=int(status.get("NSpid", [str(pid)])[-1]),
        uid=uids.inside(int(status["Uid"][1])),
        gid=gids.inside(int(status["Gid"][1])),
        state=fields[0].decode(),
        name=name,
        command=words.decode("utf-8", "replace") or f"[{name}]",
        terminal=_terminal(int(fields[4])),
        nice=int(fields[16]),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / TICKS,
        age_seconds=max(0.0, uptime - int(fields[19]) / TICKS),
        virtual_bytes=int(fields[20]),
        resident_bytes=int(fields[21]) * PAGE,
    )
