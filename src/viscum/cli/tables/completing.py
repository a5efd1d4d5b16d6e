"""Commands for shells."""

from __future__ import annotations

from ..parser import HELP, Command

__all__ = ["COMMANDS"]

COMMANDS = (
    Command(
        "completion",
        "completing.completion",
        "bash|zsh|fish",
        "print a script that makes a shell complete command lines",
        (HELP,),
    ),
    Command("__names", "completing.names", "machines|volumes|paths", "names for completion"),
)
