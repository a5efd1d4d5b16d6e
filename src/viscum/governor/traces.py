"""CPU traces: comma-separated lines of a name and samples in percent, plain or gzip."""

from __future__ import annotations

from itertools import pairwise

from ..errors import SpecError
from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Trace", "read_traces"]

MAX_FILE = 1 << 30
"""Bytes that a trace may have once it is unpacked."""
MAX_PERCENT = 1e7
GZIP = b"\x1f\x8b"


class Trace(Frozen):
    """One machine's demand: CPUs' worth (1.0 is 100 percent), one sample a period."""

    name: str
    samples: tuple[float, ...]


def read_traces(path: str) -> list[Trace]:
    """Return the traces of a file; raises SpecError with the line that cannot be read.

    Empty lines and lines that begin with `#` are left out, and a heading, as tables have. Names
    and samples may be quoted.
    """
    traces = []
    for place, (number, line) in enumerate(_lines(path)):
        name, words = _cells(path, number, line)
        if place or not _is_heading(name, words):
            traces.append(Trace(name, _samples(path, number, words)))
    if not traces:
        raise SpecError(f"trace {path!r} holds no samples", hint="lines of NAME,PERCENT,PERCENT,…")
    return traces


def _lines(path: str) -> Iterator[tuple[int, str]]:
    size = 0
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if packed:
                import gzip

            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if packed else raw, 1):
                size += len(line)
                if size > MAX_FILE:
                    raise SpecError(  # noqa: TRY301 - the broad except below is for zlib's own
                        f"trace {path!r} has more than {MAX_FILE >> 20} MiB"
                    )
                text = line.decode("utf-8", "replace").strip().lstrip("\ufeff")
                if text and text[0] != "#":
                    yield number, text
    except (OSError, EOFError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SpecError(f"trace {path!r}: {reason}") from None
    except Exception as error:
        if type(error).__module__ != "zlib":
            raise
        raise SpecError(f"trace {path!r}: broken gzip data") from None


def _cells(path: str, number: int, line: str) -> tuple[str, list[str]]:
    """Return a line's name and samples; what is empty at its end is left out."""
    if '"' in line:
        import csv

        try:
            cells = next(csv.reader([line], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise SpecError(f"trace {path!r}, line {number}: {error}") from None
    else:
        cells = line.split(",")
    words = [cell.strip() for cell in cells]
    while words and not words[-1]:
        words.pop()
    return (words[0], words[1:]) if words else ("", [])


def _is_heading(name: str, words: list[str]) -> bool:
    """Whether a first line names columns: in words, or by even steps of numbers, as of time."""
    numbers = [_number(word) for word in words]
    found = [number for number in numbers if number is not None]
    if not found:
        return True
    if len(found) < len(numbers) or len(found) < 3 or name.lower() not in ("", "name"):
        return False
    steps = {after - before for before, after in pairwise(found)}
    return len(steps) == 1 and min(steps) > 0


def _samples(path: str, number: int, words: list[str]) -> tuple[float, ...]:
    if not words:
        raise SpecError(f"trace {path!r}, line {number}: no samples after the name")
    samples = []
    for word in words:
        value = _number(word)
        if value is None or not 0 <= value <= MAX_PERCENT:
            raise SpecError(
                f"trace {path!r}, line {number}: {word[:40]!r} is no percentage",
                hint="lines of NAME,PERCENT,PERCENT,…, each 0 or more",
            )
        samples.append(value / 100.0)
    return tuple(samples)


def _number(word: str) -> float | None:
    """Return what `word` says, also NaN; None where it is no number."""
    try:
        return float(word) if word.isascii() and "_" not in word else None
    except ValueError:
        return None
