"""NaCl's secretbox: XSalsa20 and Poly1305, for the few hundred bytes of a cosign key file.

Salsa20 is written out because `cryptography` lacks it; it is for key files alone, too slow for
more. The reference is D. J. Bernstein, "Extending the Salsa20 nonce" and the NaCl specification.
"""

from __future__ import annotations

import hmac
import struct

__all__ = ["make_box", "open_box"]

_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip
_MASK = 0xFFFFFFFF


def _rotate(value: int, bits: int) -> int:
    value &= _MASK
    return value << bits & _MASK | value >> 32 - bits


def _rounds(state: list[int]) -> list[int]:
    """Return the state after ten double rounds, without the final addition."""
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _rotate(x[a] + x[d], 7)
            x[c] ^= _rotate(x[b] + x[a], 9)
            x[d] ^= _rotate(x[c] + x[b], 13)
            x[a] ^= _rotate(x[d] + x[c], 18)
    return x


def _state(key: bytes, middle: bytes) -> list[int]:
    k, n, s = struct.unpack("<8I", key), struct.unpack("<4I", middle), _SIGMA
    return [s[0], *k[:4], s[1], *n, s[2], *k[4:], s[3]]


def _hsalsa(key: bytes, nonce: bytes) -> bytes:
    x = _rounds(_state(key, nonce))
    return struct.pack("<8I", *(x[index] for index in (0, 5, 10, 15, 6, 7, 8, 9)))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    derived = _hsalsa(key, nonce[:16])
    stream = bytearray()
    for counter in range(-(-size // 64)):
        state = _state(derived, nonce[16:] + struct.pack("<Q", counter))
        words = (a + b & _MASK for a, b in zip(_rounds(state), state, strict=True))
        stream += struct.pack("<16I", *words)
    return bytes(stream[:size])


def _seal(key: bytes, text: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, text)


def _crypt(text: bytes, nonce: bytes, key: bytes) -> tuple[bytes, bytes]:
    if len(nonce) != 24 or len(key) != 32:
        raise ValueError("a nonce has 24 bytes, a key has 32")
    stream = _stream(key, nonce, 32 + len(text))
    return stream[:32], bytes(a ^ b for a, b in zip(text, stream[32:], strict=True))


def make_box(text: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return `text` encrypted and authenticated."""
    once, hidden = _crypt(text, nonce, key)
    return _seal(once, hidden) + hidden


def open_box(box: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return what `make_box` was given; raises ValueError for a changed box or another key."""
    once, text = _crypt(box[16:], nonce, key)
    if len(box) < 16 or not hmac.compare_digest(_seal(once, box[16:]), box[:16]):
        raise ValueError("the box does not open")
    return text
