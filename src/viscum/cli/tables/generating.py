"""Commands that write something for other programs."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS"]

COMMANDS = (
    Command(
        "generate systemd",
        "generating.systemd",
        "[OPTIONS] NAME",
        "print a unit that starts a machine at boot",
        (
            Option("--new", "", "make the machine anew each time, as it was asked for"),
            Option("-f --files", "", "write a file in the working folder, print its path"),
            Option(
                "--restart-policy",
                "no|always|on-success|on-failure|on-abnormal|on-watchdog|on-abort",
                "what systemd does when it ends (on-failure)",
            ),
            HELP,
        ),
    ),
)
