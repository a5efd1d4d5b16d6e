"""What the interpreter pays for this package (row 10)."""

from __future__ import annotations

import sys
from statistics import median
from typing import TYPE_CHECKING

from measure import Figure, at_most, interleave, medians
from rows_peers import script_path
from workers import python_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from measure import Effort

__all__ = ["import_rows"]

BATCH = 5
MOST_IMPORT_MS, MOST_HELP_MS = 15.0, 40.0


def import_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`import viscum` and `viscum --help` over the bare interpreter."""
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import viscum"],
        "use": [sys.executable, "-c", "import viscum; viscum.run"],
        "help": [script_path("viscum"), "--help"],
    }
    worker = lab.start(
        python_worker({name: {"kind": "spawn", "argv": argv} for name, argv in commands.items()})
    )
    sides = {name: (worker.side(name), BATCH) for name in commands}
    rounds = interleave(sides, effort.part(2))
    times = {name: [us / 1000 for us in medians(rounds[name])] for name in commands}
    for name, what, most in (
        ("import", "import viscum", MOST_IMPORT_MS),
        ("use", "import viscum; viscum.run", MOST_IMPORT_MS),
        ("help", "viscum --help", MOST_HELP_MS),
    ):
        over = median(a - b for a, b in zip(times[name], times["bare"], strict=True))
        yield Figure(
            "10",
            f"{what} over python3 -c pass",
            median(times[name]),
            median(times["bare"]),
            over,
            unit="ms",
            target=at_most(most, "ms"),
        )
