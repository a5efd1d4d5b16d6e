"""The journal of events: a line of JSON for each, appended in one write by whoever causes it.

`<run>/events` grows to a bound and becomes `events.1`; so it holds the events of this boot, the
oldest ones dropped. Monitors write to it too (`native/status.c`).
"""

from __future__ import annotations

import os
import time

from .compact_json import dumps, loads
from .errors import ViscumError
from .frozen import Frozen
from .places import make_folder, run_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Event", "events", "events_path", "note", "window_ns"]

MAX_SIZE = 4 << 20
POLL_SECONDS = 0.1


class Event(Frozen):
    """Something that happened to a machine (`kind`: "machine") or to another thing of Viscum.

    `time` is in nanoseconds of the epoch; `name` is the one it had then.
    """

    time: int
    kind: str
    event: str
    id: str
    name: str
    attributes: tuple[tuple[str, str], ...] = ()


def events_path() -> str:
    """Return the path of the journal."""
    return f"{run_folder()}/events"


def note(
    event: str,
    subject: str,
    name: str,
    attributes: Mapping[str, str] | None = None,
    kind: str = "machine",
) -> None:
    """Append an event. That it cannot be written stops nothing: it is only told to nobody."""
    line = {
        "time": time.time_ns(),
        "type": kind,
        "event": event,
        "id": subject,
        "name": name,
        "attributes": dict(attributes or {}),
    }
    try:
        make_folder(run_folder())
        path = events_path()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, dumps(line).encode() + b"\n")
            if os.fstat(fd).st_size > MAX_SIZE:
                os.rename(path, path + ".1")
        finally:
            os.close(fd)
    except (OSError, ViscumError):
        return


def _parse(line: bytes) -> Event | None:
    """Return the event of a line; None for one that was cut off or damaged."""
    try:
        plain = loads(line)
        attributes = tuple((str(k), str(v)) for k, v in plain["attributes"].items())
        words = (plain["type"], plain["event"], plain["id"], plain["name"])
        kind, event, subject, name = map(str, words)
        return Event(int(plain["time"]), kind, event, subject, name, attributes)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _read_all(fd: int) -> bytes:
    parts = []
    while data := os.read(fd, 1 << 16):
        parts.append(data)
    return b"".join(parts)


def _lines(*, follow: bool, until: float | None) -> Iterator[bytes]:
    """Yield the lines of the journal, then those that come; across its turns to a new file. An
    empty one: nothing has come for a moment.
    """
    path = events_path()
    fd, rest = _open(path + ".1"), b""
    if fd >= 0:
        yield from _read_all(fd).splitlines()
        os.close(fd)
        fd = -1
    try:
        while True:
            if fd < 0:
                fd = _open(path)
            *lines, rest = (rest + (_read_all(fd) if fd >= 0 else b"")).split(b"\n")
            yield from lines
            if not follow or (until is not None and time.time() >= until):
                return
            if not lines:
                yield b""
                time.sleep(POLL_SECONDS)
                if fd >= 0 and not _is_current(fd, path):
                    os.close(fd)
                    fd, rest = -1, b""
    finally:
        if fd >= 0:
            os.close(fd)


def _is_current(fd: int, path: str) -> bool:
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return os.fstat(fd).st_nlink > 0
    return (now.st_dev, now.st_ino) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino)


def window_ns(since: float | None, until: float | None) -> tuple[int | None, int | None]:
    """Return two times of the epoch in s as ns, with the whole of the microseconds they fall in: a
    float has no more digits, and a time that was printed has to include what it was printed of.
    """
    begin = None if since is None else round(since * 1e6) * 1000
    end = None if until is None else round(until * 1e6) * 1000 + 999
    return begin, end


def events(
    *,
    since: float | None = None,
    until: float | None = None,
    follow: bool = False,
    seen: Callable[[], Iterable[Event]] = tuple,
) -> Iterator[Event]:
    """Yield events in the order they were written, those between two times of the epoch in s.

    With `follow` it goes on with those that come, until `until`, and with those that `seen`, which
    is asked again and again, returns: what nobody writes down.
    """
    begin, end = window_ns(since, until)
    for line in _lines(follow=follow, until=until):
        if not line:
            yield from seen()
            continue
        event = _parse(line)
        if event is None or (begin is not None and event.time < begin):
            continue
        if end is not None and event.time > end:
            return
        yield event
