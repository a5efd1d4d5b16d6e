"""Labels of SELinux and profiles of AppArmor, checked against what this host can hold them to."""

from __future__ import annotations

import os

from ..errors import HostError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parts import Sections

__all__ = ["check_process", "mount_label"]

MAX_LABEL = 4095
"""The kernel takes less than a page at once."""


def _selinux_is_enabled() -> bool:
    """Return whether labels mean something here. Where the file system of SELinux is read-only, as
    in containers, they are the host's matter.
    """
    try:
        return not os.statvfs("/sys/fs/selinux/enforce").f_flag & os.ST_RDONLY
    except OSError:
        return False


def _check(label: str, where: str) -> None:
    if "\n" in label or len(os.fsencode(label)) > MAX_LABEL:
        raise SpecError(
            f"{where} {label[:64]!r} is no label of SELinux",
            hint=f"one line of at most {MAX_LABEL} bytes, such as system_u:system_r:container_t:s0",
        )


def check_process(profile: str, label: str) -> None:
    """Refuse an AppArmor profile, or a label of SELinux, that nothing would hold a process to."""
    _check(label, "process.selinuxLabel")
    if label and not _selinux_is_enabled():
        raise HostError("process.selinuxLabel is given, but SELinux is not enabled here")
    if profile and not os.path.isdir("/sys/kernel/security/apparmor"):
        raise HostError(
            f"process.apparmorProfile {profile!r} is given, but AppArmor is not enabled here"
        )


def mount_label(label: str, parts: Sections) -> str:
    """Return the label of mounts; without SELinux it is empty, and told to be lost."""
    _check(label, "linux.mountLabel")
    if _selinux_is_enabled():
        return label
    parts.lost.append("linux.mountLabel: SELinux is not enabled here")
    return ""
