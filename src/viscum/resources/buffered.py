"""Buffered writes held by limits on version 1, for disks that one machine has for itself.

There the kernel writes buffered data back for nobody: in its own threads, in the root group. On a
disk of its own (`viscum.disks`) all such writes are the machine's, so the root group's bounds of
that device hold them, and few dirty pages of the device may wait (its backing_dev_info, strict):
whoever writes waits in write(2), not a minute later in fsync(2) or at the unmount.
"""

from __future__ import annotations

import os

from ..disks import LOOP_MAJOR, owned_loop, unbound
from ..places import volumes_folder
from .settings import THROTTLE
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import IoLimit

__all__ = ["hold_buffered", "release_buffered"]

MIN_DIRTY, MAX_DIRTY = 1 << 20, 64 << 20


def hold_buffered(bounds: tuple[IoLimit, ...], folder: str) -> None:
    """Set what bounds buffered writes to the disks among `bounds`; `folder` is blkio's root."""
    for bound in bounds:
        if not bound.own_disk:
            continue
        for field, word in THROTTLE:
            value = getattr(bound, field)
            if field[0] == "w" and value is not None:
                path = f"{folder}/blkio.throttle.{word}_device"
                write_text(path, f"{bound.device} {value}")
        if bound.wbps is not None:
            _bound_dirty(bound.device, bound.wbps)


def release_buffered(paths: list[str], bounds: tuple[IoLimit, ...], folder: str) -> None:
    """Take away what the last machine on the disks of `paths` left, where this one has none."""
    held = {bound.device for bound in bounds}
    for path in paths:
        try:
            device = os.stat(path).st_dev
        except OSError:
            continue
        number = f"{os.major(device)}:{os.minor(device)}"
        loop = os.major(device) == LOOP_MAJOR and number not in held
        if loop and owned_loop(number, volumes_folder()):
            unbound(number, folder)


def _bound_dirty(device: str, rate: int) -> None:
    """Let a quarter of a second's writes wait in memory (Linux 6.2; before that 1 % of it)."""
    folder = f"/sys/class/bdi/{device}"
    try:
        write_text(folder + "/strict_limit", "1")
        write_text(folder + "/max_bytes", str(min(MAX_DIRTY, max(MIN_DIRTY, rate // 4))))
    except OSError:
        write_text(folder + "/max_ratio", "1")
