"""From the options of the Python API to a checked spec."""

from __future__ import annotations

import os

from .errors import SpecError
from .limits import Limits, parse_cpu_bounds, parse_cpus, parse_memory_bounds, parse_size
from .rootfs import look_up_user
from .spec import Device, Mount, Rlimit, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    from .images import Image, Root
    from .limits import IoLimit

    class LimitOptions(TypedDict, total=False):
        """The limits among the options; see `Limits`."""

        memory: str | int | tuple[int, int] | None
        memory_swap: str | int | None
        memory_reservation: str | int | None
        memory_high: str | int | None
        memory_low: str | int | None
        memory_min: str | int | None
        memory_zswap: str | int | None
        memory_swappiness: int | None
        oom_group: bool | None
        oom_kill_disable: bool | None
        cpus: float | str | tuple[float, float] | None
        cpu_quota: int | None
        cpu_period: int | None
        cpu_burst: int | None
        cpu_shares: int | None
        cpu_weight: int | None
        cpu_idle: bool | None
        cpuset_cpus: str | None
        cpuset_mems: str | None
        pids: int | None
        io: Iterable[IoLimit]
        io_weight: int | None
        hugetlb: Mapping[str, str | int]
        rdma: Mapping[str, str]
        misc: Mapping[str, int]

    class Options(LimitOptions, total=False):
        """What `viscum.run` and `viscum.Machine` take; see docs/reference for each."""

        rootfs: str | os.PathLike[str] | None
        env: Mapping[str, str] | None
        workdir: str | os.PathLike[str] | None
        user: str | int | None
        groups: Iterable[str | int]
        hostname: str | None
        mounts: Iterable[Mount]
        devices: Iterable[Device | str]
        rlimits: Iterable[Rlimit]
        read_only: bool
        network: str
        userns: str
        pid: str
        ipc: str
        uts: str
        cap_add: Iterable[str]
        cap_drop: Iterable[str]
        seccomp: str
        no_new_privileges: bool
        unmask: bool
        sysctls: Mapping[str, str]
        hosts: Mapping[str, str]
        dns: Iterable[str]
        init: bool
        oom_policy: str
        machine_class: str
        strict: bool
        image: str | Image | Root | None
        pull: str
        platform: str | None
        storage: str | None
        entrypoint: Sequence[str] | str | None


__all__ = ["Options", "make_limits", "make_spec", "merged_bounds", "take_bounds"]

_SIZES = (
    "memory memory_swap memory_reservation memory_high memory_low memory_min memory_zswap "
    "network_rx network_tx"
).split()
_NUMBERS = (
    "cpu_quota cpu_period cpu_burst cpu_shares cpu_weight memory_swappiness pids io_weight"
).split()
_FLAGS = "oom_group oom_kill_disable cpu_idle".split()
_UNLIMITED = (-1, "-1", "max")
LIMIT_NAMES = frozenset(
    (
        *_SIZES,
        *_NUMBERS,
        *_FLAGS,
        "cpus",
        "cpuset_cpus",
        "cpuset_mems",
        "io",
        "hugetlb",
        "rdma",
        "misc",
    )
)
_PLAIN = (
    "hostname read_only network userns pid ipc uts seccomp no_new_privileges unmask init strict "
    "machine_class"
).split()


def make_limits(options: Mapping[str, object]) -> Limits:
    """Return the limits among `options`; raises SpecError for values that make no sense."""
    given = {name: options[name] for name in LIMIT_NAMES if options.get(name) is not None}
    for name in _SIZES:
        if name in given:
            given[name] = _size_or_unlimited(given[name], name)
    if "cpus" in given:
        given["cpus"] = parse_cpus(given["cpus"])  # type: ignore[arg-type]
    for name in _NUMBERS:
        if name in given:
            given[name] = _whole(given[name], name.replace("_", "-"))
    for name in ("cpuset_cpus", "cpuset_mems"):
        if name in given:
            given[name] = str(given[name])
    for name in _FLAGS:
        if name in given:
            given[name] = bool(given[name])
    if "io" in given:
        from .resources.devices import resolve_bounds

        given["io"] = resolve_bounds(given["io"])  # type: ignore[arg-type]
    for name in ("hugetlb", "rdma", "misc"):
        if name in given:
            given[name] = _pairs(given[name], name)  # type: ignore[arg-type]
    return Limits(**given)  # type: ignore[arg-type]


def merged_bounds(before: tuple[IoLimit, ...], changes: tuple[IoLimit, ...]) -> tuple[IoLimit, ...]:
    """Return bounds of I/O with some changed, device by device."""
    found = {bound.device: bound for bound in before}
    for bound in changes:
        given = {name: value for name, value in bound.__dict__.items() if value is not None}
        known = found.get(bound.device)
        found[bound.device] = bound if known is None else known.replace(**given)
    return tuple(found.values())


def _size_or_unlimited(value: object, name: str) -> int:
    if value in _UNLIMITED and name != "memory":
        return -1
    if value in _UNLIMITED:
        raise SpecError(f"memory {value!r} is out of range", hint="such as 512M or 2g")
    return parse_size(value, name.replace("_", "-"))  # type: ignore[arg-type]


