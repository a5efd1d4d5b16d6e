"""`spec`: a config.json to begin with."""

from __future__ import annotations

import os

from ..errors import SpecError
from .document import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import Call

__all__ = ["main", "template"]

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_GUARDED = ["nosuid", "noexec", "nodev"]
_MASKED = (
    "/proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /sys/firmware /proc/scsi"
).split()
_READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": target, "type": kind, "source": source}
    return {**mount, "options": list(options)} if options else mount


def _mounts(*, rootless: bool) -> list[dict[str, Any]]:
    gid = [] if rootless else ["gid=5"]
    terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *gid]
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *terminals),
        _mount("/dev/shm", "tmpfs", "shm", *_GUARDED, "mode=1777", "size=65536k"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", *_GUARDED),
    ]
    if rootless:
        return [*mounts, _mount("/sys", "none", "/sys", "rbind", *_GUARDED, "ro")]
    return [
        *mounts,
        _mount("/sys", "sysfs", "sysfs", *_GUARDED, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_GUARDED, "relatime", "ro"),
    ]


def template(*, rootless: bool) -> dict[str, Any]:
    """Return a configuration that runs a shell."""
    from .main import VERSION

    kinds = ["pid", "ipc", "uts", "mount", "cgroup"] + ([] if rootless else ["network"])
    linux: dict[str, Any] = {}
    if rootless:
        kinds.append("user")
        for key, number in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
            linux[key] = [{"containerID": 0, "hostID": number, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    linux["maskedPaths"], linux["readonlyPaths"] = _MASKED, _READ_ONLY
    sets = ("bounding", "effective", "permitted")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [path, "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(_CAPABILITIES) for name in sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "viscum",
        "mounts": _mounts(rootless=rootless),
        "linux": linux,
    }


def main(call: Call) -> int:
    """Write config.json to a bundle that has none."""
    path = os.path.join(call.given.text("bundle") or ".", "config.json")
    text = dump(template(rootless=call.given.on("rootless")), step="\t") + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise SpecError(f"file {path!r} exists", hint="remove it first") from None
    except OSError as error:
        raise SpecError(f"{path!r}: {(error.strerror or '').lower()}") from None
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return 0
