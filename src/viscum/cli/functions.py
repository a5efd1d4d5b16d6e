"""The functions of templates, and how values become text."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FUNCTIONS", "FunctionError", "as_text", "truth"]

MAX_WIDTH = 1000


class FunctionError(ValueError):
    """A function was given what it cannot take."""


def as_text(value: object) -> str:
    """Return a value as Go prints it: `true`, `[a b]`, `map[k:v]`; nothing for what is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(as_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{as_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def truth(value: object) -> bool:
    """Return whether a value counts as true: everything but false, 0 and what is empty."""
    return bool(value)


def _text(value: object) -> str:
    if isinstance(value, (dict, list, tuple)):
        raise FunctionError(f"{as_text(value)[:40]!r} is no text")
    return as_text(value)


def _whole(value: object) -> int:
    if isinstance(value, int):
        return int(value)
    raise FunctionError(f"{as_text(value)[:40]!r} is no whole number")


def _json(value: object) -> str:
    import json

    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        raise FunctionError(f"{str(value)[:40]!r} cannot be written as JSON") from None


def _join(values: object, separator: object) -> str:
    if not isinstance(values, (list, tuple)):
        raise FunctionError(f"{as_text(values)[:40]!r} is no list")
    return _text(separator).join(as_text(value) for value in values)


def _split(text: object, separator: object) -> list[str]:
    return _text(text).split(_text(separator)) if _text(separator) else list(_text(text))


def _len(value: object) -> int:
    if isinstance(value, (str, list, tuple, dict)):
        return len(value)
    raise FunctionError(f"{as_text(value)[:40]!r} has no length")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(_text(key), "")
        elif isinstance(value, (list, tuple)):
            if not 0 <= _whole(key) < len(value):
                raise FunctionError(f"there is no item {key} among {len(value)}")
            value = value[_whole(key)]
        else:
            raise FunctionError(f"{as_text(value)[:40]!r} is neither a list nor a map")
    return value


def _truncate(text: object, length: object) -> str:
    return _text(text)[: max(0, _whole(length))]


def _pad(text: object, before: object, after: object) -> str:
    ahead, behind = (max(0, min(_whole(number), MAX_WIDTH)) for number in (before, after))
    return " " * ahead + _text(text) + " " * behind


def _quote(text: str) -> str:
    return _json(text)


def _decimal(value: object) -> str:
    return str(_whole(value))


def _hexadecimal(value: object) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").hex()
    return f"{_whole(value):x}"


def _fixed(value: object) -> str:
    if isinstance(value, (int, float)):
        return f"{value:f}"
    raise FunctionError(f"{as_text(value)[:40]!r} is no number")


_VERBS: dict[str, Callable[[object], str]] = {
    "s": as_text,
    "v": as_text,
    "d": _decimal,
    "q": lambda value: _quote(as_text(value)),
    "x": _hexadecimal,
    "f": _fixed,
    "t": as_text,
}


def _verb(form: str, at: int, values: list[object]) -> tuple[str, int]:
    """Return what the verb at `at` prints, and where it ends."""
    start = at
    while at < len(form) and form[at] in "-0123456789.":
        at += 1
    verb = form[at : at + 1]
    if verb == "%" and at == start:
        return "%", at + 1
    if verb not in _VERBS or not verb:
        raise FunctionError(f"%{form[start : at + 1]} is not known; %s %v %d %q %x %f %t are")
    if not values:
        raise FunctionError(f"there is no value for %{form[start : at + 1]}")
    text = _shaped(form[start:at], _VERBS[verb](values.pop(0)), verb)
    return text, at + 1


def _shaped(flags: str, text: str, verb: str) -> str:
    """Return `text` with the width and the precision that stand before a verb."""
    left = flags[:1] == "-"
    width, dot, precision = flags.lstrip("-").partition(".")
    for number in (width, precision):
        if number and (not number.isdecimal() or int(number[:9]) > MAX_WIDTH or len(number) > 9):
            raise FunctionError(f"%{flags}{verb}: widths go up to {MAX_WIDTH}")
    if dot and verb == "f":
        text = f"{float(text):.{int(precision or 0)}f}"
    elif dot:
        text = text[: int(precision or 0)]
    zeros = width[:1] == "0" and verb in "dxf" and not left
    if zeros:
        return text.zfill(int(width))
    return text.ljust(int(width or 0)) if left else text.rjust(int(width or 0))


def _printf(form: object, *values: object) -> str:
    text, parts, left, at = _text(form), [], list(values), 0
    while (mark := text.find("%", at)) >= 0:
        parts.append(text[at:mark])
        shown, at = _verb(text, mark + 1, left)
        parts.append(shown)
    if left:
        raise FunctionError(f"{len(left)} values more than % marks")
    return "".join([*parts, text[at:]])


def _print(*values: object) -> str:
    return "".join(as_text(value) for value in values)


def _println(*values: object) -> str:
    return " ".join(as_text(value) for value in values) + "\n"


def _compare(left: object, right: object) -> int:
    """Return -1, 0 or 1 of two numbers or two texts."""
    numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise FunctionError(f"{as_text(left)[:20]!r} and {as_text(right)[:20]!r} have no order")
    return int(left > right) - int(left < right)  # type: ignore[operator]


def _equal(left: object, *others: object) -> bool:
    if not others:
        raise FunctionError("it compares two values")
    return any(type(left) is type(other) and left == other for other in others)


def _and(*values: object) -> object:
    return next((value for value in values if not value), values[-1] if values else True)


def _or(*values: object) -> object:
    return next((value for value in values if value), values[-1] if values else False)


FUNCTIONS: dict[str, Callable[..., object]] = {
    "json": _json,
    "upper": lambda text: _text(text).upper(),
    "lower": lambda text: _text(text).lower(),
    "title": lambda text: _text(text).title(),
    "join": _join,
    "split": _split,
    "len": _len,
    "index": _index,
    "printf": _printf,
    "print": _print,
    "println": _println,
    "truncate": _truncate,
    "pad": _pad,
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "lt": lambda left, right: _compare(left, right) < 0,
    "le": lambda left, right: _compare(left, right) <= 0,
    "gt": lambda left, right: _compare(left, right) > 0,
    "ge": lambda left, right: _compare(left, right) >= 0,
    "and": _and,
    "or": _or,
    "not": lambda value: not value,
}
"""By their names in templates; each raises FunctionError, or TypeError for wrong counts."""
