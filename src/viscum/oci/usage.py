"""What a container uses, read from its groups of either version, in the shape that runc prints."""

from __future__ import annotations

import os

from .words import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import Stored

__all__ = ["Groups", "pairs", "usage"]

TICK_NS = 10_000_000
UNLIMITED = (1 << 64) - 1
CPUSET_FLAGS = (
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page "
    "memory_spread_slab memory_pressure sched_load_balance sched_relax_domain_level"
).split()
BLOCK_FILES = (
    ("ioServiceBytesRecursive", "io_service_bytes"),
    ("ioServicedRecursive", "io_serviced"),
)
BLOCK_FIELDS = {
    # of io.stat: what it counts, and the operation
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "dbytes": ("ioServiceBytesRecursive", "Discard"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    "dios": ("ioServicedRecursive", "Discard"),
}


def pairs(text: str) -> dict[str, int]:
    """Return what a file of names and numbers holds."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and is_number(row[1])}


class Groups:
    """The files of a container's groups, in whichever hierarchy they are."""

    def __init__(self, stored: Stored) -> None:
        self.folders = stored.cgroups

    def has(self, file: str) -> bool:
        """Return whether there is such a file."""
        return any(os.path.exists(f"{folder}/{file}") for folder in self.folders)

    def names(self, prefix: str) -> list[str]:
        """Return the files whose names start so."""
        there = [folder for folder in self.folders if os.path.isdir(folder)]
        return [name for folder in there for name in os.listdir(folder) if name.startswith(prefix)]

    def text(self, file: str) -> str:
        """Return what a file holds; nothing where there is none."""
        for folder in self.folders:
            try:
                with open(f"{folder}/{file}", "rb") as opened:
                    return opened.read().decode()
            except OSError:
                continue
        return ""

    def number(self, file: str) -> int:
        """Return a number; 0 where there is none."""
        text = self.text(file).strip()
        return int(text) if is_number(text) else 0

    def limit(self, file: str) -> int:
        """Return a limit of version 2."""
        return UNLIMITED if self.text(file).strip() == "max" else self.number(file)


def _cpu(groups: Groups) -> dict[str, object]:
    stat = pairs(groups.text("cpu.stat"))
    ticks = pairs(groups.text("cpuacct.stat"))
    usage: dict[str, object] = {
        "total": groups.number("cpuacct.usage") or stat.get("usage_usec", 0) * 1000,
        "percpu": [int(word) for word in groups.text("cpuacct.usage_percpu").split()],
        "kernel": ticks.get("system", 0) * TICK_NS or stat.get("system_usec", 0) * 1000,
        "user": ticks.get("user", 0) * TICK_NS or stat.get("user_usec", 0) * 1000,
    }
    every = [line.split() for line in groups.text("cpuacct.usage_all").splitlines()[1:]]
    usage["percpu_kernel"] = [int(row[2]) for row in every]
    usage["percpu_user"] = [int(row[1]) for row in every]
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": stat.get("throttled_time", 0) or stat.get("throttled_usec", 0) * 1000,
    }
    return {"usage": usage, "throttling": throttling}


def _listed(text: str) -> list[int]:
    """Return the numbers of a list such as 0-2,4."""
    found: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def _cpuset(groups: Groups) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in ("cpus", "mems"):
        text = groups.text(f"cpuset.{name}").strip() or groups.text(f"cpuset.{name}.effective")
        found[name] = _listed(text)
    for name in CPUSET_FLAGS:
        text = groups.text(f"cpuset.{name}").strip()
        if text:
            found[name] = int(text)
    return found


def _entry(groups: Groups, prefix: str) -> dict[str, int]:
    return {
        "limit": groups.number(f"{prefix}.limit_in_bytes"),
        "usage": groups.number(f"{prefix}.usage_in_bytes"),
        "max": groups.number(f"{prefix}.max_usage_in_bytes"),
        "failcnt": groups.number(f"{prefix}.failcnt"),
    }


def _memory_and_swap(groups: Groups) -> tuple[dict[str, int], dict[str, int]]:
    """Return the usage of version 2: memory, and memory with swap, as version 1 counts it."""
    memory = {
        "limit": groups.limit("memory.max"),
        "usage": groups.number("memory.current"),
        "max": groups.number("memory.peak"),
        "failcnt": pairs(groups.text("memory.events")).get("max", 0),
    }
    if not groups.has("memory.swap.current"):
        return memory, {}
    swap = {
        "limit": min(memory["limit"] + groups.limit("memory.swap.max"), UNLIMITED),
        "usage": memory["usage"] + groups.number("memory.swap.current"),
        "max": memory["max"] + groups.number("memory.swap.peak"),
        "failcnt": pairs(groups.text("memory.swap.events")).get("max", 0),
    }
    return memory, swap


def _memory(groups: Groups) -> dict[str, object]:
    raw = pairs(groups.text("memory.stat"))
    if groups.has("memory.usage_in_bytes"):
        memory, swap = _entry(groups, "memory"), _entry(groups, "memory.memsw")
    else:
        memory, swap = _memory_and_swap(groups)
    return {
        "cache": raw.get("cache", raw.get("file", 0)),
        "usage": memory,
        "swap": swap,
        "kernel": _entry(groups, "memory.kmem"),
        "kernelTCP": _entry(groups, "memory.kmem.tcp"),
        "raw": raw,
    }


def _pids(groups: Groups) -> dict[str, int]:
    found = {"current": groups.number("pids.current")}
    limit = groups.number("pids.max")
    return {**found, "limit": limit} if limit else found


def _block_row(device: str, operation: str, value: str) -> dict[str, object]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}


def _blocks(groups: Groups) -> dict[str, object]:
    found: dict[str, list[dict[str, object]]] = {}
    for name, file in BLOCK_FILES:
        for kind in ("blkio.bfq", "blkio.throttle"):
            lines = [line.split() for line in groups.text(f"{kind}.{file}_recursive").splitlines()]
            rows = [_block_row(*fields) for fields in lines if len(fields) == 3]
            if rows:
                found[name] = rows
                break
    for line in groups.text("io.stat").splitlines():
        device, *fields = line.split()
        for field in fields:
            key, _, value = field.partition("=")
            if key in BLOCK_FIELDS:
                name, operation = BLOCK_FIELDS[key]
                found.setdefault(name, []).append(_block_row(device, operation, value))
    return dict(found)


def _huge_pages(groups: Groups) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in groups.names("hugetlb."):
        size, _, kind = name.removeprefix("hugetlb.").partition(".")
        prefix = f"hugetlb.{size}"
        if kind == "current":
            failed = pairs(groups.text(f"{prefix}.events")).get("max", 0)
            found[size] = {"usage": groups.number(name), "failcnt": failed}
        elif kind == "usage_in_bytes":
            entry = _entry(groups, prefix)
            found[size] = {key: entry[key] for key in ("usage", "max", "failcnt")}
    return found


def usage(stored: Stored) -> dict[str, object]:
    """Return what a container uses."""
    groups = Groups(stored)
    return {
        "cpu": _cpu(groups),
        "cpuset": _cpuset(groups),
        "memory": _memory(groups),
        "pids": _pids(groups),
        "blkio": _blocks(groups),
        "hugetlb": _huge_pages(groups),
        "intel_rdt": {},
        "network_interfaces": None,
    }
