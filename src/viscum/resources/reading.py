"""Figures from the files of a machine's groups, of both versions."""

from __future__ import annotations

from .usage import DeviceUsage, Pressure, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .groups import GroupSet

__all__ = ["read_bytes", "usage"]

UNLIMITED = 1 << 62


def read_bytes(path: str) -> bytes:
    """Return what a file of a group says, nothing where it is not there."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def pairs(data: bytes) -> dict[bytes, int]:
    """Return a file of `name number` lines as a dictionary."""
    found = {}
    for line in data.splitlines():
        name, _, value = line.partition(b" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def number(data: bytes) -> int:
    """Return a file of one number; 0 for nothing and for `max`."""
    text = data.strip()
    return int(text) if text.isdigit() else 0


def pressure(data: bytes) -> Pressure | None:
    """Return a pressure file as a record, None where the kernel does not tell."""
    rows = {}
    for line in data.splitlines():
        kind, *words = line.split()
        fields = dict(word.split(b"=") for word in words)
        rows[kind] = float(fields[b"avg10"]) / 100, int(fields[b"total"]) / 1e6
    if b"some" not in rows:
        return None
    some, full = rows[b"some"], rows.get(b"full", (0.0, 0.0))
    return Pressure(some[0], full[0], some[1], full[1])


def _devices_v1(folder: str) -> tuple[DeviceUsage, ...]:
    sums: dict[str, list[int]] = {}
    for file, offset in (("bytes", 0), ("serviced", 2)):
        name = "io_service_bytes" if file == "bytes" else "io_serviced"
        for line in read_bytes(f"{folder}/blkio.throttle.{name}_recursive").splitlines():
            words = line.decode().split()
            if len(words) == 3 and words[1] in ("Read", "Write"):
                place = offset + (words[1] == "Write")
                sums.setdefault(words[0], [0, 0, 0, 0])[place] = int(words[2])
    return tuple(DeviceUsage(device, *figures) for device, figures in sums.items())


def _devices_v2(folder: str) -> tuple[DeviceUsage, ...]:
    found = []
    for line in read_bytes(folder + "/io.stat").splitlines():
        device, *words = line.decode().split()
        fields = {name: int(value) for name, _, value in (word.partition("=") for word in words)}
        figures = (fields.get(name, 0) for name in ("rbytes", "wbytes", "rios", "wios"))
        found.append(DeviceUsage(device, *figures))
    return tuple(found)


def _memory_v1(folder: str) -> dict[str, int]:
    stat = pairs(read_bytes(folder + "/memory.stat"))
    used = number(read_bytes(folder + "/memory.usage_in_bytes"))
    return {
        "memory_bytes": used,
        "working_set_bytes": max(0, used - stat.get(b"total_inactive_file", 0)),
        "swap_bytes": stat.get(b"total_swap", 0),
        "refaults": stat.get(b"total_workingset_refault_anon", 0)
        + stat.get(b"total_workingset_refault_file", 0),
        "peak_bytes": number(read_bytes(folder + "/memory.max_usage_in_bytes")),
        "oom_kills": pairs(read_bytes(folder + "/memory.oom_control")).get(b"oom_kill", 0),
    }


def _memory_v2(folder: str) -> dict[str, int]:
    stat = pairs(read_bytes(folder + "/memory.stat"))
    used = number(read_bytes(folder + "/memory.current"))
    return {
        "memory_bytes": used,
        "working_set_bytes": max(0, used - stat.get(b"inactive_file", 0)),
        "swap_bytes": number(read_bytes(folder + "/memory.swap.current")),
        "refaults": stat.get(b"workingset_refault_anon", 0)
        + stat.get(b"workingset_refault_file", 0),
        "peak_bytes": number(read_bytes(folder + "/memory.peak")),
        "oom_kills": pairs(read_bytes(folder + "/memory.events")).get(b"oom_kill", 0),
    }


def _cpu(groups: GroupSet) -> dict[str, float]:
    v2 = pairs(read_bytes(groups.v2 + "/cpu.stat")) if groups.v2 else {}
    figures = {
        "cpu_seconds": v2.get(b"usage_usec", 0) / 1e6,
        "user_seconds": v2.get(b"user_usec", 0) / 1e6,
        "system_seconds": v2.get(b"system_usec", 0) / 1e6,
    }
    if groups.version("cpu") == 2:
        held, wait, scale = v2, b"throttled_usec", 1e6
    else:
        held, wait, scale = {}, b"throttled_time", 1e9
        if groups.folder("cpu"):
            held = pairs(read_bytes(groups.folder("cpu") + "/cpu.stat"))
        if not groups.v2 and groups.folder("cpuacct"):
            folder = groups.folder("cpuacct")
            for name, file in (("cpu", "usage"), ("user", "usage_user"), ("system", "usage_sys")):
                figures[name + "_seconds"] = number(read_bytes(f"{folder}/cpuacct.{file}")) / 1e9
    figures["periods"] = held.get(b"nr_periods", 0)
    figures["throttled_periods"] = held.get(b"nr_throttled", 0)
    figures["throttled_seconds"] = held.get(wait, 0) / scale
    return figures


def usage(groups: GroupSet) -> Usage:
    """Return what the machine of `groups` used so far."""
    figures: dict[str, object] = dict(_cpu(groups))
    memory, blocks, pids = (groups.folder(name) for name in ("memory", "io", "pids"))
    if memory:
        figures.update((_memory_v1, _memory_v2)[groups.version("memory") - 1](memory))
    devices = (_devices_v1, _devices_v2)[groups.version("io") - 1](blocks) if blocks else ()
    figures["io"] = devices
    for name in ("read_bytes", "written_bytes", "reads", "writes"):
        figures[name] = sum(getattr(device, name) for device in devices)
    if pids:
        figures["pids"] = number(read_bytes(pids + "/pids.current"))
    if groups.v2:
        for name in ("cpu", "memory", "io"):
            figures[name + "_pressure"] = pressure(read_bytes(f"{groups.v2}/{name}.pressure"))
    return Usage(**figures)  # type: ignore[arg-type]
