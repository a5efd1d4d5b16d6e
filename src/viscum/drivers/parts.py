"""What every driver collects a plan with, and tables that they share."""

from __future__ import annotations

import os

from ..errors import SpecError
from ..plan import FIRST_SLOT, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import Operation

__all__ = ["LINKS", "NODES", "RLIMITS", "Sections", "Slots", "kernel_number"]

RLIMITS = (
    "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio "
    "rttime"
).split()
"""By number, as getrlimit(2) has them on every architecture that Viscum runs on."""

NODES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
"""What every /dev holds."""


def kernel_number(device: int) -> int:
    """Return a device number as mknod(2) takes it from 32-bit-clean callers."""
    major, minor = os.major(device), os.minor(device)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


class Slots:
    """Hands out slot numbers."""

    def __init__(self) -> None:
        self.next = FIRST_SLOT

    def __call__(self) -> int:
        """Return the next slot."""
        if self.next == SLOTS:
            raise SpecError("too many mounts and devices", hint="a few hundred fit")
        self.next += 1
        return self.next - 1


class Sections:
    """The operations of a plan as they are collected, by section."""

    def __init__(self) -> None:
        self.load: list[Operation] = []
        self.prepare: list[Operation] = []
        self.adopt: list[Operation] = []
        self.enter: list[Operation] = []
        self.release: list[Operation] = []
        self.lost: list[str] = []
