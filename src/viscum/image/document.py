"""JSON as strangers write it: bounded, and refused where two readers could differ."""

from __future__ import annotations

from ..compact_json import reader
from ..errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["MAX_DOCUMENT", "field", "fields", "list_of", "parse", "text_map", "write"]

MAX_DOCUMENT = 4 << 20
"""Bytes of a manifest, an index or a configuration; registries take no larger ones either."""
MAX_DEPTH = 64


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is there twice")
            seen.add(key)
    return found


def _constant(word: str) -> object:
    raise ValueError(f"{word} is no number of JSON")


class _Strict:
    """What the scanner is told of documents."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_pairs)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's, for one call


_read = reader(_Strict())


def _check_depth(value: object) -> None:
    rest = [(value, 0)]
    while rest:
        one, depth = rest.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        if isinstance(one, dict):
            rest += [(each, depth + 1) for each in one.values()]
        elif isinstance(one, list):
            rest += [(each, depth + 1) for each in one]


def parse(data: bytes, what: str, limit: int = MAX_DOCUMENT) -> dict[str, object]:
    """Return the object that `data` is; raises ImageError naming `what` for anything else."""
    if len(data) > limit:
        raise ImageError(f"{what} has {len(data)} bytes, more than {limit}")
    try:
        value = _read(data)
        _check_depth(value)
        if b"\\u" in data:
            write(value)  # halves of characters are no text
    except RecursionError:
        raise ImageError(f"{what}: it is nested too deep") from None
    except ValueError as error:
        raise ImageError(f"{what} is no usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"{what} is no JSON object")
    return value


def write(value: object) -> bytes:
    """Return `value` as JSON, the same bytes for the same value."""
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def field(value: dict[str, object], key: str, kind: type[T], default: T, what: str) -> T:
    """Return the value of `key` if it is of `kind`, `default` where it is missing or null."""
    found = value.get(key)
    if found is None:
        return default
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise ImageError(f"{what}: {key!r} is {type(found).__name__}, not {kind.__name__}")
    return found


def fields(value: dict[str, object], key: str, what: str) -> dict[str, object]:
    """Return the object at `key`, empty where it is missing."""
    return field(value, key, dict, {}, what)


def list_of(value: dict[str, object], key: str, kind: type[T], what: str) -> list[T]:
    """Return the list at `key`, every item of which is of `kind`; empty where it is missing."""
    found = field(value, key, list, [], what)
    for item in found:
        if not isinstance(item, kind) or (kind is int and isinstance(item, bool)):
            raise ImageError(f"{what}: an item of {key!r} is {type(item).__name__}")
    return found


def text_map(value: dict[str, object], key: str, what: str) -> dict[str, str]:
    """Return the object at `key`, every value of which is text."""
    found = fields(value, key, what)
    for name, text in found.items():
        if not isinstance(text, str):
            raise ImageError(f"{what}: {key!r} has {name!r}, which is no text")
    return found  # type: ignore[return-value]
