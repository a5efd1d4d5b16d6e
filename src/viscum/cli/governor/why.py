"""`viscum governor why`: the governor's last decisions about a machine."""

from __future__ import annotations

import time
from collections import deque

from ...errors import MachineError, SpecError
from ...governor.decisions import entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

LAST = 20


def main(parsed: Parsed) -> int:
    """Print time, limit, old and new value, rule and signal of each of the last decisions."""
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise SpecError(f"format {form!r} is unknown", hint="text or json")
    if len(parsed.words) != 1:
        raise SpecError("one machine is needed", hint="viscum governor why NAME")
    name = parsed.words[0]
    rows = list(deque(entries(name), maxlen=_count(parsed.text("last"))))
    if not rows:
        raise MachineError(
            f"the governor has not changed a limit of {name!r}",
            hint="does it run, and has the machine bounds? (--cpus MIN..MAX)",
        )
    if form == "json":
        import json

        print(json.dumps(rows))
        return 0
    for row in rows:
        print(_line(row))
    return 0


def _count(text: str | None) -> int:
    if text is None:
        return LAST
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1 << 20):
        raise SpecError(f"--last {text!r} is no number of changes", hint="from 1 up")
    return int(text)


def _line(row: dict[str, object]) -> str:
    moment = float(row["time"])  # type: ignore[arg-type]
    clock = time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment * 1000) % 1000:03d}"
    if row["what"] == "none":
        return f"{clock}  {'none':<6}  {'':>9}    {'':<9}  {row['rule']:<16}  {row['signal']}"
    old, new = (_amount(row, key) for key in ("old", "new"))
    return f"{clock}  {row['what']:<6}  {old:>9} -> {new:<9}  {row['rule']:<16}  {row['signal']}"


def _amount(row: dict[str, object], key: str) -> str:
    value = float(row[key])  # type: ignore[arg-type]
    if row["what"] == "home":
        return f"CPU {value:.0f}" if key == "new" else "any CPU"
    return f"{value / (1 << 20):.0f} MiB" if row["what"] == "memory" else f"{value:.3f}"
