"""`viscum top` without a name: every machine on the whole screen, with what the governor does."""

from __future__ import annotations

import os
import select
import sys
import time

from ...errors import MachineError, ViscumError
from ...frozen import Frozen
from ...governor.decisions import latest
from ..format import check_form, print_rows
from ..listing import Column, emit, size
from .metering import Metered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ...native import Figures
    from ...resources.groups import GroupSet
    from ...spec import Spec

__all__ = ["COLUMNS", "Overview", "show"]

COLUMNS = (
    Column("Name", "NAME", yields=2, least=6),
    Column("Class", "CLASS", yields=1),
    Column("CPU", "CPU %", right=True),
    Column("CPULimit", "LIMIT (BOUNDS)", yields=1),
    Column("Throttled", "THROTTLED", right=True),
    Column("Memory", "MEMORY", right=True),
    Column("MemoryLimit", "LIMIT (BOUNDS)", yields=1),
    Column("Pressure", "CPU/MEM/IO WAIT", right=True),
    Column("IO", "READ/WRITTEN", right=True, yields=1),
    Column("Tasks", "TASKS", right=True),
    Column("Decision", "LAST DECISION, AND WHY", yields=3, least=12),
)
SECONDS = 1.0
FIRST_SECONDS = 0.25
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, TO_END = "\x1b[H", "\x1b[J"


class Seen(Frozen):
    """Totals of a machine at a moment, for what is shown as a rate."""

    at: float = 0.0
    cpu: float = 0.0
    throttled: float = 0.0
    read: int = 0
    written: int = 0


class Overview:
    """Reads all machines again and again, through descriptors that stay open."""

    def __init__(self) -> None:
        self._metered = Metered()
        self._before: dict[str, Seen] = {}

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each machine that runs."""
        decided, rows = latest(), []
        for machine, groups, figures in self._metered.read():
            try:
                rows.append(self._row(machine, groups, figures, decided.get(machine.name)))
            except (MachineError, OSError):
                continue  # removed meanwhile
        return rows

    def _row(
        self,
        machine: DetachedMachine,
        groups: GroupSet,
        figures: Figures | None,
        decision: dict[str, object] | None,
    ) -> dict[str, object]:
        spec = machine.config.spec
        row: dict[str, object] = {"Name": machine.name, "Class": spec.machine_class or "-"}
        row.update(_limits(spec, groups))
        row["Decision"] = _decision(decision)
        if figures is None:
            return {**row, **dict.fromkeys(("CPU", "Throttled", "Memory", "Pressure"), "--")}
        now = Seen(
            time.monotonic(),
            figures.cpu_seconds,
            figures.throttled_seconds,
            int(figures.read_bytes),
            int(figures.written_bytes),
        )
        then = self._before.get(machine.id, now)
        self._before[machine.id] = now
        span = max(now.at - then.at, 1e-3)
        waits = (figures.cpu_some_avg10, figures.memory_some_avg10, figures.io_some_avg10)
        rates = ((now.read - then.read) / span, (now.written - then.written) / span)
        return {
            **row,
            "CPU": f"{100 * (now.cpu - then.cpu) / span:.1f}",
            "Throttled": f"{100 * min((now.throttled - then.throttled) / span, 1.0):.1f}%",
            "Memory": size(figures.memory_bytes),
            "Pressure": "/".join(f"{100 * wait:.0f}" for wait in waits) + "%",
            "IO": "/".join(size(rate) for rate in rates) + "/s",
            "Tasks": int(figures.pids),
        }

    def close(self) -> None:
        """Give back the descriptors."""
        self._metered.close()


def _limits(spec: Spec, groups: GroupSet) -> dict[str, object]:
    limits = groups.limits()
    cpus = "-"
    if limits.cpu_quota is not None and limits.cpu_quota > 0:
        cpus = f"{limits.cpu_quota / (limits.cpu_period or 100_000):.3g}"
    memory = "-" if limits.memory is None else size(limits.memory)
    if spec.cpu_bounds is not None:
        cpus += f" ({spec.cpu_bounds[0]:g}..{spec.cpu_bounds[1]:g})"
    if spec.memory_bounds is not None:
        memory += f" ({size(spec.memory_bounds[0])}..{size(spec.memory_bounds[1])})"
    return {"CPULimit": cpus, "MemoryLimit": memory}


def _decision(entry: dict[str, object] | None) -> str:
    if entry is None:
        return "-"
    moment = time.strftime("%H:%M:%S", time.localtime(float(str(entry["time"]))))
    if entry.get("what") == "none":
        return f"{moment} {entry.get('rule')}: {entry.get('signal')}"
    old, new = (float(str(entry.get(key, 0.0))) for key in ("old", "new"))
    change = f"{old:.3g} -> {new:.3g}"
    if entry.get("what") == "memory":
        change = f"{size(old)} -> {size(new)}"
    return f"{moment} {entry.get('what')} {change}, {entry.get('rule')}: {entry.get('signal')}"


def show(form: str | None, *, whole: bool) -> int:
    """Show the machines: on a terminal until `q` or an interrupt, else once."""
    check_form(form)
    view = Overview()
    try:
        view.rows()
        time.sleep(FIRST_SECONDS)
        if form is None and os.isatty(0) and os.isatty(1):
            _live(view)
        else:
            print_rows(view.rows(), COLUMNS, form, whole=whole)
    finally:
        view.close()
    return 0


def _live(view: Overview) -> None:
    import termios
    import tty

    before = termios.tcgetattr(0)
    emit(ENTER)
    try:
        tty.setcbreak(0)
        while True:
            rows = view.rows()
            emit(HOME + TO_END)
            emit(_heading(rows) + "\n")
            print_rows(rows[: _height()], COLUMNS, None, whole=False)
            sys.stdout.flush()
            if select.select([0], [], [], SECONDS)[0] and os.read(0, 16)[:1] in (
                b"q",
                b"",
                b"\x03",
            ):
                return
    except KeyboardInterrupt:
        return
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        emit(LEAVE)
        sys.stdout.flush()


def _heading(rows: list[dict[str, object]]) -> str:
    try:
        from ...governor.decisions import governor_process

        holder = governor_process()
        governor = f"governor: process {holder}" if holder else "no governor"
    except ViscumError:
        governor = "no governor"
    return f"{time.strftime('%H:%M:%S')}  {len(rows)} machines, {governor}  (q: quit)"


def _height() -> int:
    try:
        return max(os.get_terminal_size(1).lines - 3, 1)
    except OSError:
        return 20
