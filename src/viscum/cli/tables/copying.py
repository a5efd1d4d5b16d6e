"""Commands about the files of machines."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .volumes import FORMAT

__all__ = ["COMMANDS"]

COMMANDS = (
    Command(
        "cp",
        "copying.cp",
        "[OPTIONS] NAME:PATH PATH | PATH NAME:PATH",
        "copy files into a machine or out of it",
        (
            Option("-a --archive", "", "keep who owns them"),
            Option("-L --follow-link", "", "where the source is a link, copy what it leads to"),
            HELP,
        ),
    ),
    Command(
        "diff",
        "copying.diff",
        "[OPTIONS] NAME",
        "show what a machine changed of its root: added, changed, deleted",
        (FORMAT, HELP),
    ),
    Command(
        "export",
        "copying.export",
        "[OPTIONS] NAME",
        "write the root of a machine as a tar archive",
        (Option("-o --output", "FILE", "where to; stdout by default"), HELP),
    ),
)
