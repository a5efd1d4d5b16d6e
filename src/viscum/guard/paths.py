"""Which paths of the kernel a machine does not see, and which it cannot write."""

from __future__ import annotations

from ..host import KERNEL_PATHS

__all__ = ["MASKED", "READ_ONLY"]

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Readable, not writable: settings of the whole host."""

MASKED = tuple(path for path in KERNEL_PATHS if path not in READ_ONLY)
"""Hidden: they tell of the host's hardware, kernel addresses and keys, or steer the kernel."""
