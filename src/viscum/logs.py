"""Reading a machine's log: JSON lines, over the turns to a new file, and as they come.

Each line is {"log": …, "stream": "stdout" or "stderr", "time": …} (RFC 3339, UTC); a line of the
machine that was too long is several records, of which only the last one ends in a newline.
"""

from __future__ import annotations

import calendar
import os
import time

from .compact_json import loads
from .errors import MachineError
from .frozen import Frozen
from .journal import window_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .registry import Record

__all__ = ["LogEntry", "entries"]

POLL_SECONDS = 0.05
BLOCK = 1 << 16
MAX_FILES = 1000


class LogEntry(Frozen):
    """A line that a machine wrote: when (ns of the epoch), to which stream, and what."""

    time: int
    stream: str
    text: str


def parse_time(text: str) -> int:
    """Return the nanoseconds of the epoch of a time stamp of the log; raises ValueError."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int((fraction + "0" * 9)[:9] or 0)


def _parse(line: bytes) -> LogEntry | None:
    try:
        plain = loads(line)
        return LogEntry(parse_time(plain["time"]), str(plain["stream"]), str(plain["log"]))
    except (ValueError, KeyError, TypeError):
        return None


def _files(record: Record) -> list[str]:
    """Return the log's files, the oldest first."""
    older = []
    for number in range(1, MAX_FILES):
        path = record.path(f"log.{number}")
        if not os.path.exists(path):
            break
        older.append(path)
    return [*reversed(older), record.path("log")]


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise MachineError(f"{path!r}: {(error.strerror or '').lower()}") from None


def _tail_offset(fd: int, lines: int) -> tuple[int, int]:
    """Return where the last `lines` lines of a file begin, and how many there are."""
    at, seen = os.fstat(fd).st_size, 0
    while at > 0:
        start = max(0, at - BLOCK)
        block = os.pread(fd, at - start, start)
        end = len(block)
        while (found := block.rfind(b"\n", 0, end)) >= 0:
            if start + found + 1 < os.fstat(fd).st_size:
                seen += 1
                if seen == lines:
                    return start + found + 1, lines
            end = found
        at = start
    return 0, seen + 1 if os.fstat(fd).st_size else 0


def _start(paths: list[str], tail: int | None) -> Iterator[tuple[int, int]]:
    """Yield a descriptor of each file to read and where to begin in it."""
    begins: list[tuple[str, int]] = [(path, 0) for path in paths]
    if tail is not None:
        begins, left = [], tail
        for path in reversed(paths):
            fd = _open(path)
            if fd < 0:
                continue
            offset, count = _tail_offset(fd, left) if left else (os.fstat(fd).st_size, 0)
            os.close(fd)
            begins.insert(0, (path, offset))
            left -= count
            if left <= 0:
                break
    for path, offset in begins:
        fd = _open(path)
        if fd >= 0:
            os.lseek(fd, offset, os.SEEK_SET)
            yield fd, offset


def _lines(record: Record, tail: int | None, follow: Callable[[], bool] | None) -> Iterator[bytes]:
    """Yield lines; with `follow`, those that come while it says that the machine goes on."""
    rest, fd = b"", -1
    try:
        for opened, _ in _start(_files(record), tail):
            if fd >= 0:
                os.close(fd)
            fd = opened
            while data := os.read(fd, BLOCK):
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
        going = True
        while follow is not None and going:
            going = follow()
            fd, more = _more(record, fd)
            *lines, rest = (rest + more).split(b"\n")
            yield from lines
            if going and not more:
                time.sleep(POLL_SECONDS)
    finally:
        if fd >= 0:
            os.close(fd)


def _rest(fd: int) -> bytes:
    parts = []
    while chunk := os.read(fd, BLOCK):
        parts.append(chunk)
    return b"".join(parts)


def _more(record: Record, fd: int) -> tuple[int, bytes]:
    """Return what has come since: the rest of the file, and of those that it was turned to."""
    if fd < 0:
        fd = _open(record.path("log"))
        return fd, _rest(fd) if fd >= 0 else b""
    data, own = _rest(fd), os.fstat(fd)
    newer: list[int] = []
    for path in reversed(_files(record)):
        opened = _open(path)
        if opened < 0:
            continue
        newer.append(opened)
        if os.path.samestat(os.fstat(opened), own):
            break
    for opened in reversed(newer):
        if not os.path.samestat(os.fstat(opened), own):
            data += _rest(fd)  # of the moment between its end and its turn
            os.close(fd)
            fd, own = opened, os.fstat(opened)
            data += _rest(fd)
        else:
            os.close(opened)
    return fd, data


def entries(
    record: Record,
    *,
    since: float | None = None,
    until: float | None = None,
    tail: int | None = None,
    follow: Callable[[], bool] | None = None,
) -> Iterator[LogEntry]:
    """Yield what a machine wrote between two times of the epoch in s; of that the last `tail`.

    `follow` is asked whether more may come; without it the log is read as it is now.
    """
    begin, end = window_ns(since, until)
    for line in _lines(record, tail, follow):
        entry = _parse(line)
        if entry is None or (begin is not None and entry.time < begin):
            continue
        if end is not None and entry.time > end:
            return
        yield entry
