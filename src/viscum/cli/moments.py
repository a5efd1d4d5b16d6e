"""Times and durations as people type them."""

from __future__ import annotations

import time

from ..errors import SpecError

__all__ = ["parse_duration", "parse_moment", "timestamp"]

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 1e9


def parse_duration(text: str, flag: str) -> float:
    """Return seconds from `90`, `1m30s`, `500ms`, `2h`; raises SpecError."""
    rest, seconds = text.strip(), 0.0
    if rest.replace(".", "", 1).isdecimal() and rest.isascii():
        seconds, rest = float(rest), ""
    elif not rest:
        rest = "?"
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = next((name for name in UNITS if rest.startswith(name)), "")
        if not unit or not digits.replace(".", "", 1).isdecimal():
            raise SpecError(f"{flag} {text!r} is no duration", hint="such as 30s, 1m30s or 500ms")
        seconds += float(digits) * UNITS[unit]
        rest = rest[len(unit) :]
    if seconds > LONGEST:
        raise SpecError(f"{flag} {text!r} is too long", hint="at most 1e9 seconds")
    return seconds


def parse_moment(text: str, flag: str) -> float:
    """Return seconds of the epoch from a duration ago, a unix time or RFC 3339; or SpecError."""
    word = text.strip()
    if word.isascii() and word.replace(".", "", 1).isdecimal():
        return float(word)
    if word[:4].isdecimal() and word[4:5] == "-":
        from datetime import datetime

        try:
            return datetime.fromisoformat(word).timestamp()
        except ValueError:
            raise SpecError(f"{flag} {text!r} is no time", hint="2026-01-31T12:00:00Z") from None
    try:
        return time.time() - parse_duration(word, flag)
    except SpecError:
        raise SpecError(
            f"{flag} {text!r} is no time", hint="10m (ago), 2026-01-31T12:00:00Z, or a unix time"
        ) from None


def timestamp(nanoseconds: int) -> str:
    """Return nanoseconds of the epoch in RFC 3339, UTC; the year 1 for 0, as others print it."""
    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{whole}.{nanoseconds % 1_000_000_000:09d}Z"
