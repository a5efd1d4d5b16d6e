"""Envelopes in COSE (RFC 9052), COSE_Sign1."""

from __future__ import annotations

import datetime as dt

from ...errors import TrustError
from .cbor import Tagged, decode, encode
from .envelope import (
    AGENT,
    AUTHENTIC_TIME,
    EXPIRY,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_TIME,
    TIMESTAMP,
    Envelope,
    check_headers,
    load_chain,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_cose", "write_cose"]

ALGORITHM, CRITICAL, CONTENT_TYPE, CHAIN = 1, 2, 3, 33
SIGN1, EPOCH = 18, 1
_ALGORITHMS = {
    -37: "PS256",
    -38: "PS384",
    -39: "PS512",
    -7: "ES256",
    -35: "ES384",
    -36: "ES512",
}


def _map(value: object, what: str) -> dict[int | str, object]:
    if not isinstance(value, dict):
        raise TrustError(f"COSE envelope: {what} is no map")
    return value


def _list_of(value: object, kind: type, what: str) -> list[object]:
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise TrustError(f"COSE envelope: {what} is malformed")
    return value


def _bytes(value: object, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise TrustError(f"COSE envelope: {what} is no byte string")
    return value


def _time(headers: dict[int | str, object], name: str) -> dt.datetime:
    value = headers[name]
    if not isinstance(value, Tagged) or value.tag != EPOCH or type(value.value) is not int:
        raise TrustError(f"COSE envelope: {name} is no time")
    try:
        return dt.datetime.fromtimestamp(value.value, dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise TrustError(f"COSE envelope: {name} is no time") from None


def _critical(headers: dict[int | str, object]) -> list[str]:
    """Return the names of critical headers; the numbers of RFC 9052 that are known are left out."""
    named = headers.get(CRITICAL)
    if not isinstance(named, list):
        raise TrustError("COSE envelope: the list of critical headers is malformed")
    known = (ALGORITHM, CONTENT_TYPE)
    return [str(name) for name in named if not (type(name) is int and name in known)]


def read_cose(data: bytes) -> Envelope:
    """Return the envelope; raises TrustError. Nothing is verified."""
    top = decode(data)
    if not isinstance(top, Tagged) or top.tag != SIGN1:
        raise TrustError("COSE envelope: is no COSE_Sign1")
    if not isinstance(top.value, list) or len(top.value) != 4:
        raise TrustError("COSE envelope: has not four parts")
    raw = _bytes(top.value[0], "the protected header")
    headers = _map(decode(raw), "the protected header")
    beside = _map(top.value[1], "the unprotected header")
    names = {name for name in headers if isinstance(name, str)}
    numbers = {name for name in headers if not isinstance(name, str)}
    if numbers != {ALGORITHM, CRITICAL, CONTENT_TYPE}:
        raise TrustError("COSE envelope: the protected header has unknown or lacks some labels")
    if not set(beside) <= {CHAIN, AGENT, TIMESTAMP}:
        raise TrustError("COSE envelope: the unprotected header has unknown labels")
    scheme, content = str(headers.get(SCHEME)), str(headers[CONTENT_TYPE])
    check_headers(names, _critical(headers), scheme, content)
    algorithm = headers[ALGORITHM]
    if type(algorithm) is not int or algorithm not in _ALGORITHMS:
        raise TrustError(f"COSE envelope: algorithm {algorithm!r} is refused")
    payload = _bytes(top.value[2], "the payload")
    chain = beside.get(CHAIN)
    chain = [chain] if isinstance(chain, bytes) else chain
    certificates = [_bytes(one, "x5chain") for one in _list_of(chain, bytes, "x5chain")]
    return Envelope(
        algorithm=_ALGORITHMS[algorithm],
        signed=_to_be_signed(raw, payload),
        signature=_bytes(top.value[3], "the signature"),
        payload=payload,
        chain=load_chain(certificates),
        scheme=scheme,
        time=_time(headers, AUTHENTIC_TIME if AUTHENTIC_TIME in names else SIGNING_TIME),
        expiry=_time(headers, EXPIRY) if EXPIRY in names else None,
        stamped=TIMESTAMP in beside,
    )


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return encode(["Signature1", protected, b"", payload])


def write_cose(
    payload: bytes,
    algorithm: str,
    headers: dict[str, object],
    chain: list[bytes],
    sign: Callable[[bytes], bytes],
) -> bytes:
    """Return an envelope around `payload`; times in `headers` are seconds."""
    number = next(key for key, name in _ALGORITHMS.items() if name == algorithm)
    critical = [name for name in (SCHEME, EXPIRY, AUTHENTIC_TIME) if name in headers]
    protected: dict[object, object] = {
        ALGORITHM: number,
        CRITICAL: critical,
        CONTENT_TYPE: PAYLOAD_TYPE,
    }
    for name, value in headers.items():
        protected[name] = Tagged(EPOCH, value) if isinstance(value, int) else value
    raw = encode(protected)
    made = sign(_to_be_signed(raw, payload))
    return encode(Tagged(SIGN1, [raw, {CHAIN: chain, AGENT: "viscum"}, payload, made]))
