"""`update`: other limits for a container that exists."""

from __future__ import annotations

import os
import sys

from ..errors import HostError, MachineError, SpecError
from ..resources.control import control_v1, control_v2
from .document import MAX_SIZE, check, parse, read_file
from .schema import RESOURCES
from .store import open_stored
from .words import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import Call
    from .store import Stored

__all__ = ["main"]

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_OPTIONS = {
    # option: (part, field, whether it is an amount of bytes)
    "blkio-weight": ("blockIO", "weight", False),
    "cpu-period": ("cpu", "period", False),
    "cpu-quota": ("cpu", "quota", False),
    "cpu-burst": ("cpu", "burst", False),
    "cpu-rt-period": ("cpu", "realtimePeriod", False),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", False),
    "cpu-share": ("cpu", "shares", False),
    "cpu-idle": ("cpu", "idle", False),
    "memory": ("memory", "limit", True),
    "memory-reservation": ("memory", "reservation", True),
    "memory-swap": ("memory", "swap", True),
    "kernel-memory-tcp": ("memory", "kernelTCP", True),
    "pids-limit": ("pids", "limit", False),
}


def _amount(option: str, text: str, *, is_bytes: bool) -> int:
    digits = text.lower().removesuffix("ib").removesuffix("b") if is_bytes else text
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    number = digits[: len(digits) - len(unit)]
    if unit not in _UNITS or not is_number(number.removeprefix("-")) or (unit and not is_bytes):
        raise SpecError(f"{option} {text!r} is no number", hint="such as 1024 or 64m")
    return int(number) * _UNITS[unit]


def _resources(call: Call) -> dict[str, Any]:
    given = call.given
    path = given.text("resources")
    if path == "-":
        data = sys.stdin.buffer.read(MAX_SIZE + 1)
    elif path:
        data = read_file(path, "resources")
    if path:
        resources: dict[str, Any] = check(parse(data, "resources"), RESOURCES, "resources")
        return resources
    found: dict[str, Any] = {}
    for option, (part, field, is_bytes) in _OPTIONS.items():
        text = given.text(option)
        if text:
            number = _amount(option, text, is_bytes=is_bytes)
            found.setdefault(part, {})[field] = number
    for option, field in (("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")):
        if given.text(option):
            found.setdefault("cpu", {})[field] = given.text(option)
    checked: dict[str, Any] = check(found, RESOURCES, "resources")
    return checked


def _schemata(call: Call, stored: Stored) -> list[tuple[str, str]]:
    """Return what is to be written for the class of service that the container is in."""
    options = (("l3-cache-schema", "l3CacheSchema"), ("mem-bw-schema", "memBwSchema"))
    wanted = {field: call.given.text(option) for option, field in options}
    if call.given.text("resources") or not any(wanted.values()):
        return []
    from .intel_rdt import find, folders_of, schemata_of

    find()
    given = stored.config().get("linux", {}).get("intelRdt")
    folders = folders_of(given, stored.id) if given is not None else ()
    if not folders:
        raise HostError(
            f"container {stored.id} is in no class of service",
            hint="give it linux.intelRdt in config.json",
        )
    return [(f"{folders[0]}/schemata", schemata_of(wanted))]


def _is_v1(folder: str) -> bool:
    return os.path.exists(folder + "/tasks")


def _place(stored: Stored, controller: str, file: str) -> str:
    """Return the file of the container's group that a limit is written to."""
    for folder in stored.cgroups:
        path = f"{folder}/{file}"
        if os.path.exists(path):
            return path
    raise HostError(f"the limit {file} has no cgroup here", hint=f"controller {controller}")


def _write(path: str, value: str) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(value.encode())
    except OSError as error:
        raise HostError(
            f"{path} cannot become {value}: {(error.strerror or '').lower()}",
            hint="is it below what is in use?",
        ) from None


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode().strip()


def write_all(places: list[tuple[str, str]]) -> None:
    """Write each value to its file, or leave everything as it was.

    What memory may be depends on memory and swap, and the reverse: what is refused is tried once
    more after the rest.
    """
    done: list[tuple[str, str]] = []
    waiting = places
    for _ in range(2):
        refused, problem = [], None
        for path, value in waiting:
            try:
                before = _read(path)
                _write(path, value)
            except (HostError, OSError) as error:
                refused.append((path, value))
                problem = error
            else:
                done.append((path, before))
        waiting = refused
        if not waiting:
            return
    for path, before in reversed(done):
        try:
            _write(path, before)
        except HostError:
            continue
    if problem is not None:
        raise problem


def main(call: Call) -> int:
    """Change the limits of a container."""
    stored = open_stored(call.root, call.words[0])
    if stored.status() in ("stopped", "creating"):
        raise MachineError(f"container not running: {stored.id}")
    resources = _resources(call)
    unified = not any(_is_v1(folder) for folder in stored.cgroups)
    memory = resources.get("memory", {})
    if unified and memory.get("swap", 0) > 0 and not memory.get("limit"):
        limit = _read(_place(stored, "memory", "memory.max"))
        memory["limit"] = int(limit) if limit.isdigit() else -1
    settings = (control_v2 if unified else control_v1)(resources)
    places = [(_place(stored, where, file), value) for where, file, value in settings]
    places += _schemata(call, stored)
    if memory.get("checkBeforeUpdate") and memory.get("limit", -1) > 0:
        name = "memory.current" if unified else "memory.usage_in_bytes"
        used = int(_read(_place(stored, "memory", name)))
        if used > memory["limit"]:
            raise HostError(f"memory limit {memory['limit']} is below the usage {used}")
    if stored.fields.get("scope"):
        from .systemd import set_properties

        set_properties(stored.fields["scope"], resources)
    write_all(places)
    return 0
