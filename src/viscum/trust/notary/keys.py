"""Keys and signatures in the metadata of Notary v1."""

from __future__ import annotations

import hashlib
import json

from ...errors import TrustError
from ...frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from ..strict import Value

__all__ = ["Key", "canonical", "read_key", "valid_signature"]

_KINDS = ("ecdsa", "ecdsa-x509", "rsa", "rsa-x509", "ed25519")
_METHODS = {
    "ecdsa": ("ecdsa", "ecdsa-x509"),
    "rsapss": ("rsa", "rsa-x509"),
    "rsapkcs1v15": ("rsa", "rsa-x509"),
    "eddsa": ("ed25519",),
}


class Key(Frozen):
    """A public key: its id, its kind, and what it is made of (DER, a PEM certificate, or raw)."""

    id: str
    kind: str
    data: bytes

    def certificate(self) -> Certificate | None:
        """Return the certificate that it stands in, None where it stands alone."""
        from cryptography.x509 import load_pem_x509_certificate

        if not self.kind.endswith("-x509"):
            return None
        try:
            return load_pem_x509_certificate(self.data)
        except ValueError:
            raise TrustError(f"key {self.id}: is no certificate") from None


def canonical(value: object) -> bytes:
    """Return the one way of writing a value that signatures are over; raises TrustError."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse_floats(value: object) -> None:
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, float):
            raise TrustError(f"{part} is no whole number")
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def read_key(name: str, value: Value) -> Key:
    """Return a key; raises TrustError where its id is not the one that it must have."""
    fields = value.fields("keytype keyval")
    kind = fields["keytype"].word(*_KINDS)
    parts = fields["keyval"].fields("public", "private")
    if "private" in parts and not parts["private"].absent:
        raise parts["private"].wrong("does not belong here")
    public = parts["public"].text()
    made = canonical({"keytype": kind, "keyval": {"private": None, "public": public}})
    if hashlib.sha256(made).hexdigest() != name:
        raise value.wrong("is not the key that its id says")
    return Key(name, kind, parts["public"].base64())


def _public(key: Key) -> object:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    certificate = key.certificate()
    if certificate is not None:
        return certificate.public_key()
    try:
        if key.kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(key.data)
        return load_der_public_key(key.data)
    except Exception:
        raise TrustError(f"key {key.id}: is malformed") from None


def valid_signature(key: Key, method: str, made: bytes, signed: bytes) -> bool:
    """Return whether `made` is a signature by `key`; a method of another kind of key is none."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if key.kind not in _METHODS.get(method, ()):
        return False
    public, hashed = _public(key), hashes.SHA256()
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            half = (public.curve.key_size + 7) // 8
            if len(made) != 2 * half:
                return False
            parts = (int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big"))
            public.verify(encode_dss_signature(*parts), signed, ec.ECDSA(hashed))
        elif isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048:
            pss = padding.PSS(mgf=padding.MGF1(hashed), salt_length=hashed.digest_size)
            pad = pss if method == "rsapss" else padding.PKCS1v15()
            public.verify(made, signed, pad, hashed)
        elif isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(made, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True
