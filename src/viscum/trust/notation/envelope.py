"""What an envelope of the Notary Project says, whether it is written in JWS or in COSE."""

from __future__ import annotations

import datetime as dt
import re

from ...errors import TrustError
from ...frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["COSE", "JWS", "PAYLOAD_TYPE", "Envelope", "parse_time", "read_envelope"]

JWS = "application/jose+json"
COSE = "application/cose"
PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
X509 = "notary.x509"
AUTHORITY = "notary.x509.signingAuthority"
MAX_BYTES = 4 * 1024 * 1024
MAX_CHAIN = 16

# The names of headers.
SCHEME = "io.cncf.notary.signingScheme"
SIGNING_TIME = "io.cncf.notary.signingTime"
AUTHENTIC_TIME = "io.cncf.notary.authenticSigningTime"
EXPIRY = "io.cncf.notary.expiry"
AGENT = "io.cncf.notary.signingAgent"
TIMESTAMP = "io.cncf.notary.timestampSignature"
KNOWN = (SCHEME, SIGNING_TIME, AUTHENTIC_TIME, EXPIRY)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Envelope(Frozen):
    """An envelope, taken apart and not yet verified; `chain` begins with the signer.

    `signed` are the bytes that `signature` is over. `time` is when the signer says, or under a
    signing authority when that authority says, that it was signed.
    """

    algorithm: str
    signed: bytes
    signature: bytes
    payload: bytes
    chain: tuple[Certificate, ...]
    scheme: str
    time: dt.datetime
    expiry: dt.datetime | None
    stamped: bool

    @property
    def authority(self) -> bool:
        """Whether a signing authority signed, which vouches for the time."""
        return self.scheme == AUTHORITY


def parse_time(text: str) -> dt.datetime:
    """Return a time of RFC 3339; raises TrustError."""
    if not _TIME.fullmatch(text):
        raise TrustError(f"{text!r} is no time of RFC 3339")
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise TrustError(f"{text!r} is no time") from None


def load_chain(certificates: list[bytes]) -> tuple[Certificate, ...]:
    """Return certificates from DER; raises TrustError."""
    from cryptography.x509 import load_der_x509_certificate

    if not 1 <= len(certificates) <= MAX_CHAIN:
        raise TrustError(f"the envelope has {len(certificates)} certificates")
    try:
        return tuple(load_der_x509_certificate(one) for one in certificates)
    except ValueError:
        raise TrustError("a certificate in the envelope is malformed") from None


def check_headers(names: set[str], critical: list[str], scheme: str, content: str) -> None:
    """Raise TrustError unless the protected headers are those that the scheme asks for."""
    if content != PAYLOAD_TYPE:
        raise TrustError(f"the payload's type is {content!r}, not {PAYLOAD_TYPE}")
    if scheme not in (X509, AUTHORITY):
        raise TrustError(f"the signing scheme {scheme!r} is unknown")
    for name in names - set(KNOWN):
        raise TrustError(f"the signed header {name!r} is unknown")
    wanted = {SCHEME, AUTHENTIC_TIME if scheme == AUTHORITY else SIGNING_TIME}
    if not wanted <= names or len(names & {SIGNING_TIME, AUTHENTIC_TIME}) != 1:
        raise TrustError(f"the signed headers are not those of {scheme}")
    must = {SCHEME} | ({EXPIRY} & names) | ({AUTHENTIC_TIME} & names)
    if len(set(critical)) != len(critical) or not set(critical) <= names:
        raise TrustError("the list of critical headers names some twice, or absent ones")
    if not must <= set(critical):
        missing = ", ".join(sorted(must - set(critical)))
        raise TrustError(f"the headers {missing} must be critical")


def read_envelope(data: bytes, media_type: str) -> Envelope:
    """Return the envelope that `data` is; raises TrustError. Nothing of it is verified yet."""
    if len(data) > MAX_BYTES:
        raise TrustError(f"the envelope has more than {MAX_BYTES} bytes")
    if media_type == JWS:
        from .jws import read_jws

        return read_jws(data)
    if media_type == COSE:
        from .cose import read_cose

        return read_cose(data)
    raise TrustError(f"envelopes of type {media_type!r} are unknown", hint=f"{JWS} or {COSE}")
