"""Help, from the table."""

from __future__ import annotations

from .. import __version__
from .table import commands, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .parser import Command

__all__ = ["command_help", "group_help", "main_help"]

COLUMN = 36


def _list(listed: Iterable[Command]) -> list[str]:
    width = max(len(name) for name in names())
    return [f"  {command.name:<{width}} {command.help}" for command in listed]


def group_help(first: str) -> str:
    """Return the help of the commands whose name begins with the word `first`; "" for none."""
    listed = [c for name, c in commands().items() if name.startswith(first + " ")]
    usage = f"usage: viscum {first} COMMAND [OPTIONS]"
    return "\n".join([usage, "", "commands:", *_list(listed)]) if listed else ""


def main_help() -> str:
    """Return the help of `viscum` itself."""
    lines = [
        f"Viscum {__version__}: a virtual machine is an ordinary process of its host",
        "",
        "usage: viscum COMMAND [OPTIONS]",
        "",
        "commands:",
        *_list(commands().values()),
        "",
        "viscum COMMAND --help tells more; try: viscum run -- sh",
    ]
    return "\n".join(lines)


def command_help(command: Command) -> str:
    """Return the help of one command."""
    lines = [f"usage: viscum {command.name} {command.usage}", "", command.help, "", "options:"]
    for option in command.options:
        head = "  " + ", ".join(option.flags) + (f" {option.value}" if option.value else "")
        if len(head) < COLUMN:
            lines.append(f"{head:<{COLUMN}}{option.help}")
        else:
            lines += [head, " " * COLUMN + option.help]
    return "\n".join(lines)
