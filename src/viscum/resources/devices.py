"""Block devices found from numbers, nodes and paths: through partitions, overlay, device-mapper
and loop devices.
"""

from __future__ import annotations

import os
import stat

from ..disks import owned_loop
from ..errors import SpecError
from ..frozen import Frozen
from ..limits import IoLimit
from ..places import volumes_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Storage", "find_storage", "resolve_bounds"]

SYSFS = "/sys/dev/block"
HINT = "give a block device such as /dev/sda, its number, or a path on one"
MAX_DEPTH = 16


class Storage(Frozen):
    """Where something is stored: on `device`, which in the end is on the `disks` (numbers)."""

    device: str
    disks: tuple[str, ...]


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _is_known(number: str) -> bool:
    return os.path.isdir(f"{SYSFS}/{number}")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""


def _whole(number: str) -> str:
    """Return the disk of a partition: the kernel bounds whole disks only."""
    if os.path.exists(f"{SYSFS}/{number}/partition"):
        return _read(os.path.realpath(f"{SYSFS}/{number}") + "/../dev") or number
    return number


def _disks(number: str, depth: int = 0) -> list[str]:
    """Return the disks below a device: the slaves of device-mapper and md, what a loop is on."""
    whole = _whole(number)
    folder = f"{SYSFS}/{whole}"
    try:
        slaves = os.listdir(folder + "/slaves")
    except OSError:
        slaves = []
    below = [_read(f"{folder}/slaves/{name}/dev") for name in slaves]
    backing = _read(folder + "/loop/backing_file")
    if backing and depth < MAX_DEPTH:
        try:
            below.append(_of_path(backing, depth + 1))
        except SpecError:
            return [whole]
    if not below or depth >= MAX_DEPTH:
        return [whole]
    return list(dict.fromkeys(disk for name in below for disk in _disks(name, depth + 1)))


def _mount_of(path: str) -> tuple[str, str, str, str] | None:
    """Return number, type, source and options of the file system that `path` is on."""
    device = _number(os.stat(path).st_dev)
    real, best, found = os.path.realpath(path), "", None
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, source, options) = left.split(), right.split(" ", 2)
        point = fields[4].encode().decode("unicode_escape")
        inside = point in ("/", real) or real.startswith(point + "/")
        if fields[2] == device and inside and len(point) >= len(best):
            best, found = point, (fields[2], kind, source, options)
    return found


def _of_path(path: str, depth: int = 0) -> str:
    """Return the number of the device that a file or folder is stored on."""
    try:
        number = _number(os.stat(path).st_dev)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise SpecError(f"I/O device {path!r}: {reason}", hint=HINT) from None
    if _is_known(number):
        return number
    mounted = _mount_of(path)
    kind, source, options = mounted[1:] if mounted else ("", "", "")
    if kind == "overlay" and depth < MAX_DEPTH:
        words = dict(word.partition("=")[::2] for word in options.split(","))
        layer = words.get("upperdir") or words.get("lowerdir", "").split(":")[0]
        if layer and os.path.exists(layer):
            return _of_path(layer, depth + 1)
    if source.startswith("/dev/") and os.path.exists(source):
        return _number(os.stat(source).st_rdev)  # btrfs, which has numbers of its own
    raise SpecError(
        f"{path!r} is on {kind or 'nothing'}, which is not stored on a block device", hint=HINT
    )


def find_storage(place: str) -> Storage:
    """Return the storage of a number (`254:0`), a device node, or a path on a file system.

    A number or node stands for itself, a partition for its disk. Raises SpecError where there is
    no block device.
    """
    if place[:1].isdigit():
        if not _is_known(place):
            raise SpecError(f"there is no block device {place!r}", hint=HINT)
        return Storage(_whole(place), tuple(_disks(place)))
    if not place.startswith("/"):
        raise SpecError(f"I/O device {place!r} is neither a number nor an absolute path", hint=HINT)
    try:
        is_ = os.stat(place)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise SpecError(f"I/O device {place!r}: {reason}", hint=HINT) from None
    if stat.S_ISBLK(is_.st_mode):
        number = _number(is_.st_rdev)
    elif stat.S_ISDIR(is_.st_mode) or stat.S_ISREG(is_.st_mode):
        number = _of_path(place)
    else:
        raise SpecError(f"I/O device {place!r} is neither a block device nor a folder", hint=HINT)
    return Storage(_whole(number), tuple(_disks(number)))


def resolve_bounds(bounds: Iterable[IoLimit]) -> tuple[IoLimit, ...]:
    """Return bounds by device numbers, with what is said of one device together.

    Bytes and operations are bounded on the device itself, weight and latency on the disks it is
    on: only there does the kernel choose between requests.
    """
    found: dict[str, dict[str, int]] = {}
    for bound in bounds:
        storage = find_storage(bound.device)
        for name in ("rbps", "wbps", "riops", "wiops"):
            value = getattr(bound, name)
            if value is not None:
                found.setdefault(storage.device, {})[name] = value
        for name in ("weight", "latency_us"):
            value = getattr(bound, name)
            for disk in storage.disks if value is not None else ():
                found.setdefault(disk, {})[name] = value
    base = volumes_folder()
    return tuple(
        IoLimit(device, **values, own_disk=owned_loop(device, base))
        for device, values in found.items()
    )
