"""Help, from the table."""

from __future__ import annotations

from .. import __version__
from .table import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Command

__all__ = ["command_help", "main_help"]

COLUMN = 36


def main_help() -> str:
    """Return the help of `viscum` itself."""
    lines = [
        f"Viscum {__version__}: a virtual machine is an ordinary process of its host",
        "",
        "usage: viscum COMMAND [OPTIONS]",
        "",
        "commands:",
        *(f"  {command.name:<10} {command.help}" for command in COMMANDS.values()),
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
