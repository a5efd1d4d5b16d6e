"""Tables that fit the terminal, and how times, sizes and colours are written."""

from __future__ import annotations

import os
import sys

from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Column",
    "ago",
    "colours",
    "duration",
    "emit",
    "fit",
    "lay_out",
    "paint",
    "printable",
    "size",
    "terminal_width",
    "width_of",
]

GAP = "   "
MINIMUM_WIDTH = 20
CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


class Column(Frozen):
    """A column: the field it shows, its heading, and how it yields where a table is too wide.

    Columns with the highest `yields` are shortened first, down to `least`; 0 never yields.
    `front` shortens at the front, for what differs at its end, such as paths. `colours` has the
    colour of a value by its first word.
    """

    key: str
    heading: str
    yields: int = 0
    least: int = 8
    front: bool = False
    right: bool = False
    colours: Mapping[str, str] = {}


# What is written.


def printable(text: str) -> str:
    """Return `text` with what would move the cursor, or worse, written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def emit(text: str) -> None:
    """Write data to standard output, bytes of file names as they are."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)


def width_of(text: str) -> int:
    """Return how many cells of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )


def fit(text: str, width: int, *, front: bool = False) -> str:
    """Return `text` in at most `width` cells, with … for what was left out."""
    if width_of(text) <= width:
        return text
    kept, left = [], width - 1
    for character in reversed(text) if front else text:
        left -= width_of(character)
        if left < 0:
            break
        kept.append(character)
    if width < 1:
        return ""
    return "…" + "".join(reversed(kept)) if front else "".join(kept) + "…"


# The terminal.


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is, None where it is none."""
    try:
        return max(MINIMUM_WIDTH, os.get_terminal_size(1).columns) if os.isatty(1) else None
    except OSError:
        return None


def colours() -> bool:
    """Return whether standard output takes colours; https://no-color.org is kept to."""
    return os.isatty(1) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return `text` in a colour of CODES."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if colour else text


# Tables.


def _widths(cells: Sequence[Sequence[str]], columns: Sequence[Column], width: int) -> list[int]:
    """Return how wide each column may be, so that a line is at most `width` wide."""
    widths = [max(width_of(row[n]) for row in cells) for n in range(len(columns))]
    over = sum(widths) + len(GAP) * (len(columns) - 1) - width
    for level in sorted({column.yields for column in columns if column.yields}, reverse=True):
        while over > 0:
            able = [
                n
                for n, column in enumerate(columns)
                if column.yields == level and widths[n] > column.least
            ]
            if not able:
                break
            widest = max(able, key=lambda n: widths[n])
            widths[widest] -= 1
            over -= 1
    return widths


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    parts = []
    for text, width, column in zip(cells, widths, columns, strict=True):
        shown = fit(text, width, front=column.front)
        space = " " * (width - width_of(shown))
        parts.append(space + shown if column.right else shown + space)
    return GAP.join(parts).rstrip()


def _coloured(line: str, row: Sequence[str], columns: Sequence[Column]) -> str:
    for text, column in zip(row, columns, strict=True):
        colour = column.colours.get(text.partition(" ")[0], "") if column.colours else ""
        if colour and text in line:
            at = line.index(text)
            line = line[:at] + paint(text, colour) + line[at + len(text) :]
    return line


def lay_out(
    rows: Sequence[Sequence[str]],
    columns: Sequence[Column],
    *,
    width: int | None = None,
    coloured: bool = False,
    headings: bool = True,
) -> list[str]:
    """Return the lines of a table, each at most `width` wide where that is given."""
    cells = [[printable(text) for text in row] for row in rows]
    head = [[column.heading for column in columns]] if headings else []
    if not head and not cells:
        return []
    limit = width if width is not None else 1 << 30
    widths = _widths([*head, *cells], columns, limit)
    lines = [fit(_line(row, widths, columns), limit) for row in [*head, *cells]]
    if not coloured:
        return lines
    body = [
        _coloured(line, row, columns) for line, row in zip(lines[len(head) :], cells, strict=True)
    ]
    return [paint(line, "bold") for line in lines[: len(head)]] + body


# Times and sizes.

_STEPS = (
    (1, "second", 60),
    (60, "minute", 60),
    (3600, "hour", 48),
    (86400, "day", 14),
    (7 * 86400, "week", 9),
    (30 * 86400, "month", 24),
    (365 * 86400, "year", 1 << 60),
)


def duration(seconds: float) -> str:
    """Return a length of time in its largest fitting unit: `3 minutes`."""
    whole = max(0, int(min(seconds, 1e18)))
    if whole < 1:
        return "less than a second"
    unit, name = next((unit, name) for unit, name, below in _STEPS if whole // unit < below)
    count = max(1, whole // unit)
    return f"{count} {name}" + ("s" if count != 1 else "")


def ago(moment: float, now: float) -> str:
    """Return when `moment` was: `3 minutes ago`; `in …` where a clock jumped."""
    if moment <= now:
        return duration(now - moment) + " ago"
    return "in " + duration(moment - now)


def size(count: float, *, decimal: bool = False) -> str:
    """Return a number of bytes to three digits: `1.46MiB`, or `1.53MB` in powers of 1000."""
    base, units = (1000, "B kB MB GB TB PB EB") if decimal else (1024, "B KiB MiB GiB TiB PiB EiB")
    value, names = float(max(0, count)), units.split()
    while value >= base - 0.5 and len(names) > 1:
        value /= base
        names.pop(0)
    shown = f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
    return shown + names[0]
