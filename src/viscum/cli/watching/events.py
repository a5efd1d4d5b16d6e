"""`viscum events`: what happens to machines, as it happens."""

from __future__ import annotations

import sys

from ...errors import SpecError
from ...journal import Event, events
from ..filters import Filters
from ..format import printer
from ..listing import emit, printable
from ..moments import parse_moment, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main", "row"]

BILLION = 1_000_000_000


def row(event: Event) -> dict[str, object]:
    """Return what templates and JSON see of an event; where Docker has it, by the same name."""
    attributes = {"name": event.name, **dict(event.attributes)}
    return {
        "Type": event.kind,
        "Action": event.event,
        "Status": event.event,
        "ID": event.id,
        "Name": event.name,
        "Attributes": attributes,
        "Actor": {"ID": event.id, "Attributes": attributes},
        "Time": event.time // BILLION,
        "TimeNano": event.time,
        "TimeStamp": timestamp(event.time),
    }


def _is_machine(row: dict[str, object], wanted: str) -> bool:
    return row["Name"] == wanted or (len(wanted) > 1 and str(row["ID"]).startswith(wanted))


TESTS = {
    "machine": _is_machine,
    "container": _is_machine,
    "event": lambda row, value: row["Action"] == value,
    "type": lambda row, value: row["Type"] == {"container": "machine"}.get(value, value),
}


def line(event: Event) -> str:
    """Return an event as a line for people."""
    more = ", ".join(f"{name}={value}" for name, value in [("name", event.name), *event.attributes])
    text = f"{timestamp(event.time)} {event.kind} {event.event} {event.id} ({more})"
    return printable(text) + "\n"


def main(parsed: Parsed) -> int:
    """Print events, and go on with those that come, until interrupted or `--until`."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="--filter machine=NAME")
    form = parsed.text("format")
    show = None if form is None else printer(form)
    filters = Filters(parsed.texts("filter"), TESTS)
    times = {}
    for key in ("since", "until"):
        text = parsed.text(key)
        times[key] = None if text is None else parse_moment(text, f"--{key}")
    if times["since"] is None and not parsed.on("no_stream") and times["until"] is None:
        import time

        times["since"] = time.time()
    strain = None
    if not parsed.on("no_stream"):
        from .strain import Strain

        strain = Strain()
    try:
        for event in events(**times, follow=bool(strain), seen=strain.events if strain else tuple):
            told = row(event)
            if filters.match(told):
                emit(line(event) if show is None else show(told))
                sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return 0
    finally:
        if strain:
            strain.close()
    return 0
