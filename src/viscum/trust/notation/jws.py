"""Envelopes in JWS (RFC 7515), flattened JSON."""

from __future__ import annotations

import base64
import json
import re

from ..strict import read_json
from .envelope import (
    AGENT,
    AUTHENTIC_TIME,
    EXPIRY,
    KNOWN,
    PAYLOAD_TYPE,
    SCHEME,
    SIGNING_TIME,
    TIMESTAMP,
    Envelope,
    check_headers,
    load_chain,
    parse_time,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..strict import Value

__all__ = ["read_jws", "write_jws"]

_ALGORITHMS = ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def _decode(value: Value) -> bytes:
    """Return the bytes of base64url without padding, in its only spelling."""
    text = value.text()
    if not _URL_SAFE.fullmatch(text) or len(text) % 4 == 1:
        raise value.wrong("is not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(data) != text:
        raise value.wrong("is not base64url in its shortest form")
    return data


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_jws(data: bytes) -> Envelope:
    """Return the envelope; raises TrustError. Nothing is verified."""
    top = read_json(data, "JWS envelope").fields("payload protected header signature")
    protected = read_json(_decode(top["protected"]), "protected header")
    fields = protected.fields("alg cty crit", " ".join(KNOWN))
    names = set(fields) - {"alg", "cty", "crit"}
    if SCHEME not in fields:
        raise protected.wrong(f"lacks the key {SCHEME!r}")
    critical = [item.text() for item in fields["crit"].items()]
    scheme = fields[SCHEME].text()
    check_headers(names, critical, scheme, fields["cty"].text())
    fields["alg"].word(*_ALGORITHMS)
    header = top["header"].fields("x5c", f"{AGENT} {TIMESTAMP}")
    time = AUTHENTIC_TIME if AUTHENTIC_TIME in names else SIGNING_TIME
    signed = f"{top['protected'].text()}.{top['payload'].text()}"
    return Envelope(
        algorithm=fields["alg"].text(),
        signed=signed.encode(),
        signature=_decode(top["signature"]),
        payload=_decode(top["payload"]),
        chain=load_chain([item.base64() for item in header["x5c"].items()]),
        scheme=scheme,
        time=parse_time(fields[time].text()),
        expiry=parse_time(fields[EXPIRY].text()) if EXPIRY in names else None,
        stamped=TIMESTAMP in header,
    )


def write_jws(
    payload: bytes,
    algorithm: str,
    headers: dict[str, str],
    chain: list[bytes],
    sign: Callable[[bytes], bytes],
) -> bytes:
    """Return an envelope around `payload`; `sign` makes the signature."""
    critical = [name for name in (SCHEME, EXPIRY, AUTHENTIC_TIME) if name in headers]
    protected = {"alg": algorithm, "cty": PAYLOAD_TYPE, "crit": critical, **headers}
    first = _encode(json.dumps(protected, separators=(",", ":")).encode())
    second = _encode(payload)
    made = sign(f"{first}.{second}".encode())
    x5c = [base64.b64encode(one).decode() for one in chain]
    envelope = {
        "payload": second,
        "protected": first,
        "header": {"x5c": x5c, AGENT: "viscum"},
        "signature": _encode(made),
    }
    return json.dumps(envelope, separators=(",", ":")).encode()
