"""The resources of an OCI configuration as files of control groups, for both versions.

Zero and absent mean "leave it", -1 means "no limit", as the specification's reference reads them.
"""

from __future__ import annotations

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Setting = tuple[str, str, str]

__all__ = ["control_v1", "control_v2", "weight_of"]


def weight_of(shares: int) -> int:
    """Return the cpu.weight that stands for `shares` of version 1."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


_MEMORY_V1 = (
    ("limit", "memory.limit_in_bytes"),
    ("swap", "memory.memsw.limit_in_bytes"),
    ("reservation", "memory.soft_limit_in_bytes"),
    ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
)
_CPU_V1 = (
    ("shares", "cpu", "cpu.shares"),
    ("period", "cpu", "cpu.cfs_period_us"),
    ("quota", "cpu", "cpu.cfs_quota_us"),
    ("realtimePeriod", "cpu", "cpu.rt_period_us"),
    ("realtimeRuntime", "cpu", "cpu.rt_runtime_us"),
    ("cpus", "cpuset", "cpuset.cpus"),
    ("mems", "cpuset", "cpuset.mems"),
)
_RATES = (
    ("throttleReadBpsDevice", "read_bps", "rbps"),
    ("throttleWriteBpsDevice", "write_bps", "wbps"),
    ("throttleReadIOPSDevice", "read_iops", "riops"),
    ("throttleWriteIOPSDevice", "write_iops", "wiops"),
)


def control_v1(resources: dict[str, Any]) -> list[Setting]:
    """Return (controller, file, value) for each resource, in the order to write them."""
    if resources.get("unified"):
        raise SpecError(
            "linux.resources.unified is for control groups of version 2",
            hint="this host uses version 1: give the other fields",
        )
    found = _memory_v1(resources.get("memory", {}))
    cpu = resources.get("cpu", {})
    found += [(where, file, str(cpu[key])) for key, where, file in _CPU_V1 if cpu.get(key)]
    found += [("cpu", "cpu.cfs_burst_us", str(cpu["burst"]))] if "burst" in cpu else []
    found += [("cpu", "cpu.idle", str(cpu["idle"]))] if cpu.get("idle") else []
    pids = resources.get("pids", {}).get("limit", 0)
    found += [("pids", "pids.max", _limit(pids))] if pids else []
    found += _block_v1(resources.get("blockIO", {}))
    for page in resources.get("hugepageLimits", []):
        file = f"hugetlb.{_page_size(page)}.limit_in_bytes"
        found.append(("hugetlb", file, str(page["limit"])))
    network = resources.get("network", {})
    if network.get("classID"):
        found.append(("net_cls", "net_cls.classid", str(network["classID"])))
    for each in network.get("priorities", []):
        found.append(("net_prio", "net_prio.ifpriomap", f"{each['name']} {each['priority']}"))
    return found + _rdma(resources)


def _memory_v1(memory: dict[str, Any]) -> list[Setting]:
    found = [("memory", file, str(memory[key])) for key, file in _MEMORY_V1 if memory.get(key)]
    if "swappiness" in memory:
        found.append(("memory", "memory.swappiness", str(memory["swappiness"])))
    if memory.get("disableOOMKiller"):
        found.append(("memory", "memory.oom_control", "1"))
    return found


def _block_v1(block: dict[str, Any]) -> list[Setting]:
    found = []
    if block.get("weight"):
        found.append(("blkio", "blkio.weight", str(block["weight"])))
    for each in block.get("weightDevice", []):
        if each.get("weight"):
            line = f"{each['major']}:{each['minor']} {each['weight']}"
            found.append(("blkio", "blkio.weight_device", line))
    for key, file, _ in _RATES:
        for each in block.get(key, []):
            line = f"{each['major']}:{each['minor']} {each['rate']}"
            found.append(("blkio", f"blkio.throttle.{file}_device", line))
    return found


def _page_size(page: dict[str, Any]) -> str:
    size: str = page["pageSize"]
    if not size[:-2].isdigit() or size[-2:] not in ("KB", "MB", "GB"):
        raise SpecError(f"huge page size {size!r} is not known", hint="such as 2MB")
    return size


def _rdma(resources: dict[str, Any]) -> list[Setting]:
    found = []
    for device, limits in resources.get("rdma", {}).items():
        words = [device]
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            words += [f"{word}={limits[key]}"] if key in limits else []
        found.append(("rdma", "rdma.max", " ".join(words)))
    return found


def control_v2(resources: dict[str, Any]) -> list[Setting]:
    """Return (controller, file, value) for each resource; the v2 counterpart of `control_v1`."""
    found = _memory_v2(resources.get("memory", {})) + _cpu_v2(resources.get("cpu", {}))
    pids = resources.get("pids", {}).get("limit", 0)
    found += [("pids", "pids.max", _limit(pids))] if pids else []
    block = resources.get("blockIO", {})
    if block.get("weight"):
        weight = 1 + (block["weight"] - 10) * 9999 // 990
        found.append(("io", "io.weight", f"default {weight}"))
    for key, _, word in _RATES:
        for each in block.get(key, []):
            line = f"{each['major']}:{each['minor']} {word}={each['rate']}"
            found.append(("io", "io.max", line))
    for page in resources.get("hugepageLimits", []):
        found.append(("hugetlb", f"hugetlb.{_page_size(page)}.max", str(page["limit"])))
    found += _rdma(resources)
    for file, value in resources.get("unified", {}).items():
        if "/" in file or file in ("", ".", ".."):
            raise SpecError(f"linux.resources.unified[{file!r}] is not the name of a file")
        found.append((file.partition(".")[0], file, value))
    return found


def _memory_v2(memory: dict[str, Any]) -> list[Setting]:
    found = []
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if limit:
        found.append(("memory", "memory.max", _limit(limit)))
    if swap < 0 or (swap and limit < 0):
        found.append(("memory", "memory.swap.max", "max"))
    elif swap:
        if not limit or swap < limit:
            raise SpecError(
                f"memory swap of {swap} bytes without a memory limit below it",
                hint="it is the sum of memory and swap",
            )
        found.append(("memory", "memory.swap.max", str(swap - limit)))
    if memory.get("reservation"):
        found.append(("memory", "memory.low", _limit(memory["reservation"])))
    return found


def _cpu_v2(cpu: dict[str, Any]) -> list[Setting]:
    found = []
    if cpu.get("idle"):
        found.append(("cpu", "cpu.idle", str(cpu["idle"])))
    elif cpu.get("shares"):
        found.append(("cpu", "cpu.weight", str(weight_of(cpu["shares"]))))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        found.append(("cpu", "cpu.max", f"{_limit(quota)} {cpu.get('period') or 100000}"))
    if "burst" in cpu:
        found.append(("cpu", "cpu.max.burst", str(cpu["burst"])))
    for key in ("cpus", "mems"):
        found += [("cpuset", f"cpuset.{key}", cpu[key])] if cpu.get(key) else []
    return found
