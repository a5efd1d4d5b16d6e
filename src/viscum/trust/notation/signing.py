"""Envelopes of the Notary Project, made."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json

from ...errors import TrustError
from .chain import algorithm_for, check_chain, check_validity, sign
from .cose import write_cose
from .envelope import COSE, EXPIRY, JWS, SCHEME, SIGNING_TIME, X509
from .judging import ARTIFACT
from .jws import write_jws

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

__all__ = ["ANNOTATION", "ARTIFACT", "FORMATS", "make_envelope", "thumbprints"]

ANNOTATION = "io.cncf.notary.x509chain.thumbprint#S256"
FORMATS = {"jws": JWS, "cose": COSE}


def make_envelope(
    target: dict[str, object],
    key: PrivateKeyTypes,
    chain: tuple[Certificate, ...],
    *,
    form: str = "jws",
    expires: dt.timedelta | None = None,
) -> bytes:
    """Return an envelope that signs a descriptor; raises TrustError for a chain that is no good."""
    from cryptography.hazmat.primitives.serialization import Encoding

    if form not in FORMATS:
        raise TrustError(f"envelope format {form!r} is unknown", hint="jws or cose")
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    check_chain(chain)
    check_validity(chain, now)
    if chain[0].public_key() != key.public_key():
        raise TrustError("the first certificate is not of the key that signs")
    payload = json.dumps({"targetArtifact": target}, separators=(",", ":")).encode()
    algorithm, make = algorithm_for(key.public_key()), functools.partial(sign, key)
    ders = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    times = {SIGNING_TIME: now} | ({EXPIRY: now + expires} if expires else {})
    if form == "jws":
        texts = {name: time.strftime("%Y-%m-%dT%H:%M:%SZ") for name, time in times.items()}
        return write_jws(payload, algorithm, {SCHEME: X509, **texts}, ders, make)
    seconds: dict[str, object] = {name: int(time.timestamp()) for name, time in times.items()}
    return write_cose(payload, algorithm, {SCHEME: X509, **seconds}, ders, make)


def thumbprints(chain: tuple[Certificate, ...]) -> str:
    """Return what the annotation of a signature's manifest says of the chain."""
    from cryptography.hazmat.primitives.serialization import Encoding

    ders = (certificate.public_bytes(Encoding.DER) for certificate in chain)
    return json.dumps([hashlib.sha256(der).hexdigest() for der in ders], separators=(",", ":"))
