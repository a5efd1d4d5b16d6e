"""Commands about volumes, and the options of listings."""

from __future__ import annotations

from ..parser import HELP, Command, Option

__all__ = ["COMMANDS", "FILTER", "FORCE", "FORMAT", "NO_TRUNC", "QUIET"]

FORMAT = Option("--format", "json|TEMPLATE", "JSON, a template for each, or 'table TEMPLATE'")
FILTER = Option("-f --filter", "KEY=VALUE", "only those that fit", repeats=True)
QUIET = Option("-q --quiet", "", "names only")
NO_TRUNC = Option("--no-trunc", "", "shorten nothing, however narrow the terminal")
FORCE = Option("-f --force", "", "do not ask, and do not mind what is gone already")

COMMANDS = (
    Command(
        "volume create",
        "volumes.create",
        "[OPTIONS] [NAME]",
        "make a volume",
        (
            Option("-l --label", "NAME=VALUE", "a label, for people and programs", repeats=True),
            Option(
                "--size", "SIZE", "on a disk of its own, of that size: limits of I/O hold it all"
            ),
            Option("-d --driver", "local", "where its data live"),
            HELP,
        ),
    ),
    Command(
        "volume ls",
        "volumes.ls",
        "[OPTIONS]",
        "list volumes",
        (FILTER, FORMAT, QUIET, NO_TRUNC, HELP),
    ),
    Command(
        "volume inspect",
        "volumes.inspect",
        "[OPTIONS] NAME…",
        "print all that is known of volumes",
        (FORMAT, HELP),
    ),
    Command(
        "volume rm",
        "volumes.rm",
        "[OPTIONS] NAME…",
        "remove volumes",
        (FORCE, HELP),
    ),
    Command(
        "volume prune",
        "volumes.prune",
        "[OPTIONS]",
        "remove the volumes that no machine has",
        (
            Option("--filter", "KEY=VALUE", "only those that fit", repeats=True),
            FORCE,
            HELP,
        ),
    ),
)
