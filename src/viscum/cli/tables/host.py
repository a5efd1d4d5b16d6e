"""Commands about the host and about Viscum itself."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS"]

COMMANDS = (
    Command(
        "doctor",
        "doctor",
        "[--format text|json]",
        "show what this host offers, what is missing, and how to mend it",
        (Option("--format", "text|json", "how to print it"), HELP),
    ),
    Command(
        "version",
        "version",
        "[--format text|json]",
        "print the version",
        (Option("--format", "text|json", "how to print it"), HELP),
    ),
)
