"""Reads JSON that comes from anywhere: every value is checked against a shape before it is used.

Unknown members are ignored and null counts as absent, as the specification's reference reads it.
Two equal names in one object are refused: readers differ on which of them counts.

The scanner is that of the standard library, without the module `json`, whose import takes longer
than all else that reading takes.
"""

from __future__ import annotations

import os
from _json import encode_basestring_ascii as _quote
from _json import make_scanner

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never

    from .schema import Shape

__all__ = ["check", "dump", "parse", "read_file"]

MAX_SIZE = 8 << 20
MAX_DEPTH = 64
_RANGES = {
    "i32": (-(1 << 31), (1 << 31) - 1),
    "u16": (0, (1 << 16) - 1),
    "u32": (0, (1 << 32) - 1),
    "id": (0, (1 << 32) - 2),
    "seconds": (1, (1 << 31) - 1),
    "i64": (-(1 << 63), (1 << 63) - 1),
    "u64": (0, (1 << 64) - 1),
}
_SPACE = " \t\n\r"


class _Context:
    """What the scanner asks for (json.decoder.JSONDecoder has the same)."""

    strict = True
    object_hook = None
    parse_float = float

    @staticmethod
    def parse_int(text: str) -> int:
        """Return a whole number; longer ones than any field takes are not even converted."""
        if len(text) > 24:
            raise SpecError(f"the number {text[:24]}... has too many digits")
        return int(text)

    @staticmethod
    def parse_constant(text: str) -> Never:
        """Refuse NaN and the infinities, which JSON does not know."""
        raise SpecError(f"holds {text}, which JSON does not know")

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Return an object's members; refuse equal names."""
        members = dict(pairs)
        if len(members) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise SpecError(f"holds {name!r} twice in one object")
                seen.add(name)
        return members

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


def parse(data: bytes, what: str) -> Any:
    """Return the value that `data` holds as JSON; `what` names it in errors."""
    if len(data) > MAX_SIZE:
        raise SpecError(f"{what} has {len(data)} bytes", hint=f"at most {MAX_SIZE} are read")
    try:
        text = data.decode()
        start = 0
        while text[start : start + 1] in _SPACE and start < len(text):
            start += 1
        value, end = make_scanner(_Context())(text, start)  # type: ignore[arg-type]
    except UnicodeDecodeError as error:
        raise SpecError(f"{what} is not UTF-8: byte {error.start}") from None
    except StopIteration as stop:
        where = "it is empty or cut short" if stop.value >= len(text) else f"byte {stop.value}"
        raise SpecError(f"{what} is not JSON: {where}") from None
    except SystemError:  # the scanner has something to say, in a class of a module not imported yet
        __import__("json.decoder")
        return parse(data, what)
    except RecursionError:
        raise SpecError(f"{what} is nested too deeply") from None
    except SpecError as error:
        raise SpecError(f"{what}: {error.message}") from None
    except ValueError as error:
        raise SpecError(f"{what} is not JSON: {str(error).lower()}") from None
    if text[end:].strip(_SPACE):
        raise SpecError(f"{what} is not JSON: more follows after byte {end}")
    return value


def read_file(path: str, what: str) -> bytes:
    """Return what a regular file holds; raises SpecError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpecError(f"{what} {path!r}: {(error.strerror or '').lower()}") from None
    except ValueError:
        raise SpecError(f"{what} {path!r} contains a NUL byte") from None
    try:
        is_ = os.fstat(fd)
        if is_.st_mode & 0o170000 != 0o100000:
            raise SpecError(f"{what} {path!r} is not a regular file")
        if is_.st_size > MAX_SIZE:
            raise SpecError(
                f"{what} {path!r} has {is_.st_size} bytes", hint=f"at most {MAX_SIZE} are read"
            )
        data = b""
        while part := os.read(fd, MAX_SIZE + 1 - len(data)):
            data += part
    except OSError as error:
        raise SpecError(f"{what} {path!r}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(fd)
    return data


def _show(value: object) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "null" if value is None else ascii(value)
    return text if len(text) <= 64 else f"{text[:60]}..."


def _refuse(where: str, value: object, wanted: str) -> Never:
    raise SpecError(f"{where or 'config.json'} is {_show(value)}, not {wanted}")


def _check_text(value: str, where: str) -> None:
    if "\0" in value:
        raise SpecError(f"{where} contains a NUL byte")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SpecError(f"{where} is not text that can be encoded") from None


def _check_simple(value: object, kind: str, where: str) -> None:
    if kind == "s":
        if not isinstance(value, str):
            _refuse(where, value, "a string")
        _check_text(value, where)
    elif kind == "b":
        if not isinstance(value, bool):
            _refuse(where, value, "true or false")
    else:
        low, high = _RANGES[kind]
        if type(value) is not int or not low <= value <= high:
            _refuse(where, value, f"a whole number from {low} to {high}")


def check(value: object, shape: Shape, where: str) -> Any:
    """Return `value` without what is null in it, once it has that shape; raises SpecError."""
    if isinstance(shape, str):
        _check_simple(value, shape, where)
        return value
    if isinstance(shape, list):
        if not isinstance(value, list):
            _refuse(where, value, "a list")
        inner = shape[0]
        if inner == "s":
            for at, each in enumerate(value):
                _check_simple(each, "s", f"{where}[{at}]")
            return value
        return [check(each, inner, f"{where}[{at}]") for at, each in enumerate(value)]
    if not isinstance(value, dict):
        _refuse(where, value, "an object")
    if "*" in shape:
        return _check_map(value, shape["*"], where)
    return _check_object(value, shape, where)


def _check_map(value: dict[str, object], inner: Shape, where: str) -> dict[str, object]:
    checked = {}
    for name, each in value.items():
        _check_text(name, where)
        if each is not None:
            checked[name] = check(each, inner, f"{where}[{name!r}]")
    return checked


def _check_object(value: dict[str, object], shape: dict[str, Shape], where: str) -> dict[str, Any]:
    checked = {}
    for name, inner in shape.items():
        needed = name[-1] == "!"
        key = name[:-1] if needed else name
        each = value.get(key)
        path = f"{where}.{key}" if where else key
        if each is not None:
            checked[key] = check(each, inner, path)
        elif needed:
            raise SpecError(f"{path} is missing")
    return checked


def dump(value: object, indent: str = "", step: str = "") -> str:
    """Return plain data as JSON: on one line, or with `step` indented by it."""
    if isinstance(value, str):
        return str(_quote(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    deeper = indent + step
    gap = "\n" + deeper if step else ""
    end = "\n" + indent if step else ""
    if isinstance(value, dict):
        parts = [
            f"{_quote(str(k))}:{' ' if step else ''}{dump(v, deeper, step)}"
            for k, v in value.items()
        ]
        return "{" + gap + ("," + gap).join(parts) + end + "}" if parts else "{}"
    if isinstance(value, list | tuple):
        parts = [dump(each, deeper, step) for each in value]
        return "[" + gap + ("," + gap).join(parts) + end + "]" if parts else "[]"
    raise TypeError(f"{type(value).__name__} is not plain data")
