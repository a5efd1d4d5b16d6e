"""`viscum stats`: what machines use, once or as it changes."""

from __future__ import annotations

import os
import sys
import time

from ...detached import DetachedMachine, machines
from ...errors import MachineError, SpecError
from ..format import check_form, print_rows
from ..listing import Column, emit, size
from ..machines.finding import find
from .figures import Figures, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (
    Column("ID", "ID", yields=3, least=4),
    Column("Name", "NAME", yields=2, least=6),
    Column("CPUPerc", "CPU %", right=True),
    Column("MemUsage", "MEM USAGE / LIMIT"),
    Column("MemPerc", "MEM %", right=True),
    Column("NetIO", "NET I/O", yields=1, least=6),
    Column("BlockIO", "BLOCK I/O", yields=1, least=6),
    Column("PIDs", "PIDS", right=True),
)
SHORT = 12
FIRST_SECONDS = 0.25
HOME_AND_CLEAR = "\x1b[H\x1b[J"


class Sampler:
    """Reads machines again and again; CPU percentages are of the time between two readings."""

    def __init__(self, words: list[str], *, everyone: bool) -> None:
        self.words = words
        self.everyone = everyone
        self.before: dict[str, tuple[float, float]] = {}

    def machines(self) -> list[DetachedMachine]:
        """Return those named, or all that run."""
        if self.words:
            return [find(word) for word in self.words]
        return machines(all=self.everyone)

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each machine that is there."""
        made = []
        for machine in self.machines():
            try:
                figures = read(machine)
                made.append(self.row(machine, figures))
            except MachineError:
                continue  # removed meanwhile
        return made

    def row(self, machine: DetachedMachine, figures: Figures | None) -> dict[str, object]:
        """Return what templates and columns see of a machine; dashes where it does not run."""
        row: dict[str, object] = {"ID": machine.id[:SHORT], "Name": machine.name}
        if figures is None:
            texts = ("CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
            numbers = ("CPU", "CPUSeconds", "Memory", "MemoryLimit")
            return {**row, **dict.fromkeys(texts, "--"), **dict.fromkeys(numbers, 0)}
        now = time.monotonic()
        share = 0.0
        if machine.id in self.before:
            then, seconds = self.before[machine.id]
            share = max(0.0, figures.cpu_seconds - seconds) / max(now - then, 1e-6)
        self.before[machine.id] = (now, figures.cpu_seconds)
        used, limit = figures.memory_bytes, figures.memory_limit
        return {
            **row,
            "CPUPerc": f"{100 * share:.2f}%",
            "MemUsage": f"{size(used)} / {size(limit)}",
            "MemPerc": f"{100 * used / max(limit, 1):.2f}%",
            "NetIO": _pair(figures.received_bytes, figures.sent_bytes),
            "BlockIO": _pair(figures.read_bytes, figures.written_bytes),
            "PIDs": figures.pids,
            "CPU": round(share, 4),
            "CPUSeconds": round(figures.cpu_seconds, 6),
            "Memory": used,
            "MemoryLimit": limit,
        }


def _pair(first: int, second: int) -> str:
    return f"{size(first, decimal=True)} / {size(second, decimal=True)}"


def main(parsed: Parsed) -> int:
    """Print what machines use; every second again, until interrupted, without --no-stream."""
    form = parsed.text("format")
    check_form(form)
    text = parsed.text("interval") or "1"
    try:
        interval = float(text)
    except ValueError:
        interval = 0.0
    if not 0.1 <= interval <= 3600:
        raise SpecError(f"--interval {text!r} is out of range", hint="seconds, 0.1 to 3600")
    sampler = Sampler(list(parsed.words), everyone=parsed.on("all"))
    sampler.rows()
    time.sleep(FIRST_SECONDS)
    live = os.isatty(1) and form is None and not parsed.on("no_stream")
    try:
        while True:
            rows = sampler.rows()
            if live:
                emit(HOME_AND_CLEAR)
            print_rows(rows, COLUMNS, form, whole=parsed.on("no_trunc"))
            sys.stdout.flush()
            if parsed.on("no_stream"):
                return 0
            time.sleep(interval)
    except KeyboardInterrupt:
        return 0
