"""From the options of the Python API to a checked spec."""

from __future__ import annotations

import os

from .errors import SpecError
from .rootfs import look_up_user
from .spec import Device, Limits, Mount, Rlimit, Spec, parse_cpus, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypedDict

    from .images import Image, Root

    class Options(TypedDict, total=False):
        """What `viscum.run` and `viscum.Machine` take; see docs/reference for each."""

        rootfs: str | os.PathLike[str] | None
        env: Mapping[str, str] | None
        workdir: str | os.PathLike[str] | None
        user: str | int | None
        groups: Iterable[str | int]
        hostname: str | None
        mounts: Iterable[Mount]
        devices: Iterable[Device | str]
        memory: str | int | None
        memory_swap: str | int | None
        cpus: float | None
        cpu_shares: int | None
        cpuset_cpus: str | None
        pids: int | None
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
        strict: bool
        image: str | Image | Root | None
        pull: str
        platform: str | None
        entrypoint: Sequence[str] | str | None


__all__ = ["Options", "make_spec"]

_LIMITS = ("memory", "memory_swap", "cpus", "cpu_shares", "cpuset_cpus", "pids")
_PLAIN = (
    "hostname read_only network userns pid ipc uts seccomp no_new_privileges unmask init strict"
).split()


def make_limits(options: Mapping[str, object]) -> Limits:
    """Return the limits among `options`; raises SpecError for values that make no sense."""
    given = {name: options[name] for name in _LIMITS if options.get(name) is not None}
    for name in ("memory", "memory_swap"):
        if name in given and given[name] not in (-1, "-1"):
            given[name] = parse_size(given[name], name.replace("_", "-"))  # type: ignore[arg-type]
    if given.get("memory_swap") == "-1":
        given["memory_swap"] = -1
    if given.get("memory") in (-1, "-1"):
        raise SpecError(f"memory {given['memory']!r} is out of range", hint="such as 512M or 2g")
    if "cpus" in given:
        given["cpus"] = parse_cpus(given["cpus"])  # type: ignore[arg-type]
    for name in ("pids", "cpu_shares"):
        if name in given:
            given[name] = _whole(given[name], name.replace("_", "-"))
    return Limits(**given)  # type: ignore[arg-type]


def _whole(value: object, what: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise SpecError(f"{what} {value!r} is not a whole number") from None
    return number


def _path(value: object) -> str | None:
    if value == "":
        raise SpecError("rootfs is empty", hint="give the path of a folder")
    return None if value is None else os.path.abspath(os.fspath(value))  # type: ignore[call-overload]


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
    fields["limits"] = make_limits(options)
    fields["rootfs"] = rootfs = _path(options.get("rootfs"))
    user = options.get("user")
    fields["user"] = "" if user is None else str(user)
    fields["groups"] = tuple(str(group) for group in options.get("groups", ()))  # type: ignore[attr-defined]
    workdir = options.get("workdir")
    fields["workdir"] = None if workdir is None else os.fspath(workdir)  # type: ignore[call-overload]
    for name in ("env", "sysctls", "hosts"):
        pairs = dict(options.get(name) or {})  # type: ignore[call-overload]
        fields[name] = tuple((str(key), str(value)) for key, value in pairs.items())
    for name in ("mounts", "rlimits", "cap_add", "cap_drop", "dns"):
        fields[name] = tuple(options.get(name, ()))  # type: ignore[arg-type]
    fields["devices"] = tuple(_device(device) for device in options.get("devices", ()))  # type: ignore[attr-defined]
    root = fixed.get("layers") or rootfs
    who = look_up_user(root, fields["user"], fields["groups"])  # type: ignore[arg-type]
    fields["identity"] = (who.uid, who.gid, who.groups)
    fields["home"] = who.home
    fields.update(fixed)
    return Spec(command=tuple(os.fspath(word) for word in command), **fields).check()  # type: ignore[arg-type]


OPTION_NAMES = frozenset(
    (*_PLAIN, *_LIMITS, "rootfs", "env", "workdir", "user", "groups", "mounts", "devices")
) | frozenset("rlimits cap_add cap_drop sysctls hosts dns image pull platform entrypoint".split())
