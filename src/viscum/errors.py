"""The exceptions of Viscum, their exit codes, and the hints that say what to do.

ViscumError                 exit 125
├── SpecError               what was asked for makes no sense (also a ValueError)
├── HostError               this host cannot give it
├── PlanError               a compiled plan is malformed or no longer fits
├── LaunchError             an operation of the plan failed
│   ├── CommandNotFound     exit 127
│   └── CommandNotExecutable  exit 126
├── ImageError              an image, a registry or the store is not as it should be
├── MachineError            the machine is not in a state that allows it
├── TrustError              a signature or the policy does not allow an image
└── TimeoutExpired          a wait ended before what it waited for (also a TimeoutError)
"""

from __future__ import annotations

__all__ = [
    "CommandNotExecutable",
    "CommandNotFound",
    "HostError",
    "ImageError",
    "LaunchError",
    "MachineError",
    "PlanError",
    "SpecError",
    "TimeoutExpired",
    "TrustError",
    "ViscumError",
    "ViscumWarning",
    "escaped",
]


class ViscumError(Exception):
    """Base of every error that Viscum raises on purpose.

    `message` names the value or path that failed; `hint` says what to do about it.
    """

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(ViscumError, ValueError):
    """What was asked for is malformed or contradicts itself."""


class HostError(ViscumError):
    """The host lacks or refuses what was asked for."""


class PlanError(ViscumError):
    """A compiled plan is malformed, of another version, or was made for another host."""


class LaunchError(ViscumError):
    """An operation of the plan failed; nothing of the launch is left.

    `operation` is the failed operation as `Operation.describe` prints it, `index` its place
    in the plan, `errno` the error number and `syscall` the name of the call that failed.
    """

    index = -1
    operation = ""
    errno = 0
    syscall = ""


class CommandNotFound(LaunchError):
    """The command does not exist in the machine's root."""

    exit_code = 127


class CommandNotExecutable(LaunchError):
    """The command exists in the machine's root but the kernel will not execute it."""

    exit_code = 126


class ImageError(ViscumError):
    """An image is malformed or not there, a registry refuses, or the store is damaged."""


class MachineError(ViscumError):
    """The machine is not in a state that allows the request."""


def escaped(text: str) -> str:
    """Return `text` with what would move the cursor of a terminal written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TrustError(ViscumError):
    """A policy does not allow an image, or what should show that it does is malformed.

    Nothing of the image may be unpacked or run. What a message names was often chosen by
    strangers, so whatever would move the cursor of a terminal is written as an escape.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(escaped(message), hint=escaped(hint))


class TimeoutExpired(ViscumError, TimeoutError):
    """A wait ended before what it waited for."""


class ViscumWarning(UserWarning):
    """Something asked for was lost because the host refuses it; `strict` refuses instead."""
