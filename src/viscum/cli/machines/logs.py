"""`viscum logs`."""

from __future__ import annotations

import sys

from ...errors import SpecError
from ..moments import parse_moment, timestamp
from .finding import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...logs import LogEntry
    from ..parser import Parsed

__all__ = ["main"]


def _moment(parsed: Parsed, key: str) -> float | None:
    text = parsed.text(key)
    return None if text is None else parse_moment(text, f"--{key}")


def _tail(parsed: Parsed) -> int | None:
    text = parsed.text("tail")
    if text in (None, "all", "-1"):
        return None
    if text is None or not (text.isascii() and text.isdecimal()):
        raise SpecError(f"--tail {text!r} is no number of lines", hint="a number, or all")
    return int(text)


def main(parsed: Parsed) -> int:
    """Print what machines wrote; of several, with the name before each line."""
    since, until, tail = _moment(parsed, "since"), _moment(parsed, "until"), _tail(parsed)
    if not parsed.words:
        raise SpecError("there is no machine named", hint="viscum ps -a lists them")
    follow = parsed.on("follow")
    if follow and len(parsed.words) > 1:
        raise SpecError("only one machine can be followed", hint="viscum logs -f NAME")
    for word in parsed.words:
        machine = find(word)
        head = f"{machine.name}  " if len(parsed.words) > 1 else ""
        for entry in machine.logs(follow=follow, since=since, until=until, tail=tail):
            _show(entry, head, stamped=parsed.on("timestamps"), at_once=follow)
    return 0


def _show(entry: LogEntry, head: str, *, stamped: bool, at_once: bool) -> None:
    stream = sys.stderr if entry.stream == "stderr" else sys.stdout
    stamp = timestamp(entry.time) + " " if stamped else ""
    text = f"{head}{stamp}{entry.text}".encode("utf-8", "replace")
    stream.flush()
    stream.buffer.write(text)
    if at_once:
        stream.buffer.flush()
