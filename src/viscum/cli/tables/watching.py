"""Commands that show what machines do."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .volumes import FILTER, FORMAT, NO_TRUNC

__all__ = ["COMMANDS"]

NO_STREAM = Option("--no-stream", "", "print what there is now, and end")

COMMANDS = (
    Command(
        "stats",
        "watching.stats",
        "[OPTIONS] [NAME…]",
        "show what machines use, as it changes",
        (
            Option("-a --all", "", "also those that do not run"),
            Option("-i --interval", "SECONDS", "time between two readings (1)"),
            NO_STREAM,
            NO_TRUNC,
            FORMAT,
            HELP,
        ),
    ),
    Command(
        "top",
        "watching.top",
        "[OPTIONS] [NAME] [COLUMN…]",
        "show all machines on the screen, or the processes of one",
        (NO_TRUNC, FORMAT, HELP),
        passes=True,
    ),
    Command(
        "events",
        "watching.events",
        "[OPTIONS]",
        "print what happens to machines",
        (
            Option("--since", "TIME", "what came later: 10m (ago), or a time"),
            Option("--until", "TIME", "what came before; it ends then"),
            FILTER,
            NO_STREAM,
            FORMAT,
            HELP,
        ),
    ),
)
