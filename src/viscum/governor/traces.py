"""CPU traces: comma-separated lines of a name and samples in percent, plain or gzip."""

from __future__ import annotations

import math

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

    Empty lines and lines that begin with `#` are left out. A first line that holds no number, as
    tables have, is taken for a heading.
    """
    traces = []
    for number, line in _lines(path):
        trace = _parse(path, number, line)
        if trace is not None:
            traces.append(trace)
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


def _parse(path: str, number: int, line: str) -> Trace | None:
    name, _, rest = line.partition(",")
    words = [word for word in rest.split(",") if word.strip()]
    samples: list[float] = []
    for word in words:
        value = _number(word)
        if value is None:
            if not samples and number == 1 and all(_number(other) is None for other in words):
                return None
            raise SpecError(
                f"trace {path!r}, line {number}: {word.strip()[:40]!r} is no percentage",
                hint="lines of NAME,PERCENT,PERCENT,…, each 0 or more",
            )
        samples.append(value / 100.0)
    if not samples:
        if number == 1:
            return None
        raise SpecError(f"trace {path!r}, line {number}: no samples after the name")
    return Trace(name.strip(), tuple(samples))


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= MAX_PERCENT else None