def _pairs(given: Mapping[str, object], name: str) -> tuple[tuple[str, object], ...]:
    if name == "hugetlb":
        return tuple((size, parse_size(str(value), name)) for size, value in given.items())
    if name == "misc":
        return tuple((resource, _whole(value, name)) for resource, value in given.items())
    return tuple((str(key), str(value)) for key, value in given.items())


def _whole(value: object, what: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise SpecError(f"{what} {value!r} is not a whole number") from None
    return number


def _oom_policy(text: object, memory: int | None) -> str:
    if text in (None, "kill"):
        return "kill"
    from .resources.oom import parse_policy

    name, most = parse_policy(str(text))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if most is not None and memory is not None and not memory <= most <= there:
        raise SpecError(
            f"oom-policy {text!r} is out of range",
            hint=f"from the limit, {memory}, to the {there} bytes that this host has",
        )
    return name if most is None else f"{name}:{most}"


def _path(value: object) -> str | None:
    if value == "":
        raise SpecError("rootfs is empty", hint="give the path of a folder")
    return None if value is None else os.path.abspath(os.fspath(value))  # type: ignore[call-overload]


def _mount(mount: Mount) -> Mount:
    """Fill in where a volume is."""
    if not mount.volume or mount.source:
        return mount
    from .volumes import path_of

    return mount.replace(source=path_of(mount.volume))


def _device(device: Device | str) -> Device:
    if isinstance(device, Device):
        return device
    source, _, rest = device.partition(":")
    target, _, access = rest.partition(":")
    if target and not target.startswith("/"):
        target, access = "", target
    if set(access) - set("rwm"):
        raise SpecError(f"device access {access!r} is unknown", hint="letters of rwm")
    return Device(source, target, access or "rwm")


def take_bounds(options: Mapping[str, object], fields: dict[str, object]) -> Mapping[str, object]:
    """Move bounds (`cpus="0.5..2"`) to fields of the spec; return options with their upper ends
    as limits: what holds as long as nobody governs.
    """
    plain = dict(options)
    for name, parse in (("cpus", parse_cpu_bounds), ("memory", parse_memory_bounds)):
        value = options.get(name)
        if isinstance(value, (tuple, list)) or (isinstance(value, str) and ".." in value):
            bounds = parse(value)
            fields["cpu_bounds" if name == "cpus" else "memory_bounds"] = bounds
            plain[name] = bounds[1]
    return plain


def make_spec(command: Sequence[str], options: Mapping[str, object], **fixed: object) -> Spec:
    """Return the checked spec of `command` with the options of the Python API.

    Raises SpecError, and TypeError for an unknown option.
    """
    if isinstance(command, (str, bytes)):
        raise SpecError("the command is one string", hint='give a list: ["sh", "-c", "…"]')
    unknown = set(options) - set(OPTION_NAMES)
    if unknown:
        raise TypeError(f"unknown option {min(unknown)!r}")
    if options.get("image") is not None:
        from .from_image import apply_image

        command, options, fixed = apply_image(command, options, fixed)
    fields: dict[str, object] = {name: options[name] for name in _PLAIN if name in options}
    options = take_bounds(options, fields)
    fields["limits"] = limits = make_limits(options)
    fields["rootfs"] = rootfs = _path(options.get("rootfs"))
    fields["oom_policy"] = _oom_policy(options.get("oom_policy"), limits.memory)
    user = options.get("user")
    fields["user"] = "" if user is None else str(user)
    fields["groups"] = tuple(str(group) for group in options.get("groups", ()))  # type: ignore[attr-defined]
    workdir = options.get("workdir")
    fields["workdir"] = None if workdir is None else os.fspath(workdir)  # type: ignore[call-overload]
    for name in ("env", "sysctls", "hosts"):
        pairs = dict(options.get(name) or {})  # type: ignore[call-overload]
        fields[name] = tuple((str(key), str(value)) for key, value in pairs.items())
    for name in ("rlimits", "cap_add", "cap_drop", "dns"):
        fields[name] = tuple(options.get(name, ()))  # type: ignore[arg-type]
    fields["mounts"] = tuple(_mount(mount) for mount in options.get("mounts", ()))  # type: ignore[attr-defined]
    fields["devices"] = tuple(_device(device) for device in options.get("devices", ()))  # type: ignore[attr-defined]
    root = fixed.get("layers") or rootfs
    who = look_up_user(root, fields["user"], fields["groups"])  # type: ignore[arg-type]
    fields["identity"] = (who.uid, who.gid, who.groups)
    fields["home"] = who.home
    fields.update(fixed)
    return Spec(command=tuple(os.fspath(word) for word in command), **fields).check()  # type: ignore[arg-type]


OPTION_NAMES = frozenset(
    (*_PLAIN, *LIMIT_NAMES, "rootfs", "env", "workdir", "user", "groups", "mounts", "devices")
) | frozenset(
    "rlimits cap_add cap_drop sysctls hosts dns oom_policy".split()
    + "image pull platform storage entrypoint".split()
)
