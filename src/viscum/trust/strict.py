"""JSON read strictly: what is unknown, doubled, too deep or of a wrong type is an error.

Every value knows its path, so an error says where in which file something is wrong.
"""

from __future__ import annotations

import base64
import binascii

from ..compact_json import dumps, reader
from ..errors import TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_BYTES", "Value", "decode_base64", "member_path", "read_json"]

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64


class _Members(list[tuple[str, object]]):
    """The members of an object as they stood, doubled ones included."""


def _constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


class _Rules:
    """What the scanner is told."""

    strict = True
    object_hook = None
    object_pairs_hook = _Members
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's, for one call


_read = reader(_Rules())


def member_path(path: str, name: str) -> str:
    """Return the path of the member `name` of the object at `path`."""
    plain = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return f"{path}.{name}" if plain else f"{path}[{dumps(name)}]"


class Value:
    """A JSON value that knows where it stands; its readers raise TrustError for a wrong type."""

    __slots__ = ("_raw", "path", "source")

    def __init__(self, raw: object, path: str, source: str) -> None:
        self._raw = raw
        self.path = path
        self.source = source

    def wrong(self, reason: str, hint: str = "") -> TrustError:
        """Return the error that says what is wrong with this value."""
        return TrustError(f"{self.source}: {self.path}: {reason}", hint=hint)

    def _typed(self, kind: type, name: str) -> object:
        if type(self._raw) is not kind:
            raise self.wrong(f"must be {name}")
        return self._raw

    def members(self) -> dict[str, Value]:
        """Return the members of an object, whatever their names."""
        raw = self._typed(_Members, "an object")
        found: dict[str, Value] = {}
        for name, value in raw:  # type: ignore[attr-defined]
            if name in found:
                raise self.wrong(f"{name!r} stands there twice")
            found[name] = Value(value, member_path(self.path, name), self.source)
        return found

    def fields(self, required: str, optional: str = "") -> dict[str, Value]:
        """Return the members of an object that must have `required` and may have `optional`."""
        found = self.members()
        known = {*required.split(), *optional.split()}
        for name in found:
            if name not in known:
                raise self.wrong(f"unknown key {name!r}", f"known are {', '.join(sorted(known))}")
        for name in required.split():
            if name not in found:
                raise self.wrong(f"lacks the key {name!r}")
        return found

    def items(self) -> Iterator[Value]:
        """Yield the items of an array."""
        raw = self._typed(list, "an array")
        for index, value in enumerate(raw):  # type: ignore[arg-type,var-annotated]
            yield Value(value, f"{self.path}[{index}]", self.source)

    def text(self) -> str:
        """Return a string."""
        return str(self._typed(str, "a string"))

    def word(self, *choices: str) -> str:
        """Return a string that is one of `choices`."""
        text = self.text()
        if text not in choices:
            raise self.wrong(f"{text!r} is unknown", f"one of {', '.join(choices)}")
        return text

    def texts(self) -> tuple[str, ...]:
        """Return an array of strings that has at least one."""
        found = tuple(item.text() for item in self.items())
        if not found:
            raise self.wrong("must not be empty")
        return found

    def boolean(self) -> bool:
        """Return true or false."""
        return self._typed(bool, "true or false") is True

    def integer(self) -> int:
        """Return a whole number."""
        return int(self._typed(int, "a whole number"))  # type: ignore[call-overload,no-any-return]

    def base64(self) -> bytes:
        """Return the bytes that a base64 string stands for."""
        try:
            return decode_base64(self.text())
        except ValueError:
            raise self.wrong("is not base64") from None

    @property
    def absent(self) -> bool:
        """Whether this is null."""
        return self._raw is None

    def plain(self) -> object:
        """Return the value as Python has it; raises for doubled keys anywhere in it."""
        if isinstance(self._raw, _Members):
            return {name: value.plain() for name, value in self.members().items()}
        if isinstance(self._raw, list):
            return [item.plain() for item in self.items()]
        return self._raw


def decode_base64(text: str) -> bytes:
    """Decode base64 and nothing else; raises ValueError."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError("not base64") from None


def _check_depth(raw: object, source: str) -> None:
    level, layer = 0, [raw]
    while layer:
        level += 1
        if level > MAX_DEPTH:
            raise TrustError(f"{source}: is nested more than {MAX_DEPTH} deep")
        inner: list[object] = []
        for value in layer:
            if isinstance(value, _Members):
                inner += (member for _, member in value)
            elif isinstance(value, list):
                inner += value
        layer = inner


def read_json(data: bytes, source: str, *, limit: int = MAX_BYTES) -> Value:
    """Parse `data` and return its top; `source` names it in errors.

    Raises TrustError for anything that is not one JSON value of UTF-8, or larger than `limit`.
    """
    if len(data) > limit:
        raise TrustError(f"{source}: has {len(data)} bytes, more than {limit}")
    try:
        raw = _read(data)
        if b"\\u" in data:
            import json

            json.dumps(raw, ensure_ascii=False).encode()  # halves of characters are no text
    except RecursionError:
        raise TrustError(f"{source}: is nested too deep") from None
    except ValueError as error:  # of the decoder, of JSON, and of numbers without an end
        reason = str(error).replace("\n", " ")
        raise TrustError(f"{source}: is not JSON: {reason}") from None
    _check_depth(raw, source)
    return Value(raw, "$", source)
