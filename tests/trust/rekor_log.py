"""A transparency log and a Fulcio of our own: promises, and certificates of identities."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import time
from typing import Any

import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

ISSUER = "1.3.6.1.4.1.57264.1.8"
ISSUER_RAW = "1.3.6.1.4.1.57264.1.1"


class Log:
    """A log that promises whatever it is asked for."""

    def __init__(self) -> None:
        self.key = certificates.make_key()
        self.time = int(time.time())

    @property
    def der(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.der).digest()

    @property
    def data(self) -> str:
        """The public key as a policy holds it."""
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(pem).decode()

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def body(self, payload: bytes, signature: bytes, verifier: bytes) -> bytes:
        """Return an entry of kind hashedrekord."""
        signed = {
            "content": base64.b64encode(signature).decode(),
            "publicKey": {"content": base64.b64encode(verifier).decode()},
        }
        hashed = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        spec = {"data": {"hash": hashed}, "signature": signed}
        entry = {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}
        return json.dumps(entry, separators=(",", ":"), sort_keys=True).encode()

    def stamp(self, body: bytes, index: int = 7) -> bytes:
        """Return the signature of the promise to take `body`."""
        promised = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": self.time,
            "logID": self.id.hex(),
            "logIndex": index,
        }
        return self.sign(json.dumps(promised, separators=(",", ":"), sort_keys=True).encode())

    def promise(self, payload: bytes, signature: bytes, verifier: bytes) -> str:
        """Return the annotation that cosign attaches."""
        body = self.body(payload, signature, verifier)
        stated = {
            "body": base64.b64encode(body).decode(),
            "integratedTime": self.time,
            "logIndex": 7,
            "logID": self.id.hex(),
        }
        stamp = base64.b64encode(self.stamp(body)).decode()
        return json.dumps({"SignedEntryTimestamp": stamp, "Payload": stated})


def make_identity(
    issuer: certificates.Made,
    *,
    email: str = "dev@example.com",
    oidc: str = "https://issuer.example.com",
    code: bool = True,
    ends: dt.timedelta = certificates.DAY,
    extra: list[tuple[x509.ExtensionType, bool]] | None = None,
    key: Any = None,
) -> certificates.Made:
    """Return a certificate as Fulcio makes them."""
    text = oidc.encode()
    der = x509.UnrecognizedExtension(
        x509.ObjectIdentifier(ISSUER), b"\x0c" + bytes([len(text)]) + text
    )
    raw = x509.UnrecognizedExtension(x509.ObjectIdentifier(ISSUER_RAW), text)
    wanted = ExtendedKeyUsageOID.CODE_SIGNING if code else ExtendedKeyUsageOID.CLIENT_AUTH
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (certificates.usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([wanted]), False),
        (x509.SubjectAlternativeName([x509.RFC822Name(email)]), True),
        (der, False),
        (raw, False),
        *(extra or []),
    ]
    return certificates.make(
        x509.Name([]), key or certificates.make_key(), extensions, issuer, ends=ends
    )
