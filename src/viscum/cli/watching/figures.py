"""What a machine uses now, from its groups, and where it has none from its processes."""

from __future__ import annotations

import os

from ...frozen import Frozen
from ...host import probe
from ...resources.limits import group_folders
from .processes import PAGE, TICKS, pids_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...detached import DetachedMachine

__all__ = ["Figures", "read"]

UNLIMITED = 1 << 60


class Figures(Frozen):
    """Seconds, bytes and counts: CPU time and I/O since the start, the rest as of now."""

    cpu_seconds: float
    memory_bytes: int
    memory_limit: int
    pids: int
    received_bytes: int
    sent_bytes: int
    read_bytes: int
    written_bytes: int


def _text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall().decode("ascii", "replace")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word.rstrip(":") == name:
            return int(value.split()[0])
    return 0


def _cpu(folders: Mapping[str, str], pids: list[int]) -> float:
    """Return CPU time: of the v2 group, of cpuacct, or of the processes that live."""
    stat = _text(f"{folders.get('', '')}/cpu.stat") if "" in folders else ""
    if "usage_usec" in stat:
        return _field(stat, "usage_usec") / 1e6
    for controller in ("cpuacct", "cpu"):
        counted = _number(_text(f"{folders.get(controller, '')}/cpuacct.usage"))
        if controller in folders and counted is not None:
            return counted / 1e9
    ticks = 0
    for pid in pids:
        fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0
    return ticks / TICKS


def _memory(folders: Mapping[str, str], pids: list[int]) -> int:
    """Return what is charged without the file pages that nobody uses; else resident pages."""
    places = (
        ("memory", "memory.usage_in_bytes", "total_inactive_file"),
        ("", "memory.current", "inactive_file"),
    )
    for controller, file, idle in places:
        used = _number(_text(f"{folders[controller]}/{file}")) if controller in folders else None
        if used is not None:
            return max(0, used - _field(_text(f"{folders[controller]}/memory.stat"), idle))
    statm = (_text(f"/proc/{pid}/statm").split() for pid in pids)
    return sum(int(words[1]) for words in statm if len(words) > 1) * PAGE


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    for line in _text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() != "lo" and len(words) > 8:
            received += int(words[0])
            sent += int(words[8])
    return received, sent


def _blocks(folders: Mapping[str, str], pids: list[int]) -> tuple[int, int]:
    """Return bytes read and written: of the v2 group, or of the processes that live."""
    stat = _text(f"{folders.get('', '')}/io.stat") if "" in folders else ""
    words = [word.partition("=") for line in stat.splitlines() for word in line.split()]
    if words:
        sums = [sum(int(value) for name, _, value in words if name == kind) for kind in _IO]
        return sums[0], sums[1]
    texts = [_text(f"/proc/{pid}/io") for pid in pids]
    return (
        sum(_field(text, "read_bytes") for text in texts),
        sum(_field(text, "write_bytes") for text in texts),
    )


_IO = ("rbytes", "wbytes")


def _host_memory() -> int:
    return _field(_text("/proc/meminfo"), "MemTotal") << 10


def read(machine: DetachedMachine) -> Figures | None:
    """Return what a machine uses; None where it does not run."""
    status = machine.status
    if status.state not in ("running", "paused"):
        return None
    folders = group_folders(probe().cgroups, machine.config.group)
    pids = pids_of(folders.values(), status.pid)
    limit = machine.config.spec.limits.memory
    own_network = machine.config.spec.network != "host" and os.path.exists(f"/proc/{status.pid}")
    return Figures(
        _cpu(folders, pids),
        _memory(folders, pids),
        min(limit or UNLIMITED, _host_memory()),
        len(pids),
        *(_network(status.pid) if own_network else (0, 0)),
        *_blocks(folders, pids),
    )
