"""Capabilities by name, and the set that a machine has by default (capabilities(7))."""

from __future__ import annotations

from ..errors import SpecError

__all__ = ["CAPABILITIES", "DEFAULT", "effective", "mask"]

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""Without CAP_, in the order of their numbers."""

DEFAULT = frozenset(
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID "
    "SYS_CHROOT".split()
)
"""What a machine's root has: what package managers and servers need of their own files and ids.
Docker gives AUDIT_WRITE, MKNOD and NET_RAW too; no program here needs them by default."""


def _names(words: tuple[str, ...], option: str) -> set[str]:
    names = set()
    for word in words:
        name = word.upper().removeprefix("CAP_")
        if name != "ALL" and name not in CAPABILITIES:
            raise SpecError(
                f"{option} {word!r} is no capability", hint="see capabilities(7), or ALL"
            )
        names.add(name)
    return names


def effective(add: tuple[str, ...], drop: tuple[str, ...]) -> frozenset[str]:
    """Return the names that remain of the default set; what is named wins over ALL."""
    added, dropped = _names(add, "cap-add"), _names(drop, "cap-drop")
    both = sorted((added & dropped) - {"ALL"})
    if both:
        raise SpecError(f"capability {both[0]} is both added and dropped")
    names = set(CAPABILITIES) if "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        names = set()
    return frozenset((names | added - {"ALL"}) - dropped)


def mask(names: frozenset[str]) -> int:
    """Return the bit mask of capability `names`."""
    return sum(1 << CAPABILITIES.index(name) for name in names)
