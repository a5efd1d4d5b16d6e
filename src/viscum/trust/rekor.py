"""The promise of a transparency log that it took an entry, as cosign attaches it.

It binds a payload, a signature and a key or certificate to a time. Written by Rekor v1; bundles
with proofs of inclusion are judged by the library `sigstore`.
"""

from __future__ import annotations

import hashlib
import json

from ..errors import TrustError
from ..frozen import Frozen
from .keys import fingerprint, verifies
from .strict import decode_base64, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from .strict import Value

__all__ = ["Promise", "read_promise"]


class Promise(Frozen):
    """What the log promised: an entry, and the time in seconds when it took it."""

    time: int
    body: bytes

    def check_entry(self, payload: bytes, signature: bytes, verifier: bytes) -> None:
        """Raise TrustError unless the entry is of this payload, signature, and key in PEM."""
        top = read_json(self.body, "log entry").fields("apiVersion kind spec")
        if top["kind"].text() != "hashedrekord" or top["apiVersion"].text() != "0.0.1":
            raise top["kind"].wrong("is no hashedrekord of version 0.0.1")
        spec = top["spec"].fields("data signature")
        hashed = spec["data"].fields("hash")["hash"].fields("algorithm value")
        hashed["algorithm"].word("sha256")
        made = spec["signature"].fields("content publicKey")
        key = made["publicKey"].fields("content")["content"]
        if hashed["value"].text() != hashlib.sha256(payload).hexdigest():
            raise TrustError("the log entry is of another payload")
        if made["content"].base64() != signature:
            raise TrustError("the log entry is of another signature")
        if _der(key.base64()) != _der(verifier):
            raise TrustError("the log entry is of another key")


def _der(pem: bytes) -> bytes:
    """Return what stands between the first pair of lines of a PEM."""
    lines = pem.decode("ascii", "replace").split("-----")
    if len(lines) < 5:
        raise TrustError("the log entry's key is not PEM")
    try:
        return decode_base64("".join(lines[2].split()))
    except ValueError:
        raise TrustError("the log entry's key is not PEM") from None


def _promised(payload: dict[str, Value]) -> bytes:
    """Return what the log signed: JSON with sorted keys and no spaces."""
    values = {
        "body": payload["body"].text(),
        "integratedTime": payload["integratedTime"].integer(),
        "logID": payload["logID"].text(),
        "logIndex": payload["logIndex"].integer(),
    }
    return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()


def read_promise(text: str, logs: list[PublicKeyTypes]) -> Promise:
    """Return what a promise says, if one of `logs` signed it; raises TrustError."""
    top = read_json(text.encode(), "promise of the log").fields("SignedEntryTimestamp Payload")
    payload = top["Payload"].fields("body integratedTime logIndex logID")
    signed, signature = _promised(payload), top["SignedEntryTimestamp"].base64()
    named = payload["logID"].text()
    if not any(fingerprint(log) == named and verifies(log, signature, signed) for log in logs):
        raise TrustError("the promise of the log is not by a log that is trusted")
    return Promise(payload["integratedTime"].integer(), payload["body"].base64())
