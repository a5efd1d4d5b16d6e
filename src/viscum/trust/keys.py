"""Public and private keys as sigstore uses them, cosign's encrypted key files included."""

from __future__ import annotations

import hashlib
import json
import os

from ..errors import TrustError
from .material import need_library
from .strict import decode_base64, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

__all__ = ["encrypt_key", "fingerprint", "load_private", "load_public", "sign", "verifies"]

EXTRA = "sign"
_PEM_NAMES = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_SCRYPT = {"N": 65536, "r": 8, "p": 1}  # what the newer releases of cosign write
_MAX_SCRYPT = 1 << 20  # 1 GiB with r = 8, more than anybody needs for one key


def load_public(data: bytes, source: str) -> PublicKeyTypes:
    """Return a public key from PEM; raises TrustError, also for kinds that are not used."""
    need_library("cryptography", EXTRA)
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except Exception:
        raise TrustError(f"{source}: is no public key", hint="PEM, BEGIN PUBLIC KEY") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise TrustError(f"{source}: is a key of a kind that is not used for signatures")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise TrustError(f"{source}: is an RSA key of {key.key_size} bits, fewer than 2048")
    return key


def verifies(key: PublicKeyTypes, signature: bytes, data: bytes) -> bool:
    """Return whether `signature` is by `key` over `data`, SHA-256 where a hash is needed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            return False
    except InvalidSignature:
        return False
    return True


def sign(key: PrivateKeyTypes, data: bytes) -> bytes:
    """Return the signature of `data` that `verifies` accepts."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    raise TrustError("a key of this kind cannot sign")


def fingerprint(key: PublicKeyTypes) -> str:
    """Return how a key is named: SHA-256 of its DER, in hex."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _pem_body(data: bytes) -> bytes | None:
    """Return what stands in cosign's PEM block, None where there is none."""
    text = data.decode("ascii", "replace")
    for name in _PEM_NAMES:
        begin, end = f"-----BEGIN {name}-----", f"-----END {name}-----"
        if begin in text and end in text:
            inner = text.partition(begin)[2].partition(end)[0]
            return decode_base64("".join(inner.split()))
    return None


def _derive(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    factor = cost["N"]
    if (
        factor < 2
        or factor & (factor - 1)
        or factor * cost["r"] * cost["p"] * 128 > _MAX_SCRYPT << 10
    ):
        raise TrustError(f"key file: scrypt with N={factor} is refused")
    return hashlib.scrypt(
        password.encode(), salt=salt, n=factor, r=cost["r"], p=cost["p"], dklen=32, maxmem=1 << 30
    )


def _decrypt(body: bytes, password: str, source: str) -> bytes:
    from .secretbox import open_box

    top = read_json(body, source).fields("kdf cipher ciphertext")
    kdf = top["kdf"].fields("name params salt")
    kdf["name"].word("scrypt")
    params = kdf["params"].fields("N r p")
    cipher = top["cipher"].fields("name nonce")
    cipher["name"].word("nacl/secretbox")
    cost = {name: value.integer() for name, value in params.items()}
    secret = _derive(password, kdf["salt"].base64(), cost)
    try:
        return open_box(top["ciphertext"].base64(), cipher["nonce"].base64(), secret)
    except ValueError:
        raise TrustError(f"{source}: the password is wrong", hint="set COSIGN_PASSWORD") from None


def load_private(data: bytes, password: str | None, source: str) -> PrivateKeyTypes:
    """Return a private key: cosign's encrypted form, or PKCS#8 in PEM, encrypted or not.

    Raises TrustError, also for a wrong password.
    """
    need_library("cryptography", EXTRA)
    from cryptography.hazmat.primitives.serialization import (
        load_der_private_key,
        load_pem_private_key,
    )

    try:
        body = _pem_body(data)
        if body is not None:
            return load_der_private_key(_decrypt(body, password or "", source), None)
        return load_pem_private_key(data, password.encode() if password else None)
    except (ValueError, TypeError) as error:
        hint = "set COSIGN_PASSWORD" if "assword" in str(error) else "PEM, BEGIN PRIVATE KEY"
        raise TrustError(f"{source}: is no private key that can be read", hint=hint) from None


def encrypt_key(key: PrivateKeyTypes, password: str) -> bytes:
    """Return a private key as cosign keeps it: scrypt, and a secretbox around PKCS#8."""
    import base64

    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    from .secretbox import make_box

    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, nonce = os.urandom(32), os.urandom(24)
    box = make_box(plain, nonce, _derive(password, salt, _SCRYPT))

    def text(part: bytes) -> str:
        return base64.b64encode(part).decode()

    content = json.dumps(
        {
            "kdf": {"name": "scrypt", "params": _SCRYPT, "salt": text(salt)},
            "cipher": {"name": "nacl/secretbox", "nonce": text(nonce)},
            "ciphertext": text(box),
        }
    ).encode()
    body = text(content)
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    name = _PEM_NAMES[0]
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""]).encode()
