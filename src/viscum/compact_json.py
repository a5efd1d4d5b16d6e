"""JSON of Viscum's own small files, by the interpreter's C parts; importing `json` costs 6 ms."""

from __future__ import annotations

from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["dumps", "loads", "reader"]


class _Plain:
    """What `json.JSONDecoder` tells its scanner by default."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's, for one call


def reader(context: object) -> Callable[[bytes], Any]:
    """Return what reads JSON as a `json.JSONDecoder` with the fields of `context` does."""
    scan = make_scanner(context)  # type: ignore[arg-type]

    def read(data: bytes) -> Any:
        text = data.decode("utf-8").strip(" \t\n\r")
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("not JSON") from None
        except SystemError:  # the scanner wants to raise an error of `json`, which is not imported
            import json  # noqa: F401

            value, end = scan(text, 0)
        if end != len(text):
            raise ValueError("more than one value")
        return value

    return read


_read = reader(_Plain())


def loads(data: bytes) -> Any:
    """Return what `data` says; raises ValueError where it is not JSON."""
    return _read(data)


def dumps(value: object) -> str:
    """Return `value`, made of what JSON has, on one line; raises TypeError for anything else."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        pairs = [f"{dumps(str(name))}:{dumps(item)}" for name, item in value.items()]
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    raise TypeError(f"{value!r} is nothing that JSON has")
