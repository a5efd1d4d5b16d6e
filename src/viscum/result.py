"""How machines and commands end."""

from __future__ import annotations

from .errors import SpecError
from .frozen import Frozen
from .resources.usage import Usage

__all__ = ["Result", "exit_code", "nanoseconds", "verdict_of"]

CLD_EXITED = 1
FOREVER_NS = -1
DEFAULT_OUTPUT_LIMIT = 64 << 20
"""Bytes of each output stream that are kept."""


class Result(Frozen):
    """How a machine, or a command in one, ended.

    `exit_code` is the command's own, or 128 + n where signal n ended it. `verdict` is "ok",
    "failed", "timeout", "oom" or "signaled". `truncated` says that output beyond the bound was
    read and thrown away. `lost` is what the host could not give of what was asked for.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    verdict: str
    usage: Usage
    truncated: bool = False
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.verdict == "ok"

    @property
    def text(self) -> str:
        """Standard output as text, what is not UTF-8 replaced."""
        return self.stdout.decode("utf-8", "replace")


def exit_code(stat: tuple[int, ...]) -> int:
    """Return the exit code of a status of the core: the command's own, or 128 + signal."""
    return stat[1] if stat[0] == CLD_EXITED else 128 + stat[1]


def verdict_of(stat: tuple[int, ...], *, timed_out: bool, out_of_memory: bool) -> str:
    """Return the verdict of a status of the core."""
    if timed_out:
        return "timeout"
    if stat[0] == CLD_EXITED and stat[1] == 0:
        return "ok"
    if out_of_memory:
        return "oom"
    return "failed" if stat[0] == CLD_EXITED else "signaled"


def nanoseconds(timeout: float | None) -> int:
    """Return seconds as the core takes them, -1 for None; raises SpecError out of 0 to 1e9."""
    if timeout is None:
        return FOREVER_NS
    if not 0 <= timeout <= 1e9:
        raise SpecError(f"timeout {timeout!r} is out of range", hint="seconds from 0 to 1e9")
    return int(timeout * 1e9)
