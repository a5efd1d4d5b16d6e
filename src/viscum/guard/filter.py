"""The system call filter of a spec: the default profile, a file in Docker's format, or none."""

from __future__ import annotations

from ..errors import SpecError
from .capabilities import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host

__all__ = ["compile_filter"]

MAX_PROFILE = 4 << 20
PRECOMPILED = ("x86_64", "aarch64", "riscv64")


def compile_filter(choice: str, capabilities: frozenset[str], host: Host) -> bytes:
    """Return the compiled filter for `choice`: "default", "unconfined" or a profile's path.

    Raises SpecError where the file cannot be read or makes no sense.
    """
    if choice == "unconfined":
        return b""
    if choice == "default" and capabilities == DEFAULT and host.machine in PRECOMPILED:
        return __import__(f"{__package__}.filter_{host.machine}", fromlist=["PROGRAM"]).PROGRAM  # type: ignore[no-any-return]
    from . import profile, seccomp

    names = frozenset("CAP_" + name for name in capabilities)
    if choice == "default":
        return seccomp.compile_policy(profile.default_rules(names), host.machine)
    try:
        with open(choice, "rb") as file:
            data = file.read(MAX_PROFILE + 1)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise SpecError(f"seccomp profile {choice!r}: {reason}") from None
    policy = profile.read_profile(data, names, host.machine, host.kernel)
    return seccomp.compile_policy(policy, host.machine)
