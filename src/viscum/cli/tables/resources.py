"""Commands about what machines use."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS"]

COMMANDS = (
    Command(
        "metrics",
        "metrics",
        "[--listen [HOST:]PORT] [--textfile FILE]",
        "print what the machines use for Prometheus, or serve it",
        (
            Option(
                "--listen", "[HOST:]PORT", "serve it over HTTP (on 127.0.0.1) until interrupted"
            ),
            Option("--textfile", "FILE", "write it to a file, for the node exporter's collector"),
            HELP,
        ),
    ),
)
