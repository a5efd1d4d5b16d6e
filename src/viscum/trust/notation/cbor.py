"""As much of CBOR (RFC 8949) as COSE envelopes need, read strictly and written deterministically.

Lengths must be definite and as short as can be, map keys must differ, and nothing may follow.
Floats, big numbers, and tags but those for an envelope and a time are refused.
"""

from __future__ import annotations

from ...errors import TrustError

__all__ = ["Tagged", "decode", "encode"]

MAX_DEPTH = 16
_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_TAGS = (1, 18)  # an epoch time, COSE_Sign1
_SIMPLE = {20: False, 21: True, 22: None}


class Tagged:
    """A value under a tag."""

    __slots__ = ("tag", "value")

    def __init__(self, tag: int, value: object) -> None:
        self.tag = tag
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tagged):
            return False
        return (self.tag, self.value) == (other.tag, other.value)

    def __hash__(self) -> int:
        return hash((self.tag, repr(self.value)))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.place:
            raise TrustError("CBOR: ends too early")
        self.place += size
        return self.data[self.place - size : self.place]

    def head(self) -> tuple[int, int]:
        """Return a major type and its argument."""
        first = self.take(1)[0]
        major, argument = first >> 5, first & 31
        if argument < 24:
            return major, argument
        if argument not in _BYTES:
            raise TrustError("CBOR: indefinite and reserved lengths are refused")
        value = int.from_bytes(self.take(_BYTES[argument]), "big")
        if value < (24, 1 << 8, 1 << 16, 1 << 32)[argument - 24]:
            raise TrustError("CBOR: a length is longer than it must be")
        return major, value

    def value(self, depth: int = 0) -> object:
        if depth > MAX_DEPTH:
            raise TrustError(f"CBOR: is nested more than {MAX_DEPTH} deep")
        major, argument = self.head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            return self.text(argument)
        if major == 4:
            return [self.value(depth + 1) for _ in range(self.count(argument))]
        if major == 5:
            return self.mapping(self.count(argument * 2) // 2, depth)
        if major == 6:
            if argument not in _TAGS:
                raise TrustError(f"CBOR: tag {argument} is refused")
            return Tagged(argument, self.value(depth + 1))
        if argument not in _SIMPLE:
            raise TrustError("CBOR: floats and unknown simple values are refused")
        return _SIMPLE[argument]

    def count(self, items: int) -> int:
        """Refuse more items than there are bytes left, before any room is made for them."""
        if items > len(self.data) - self.place:
            raise TrustError("CBOR: ends too early")
        return items

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode("utf-8")
        except UnicodeDecodeError:
            raise TrustError("CBOR: a text is not UTF-8") from None

    def mapping(self, size: int, depth: int) -> dict[int | str, object]:
        found: dict[int | str, object] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if type(key) not in (int, str):
                raise TrustError("CBOR: a key is neither a number nor a text")
            if key in found:
                raise TrustError(f"CBOR: the key {key!r} stands there twice")
            found[key] = self.value(depth + 1)  # type: ignore[index]
        return found


def decode(data: bytes) -> object:
    """Return the one value that `data` is; raises TrustError."""
    reader = _Reader(data)
    value = reader.value()
    if reader.place != len(data):
        raise TrustError("CBOR: something follows the value")
    return value


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in _BYTES.items():
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise ValueError(f"{argument} is too large")


def encode(value: object) -> bytes:
    """Return the encoding of a value of the kinds that `decode` returns, keys sorted."""
    if isinstance(value, bool) or value is None:
        return bytes([0xE0 | {False: 20, True: 21, None: 22}[value]])
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(encode(item) for item in value)
    if isinstance(value, dict):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return _head(5, len(value)) + b"".join(key + item for key, item in pairs)
    if isinstance(value, Tagged):
        return _head(6, value.tag) + encode(value.value)
    raise ValueError(f"{type(value).__name__} has no encoding here")
