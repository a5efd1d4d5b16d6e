"""What a machine uses now, from its groups, and where it has none from its processes."""

from __future__ import annotations

import os

from ...frozen import Frozen
from ...host import probe
from ...resources.groups import GroupSet
from .processes import PAGE, TICKS, pids_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine

__all__ = ["Figures", "read"]

UNLIMITED = 1 << 60
UNCOUNTED = ("lo", "ifb0")
"""Loopback, and what all that a link with limits receives goes through again."""


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


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        if word.rstrip(":") == name:
            return int(value.split()[0])
    return 0


def _cpu_of(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0
    return ticks / TICKS


def _memory_of(pids: list[int]) -> int:
    statm = (_text(f"/proc/{pid}/statm").split() for pid in pids)
    return sum(int(words[1]) for words in statm if len(words) > 1) * PAGE


def _network(pid: int) -> tuple[int, int]:
    received = sent = 0
    for line in _text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() not in UNCOUNTED and len(words) > 8:
            received += int(words[0])
            sent += int(words[8])
    return received, sent


def _blocks_of(pids: list[int]) -> tuple[int, int]:
    texts = [_text(f"/proc/{pid}/io") for pid in pids]
    return (
        sum(_field(text, "read_bytes") for text in texts),
        sum(_field(text, "write_bytes") for text in texts),
    )


def _host_memory() -> int:
    return _field(_text("/proc/meminfo"), "MemTotal") << 10


def read(machine: DetachedMachine) -> Figures | None:
    """Return what a machine uses; None where it does not run."""
    status = machine.status
    if status.state not in ("running", "paused"):
        return None
    groups = GroupSet.of(machine.config.group, probe().cgroups)
    usage, pids = groups.usage(), pids_of(groups.folders, status.pid)
    limit = machine.config.spec.limits.memory
    own_network = machine.config.spec.network != "host" and os.path.exists(f"/proc/{status.pid}")
    counted = groups.v2 or groups.folder("cpuacct")
    return Figures(
        usage.cpu_seconds if counted else _cpu_of(pids),
        usage.working_set_bytes if groups.folder("memory") else _memory_of(pids),
        min(limit or UNLIMITED, _host_memory()),
        len(pids),
        *(_network(status.pid) if own_network else (0, 0)),
        *((usage.read_bytes, usage.written_bytes) if groups.folder("io") else _blocks_of(pids)),
    )
