"""Commands of the governor, which moves machines' limits within their bounds."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS"]

FORMAT = Option("--format", "text|json", "how to print it")

COMMANDS = (
    Command(
        "governor",
        "governor.foreground",
        "[--cpus NUMBER] [--memory SIZE] [--print-unit]",
        "move the limits of machines within their bounds, as they need it",
        (
            Option("--cpus", "NUMBER", "CPUs that all machines together may have (all)"),
            Option("--memory", "SIZE", "memory that they may have together (90 %)"),
            Option("--print-unit", "", "print a unit for systemd, and end"),
            HELP,
        ),
    ),
    Command(
        "governor why",
        "governor.why",
        "[OPTIONS] NAME",
        "print which limits of a machine the governor changed, and why",
        (FORMAT, Option("-n --last", "NUMBER", "how many of the last changes (20)"), HELP),
    ),
    Command(
        "governor simulate",
        "governor.simulate",
        "[OPTIONS] TRACE…",
        "replay CPU traces and print what the governor would give and miss",
        (
            FORMAT,
            Option("--period", "SECONDS", "time between two samples of a trace (300)"),
            Option("--class", "latency|batch|idle|all", "the machines' class (latency)"),
            Option("--peers", "FILE|none", "peers to compare with; a checkout's own by default"),
            HELP,
        ),
    ),
)
