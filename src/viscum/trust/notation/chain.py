"""Certificates for signing, as the Notary Project requires them, and signatures by them."""

from __future__ import annotations

from ...errors import TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime as dt
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from cryptography.x509 import Certificate

    from .envelope import Envelope

__all__ = ["algorithm_for", "check_chain", "check_signature", "check_validity", "sign"]

_HASH_BITS = {"256": 256, "384": 384, "512": 512}
_FORBIDDEN_USAGES = (
    "1.3.6.1.5.5.7.3.1",  # TLS servers
    "1.3.6.1.5.5.7.3.4",  # mail
    "1.3.6.1.5.5.7.3.8",  # time stamps
    "1.3.6.1.5.5.7.3.9",  # OCSP
    "2.5.29.37.0",  # anything
)
_CODE_SIGNING = "1.3.6.1.5.5.7.3.3"


def algorithm_for(key: PublicKeyTypes) -> str:
    """Return the one algorithm that goes with a key; raises TrustError for keys that have none."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        found = {2048: "PS256", 3072: "PS384", 4096: "PS512"}.get(key.key_size)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found = {256: "ES256", 384: "ES384", 521: "ES512"}.get(key.curve.key_size)
    else:
        found = None
    if found is None:
        raise TrustError(
            "the certificate's key is of a kind or size that is not used",
            hint="RSA of 2048, 3072 or 4096 bits, or ECDSA on P-256, P-384 or P-521",
        )
    return found


def _name(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def _check_hash(certificate: Certificate) -> None:
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name not in ("sha256", "sha384", "sha512"):
        raise TrustError(f"{_name(certificate)}: is signed with a hash other than SHA-2")


def _check_leaf(leaf: Certificate) -> None:
    from cryptography.x509 import BasicConstraints, ExtendedKeyUsage, KeyUsage

    usage = _extension(leaf, KeyUsage)
    if usage is None or not usage.critical or not usage.value.digital_signature:
        raise TrustError(f"{_name(leaf)}: lacks the critical key usage digitalSignature")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise TrustError(f"{_name(leaf)}: may certify others, so it may not sign images")
    constraints = _extension(leaf, BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise TrustError(f"{_name(leaf)}: is of an authority, so it may not sign images")
    extended = _extension(leaf, ExtendedKeyUsage)
    if extended is None:
        return
    usages = {usage.dotted_string for usage in extended.value}
    if _CODE_SIGNING not in usages or usages & set(_FORBIDDEN_USAGES):
        raise TrustError(f"{_name(leaf)}: is not for signing code alone")


def _check_authority(certificate: Certificate, below: int) -> None:
    from cryptography.x509 import BasicConstraints, KeyUsage

    constraints = _extension(certificate, BasicConstraints)
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise TrustError(f"{_name(certificate)}: is of no authority")
    depth = constraints.value.path_length
    if depth is not None and depth < below:
        raise TrustError(f"{_name(certificate)}: allows {depth} authorities below it")
    usage = _extension(certificate, KeyUsage)
    if usage is None or not usage.critical or not usage.value.key_cert_sign:
        raise TrustError(f"{_name(certificate)}: lacks the critical key usage keyCertSign")


def _extension(certificate: Certificate, kind: type) -> Any:
    from cryptography.x509 import ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(kind)
    except ExtensionNotFound:
        return None
    except ValueError:
        raise TrustError(f"{_name(certificate)}: has malformed extensions") from None


def _issued(certificate: Certificate, by: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(by)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def check_chain(chain: tuple[Certificate, ...]) -> None:
    """Raise TrustError unless a chain, the signer first and the root last, is well made."""
    for number, certificate in enumerate(chain):
        _check_hash(certificate)
        algorithm_for(certificate.public_key())
        issuer = chain[min(number + 1, len(chain) - 1)]
        if not _issued(certificate, issuer):
            raise TrustError(f"{_name(certificate)}: was not issued by {_name(issuer)}")
        if number:
            _check_authority(certificate, number - 1)
        else:
            _check_leaf(certificate)


def check_validity(chain: tuple[Certificate, ...], time: dt.datetime) -> None:
    """Raise TrustError unless every certificate was valid at `time`."""
    for certificate in chain:
        if not certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc:
            ends = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
            raise TrustError(f"{_name(certificate)}: not valid at {time:%Y-%m-%d %H:%M} ({ends})")


def check_signature(envelope: Envelope) -> None:
    """Raise TrustError unless the first certificate's key made the signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key = envelope.chain[0].public_key()
    if envelope.algorithm != algorithm_for(key):
        raise TrustError(f"the algorithm {envelope.algorithm} does not go with the key")
    made = envelope.signature
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(made, envelope.signed, _padding(envelope.algorithm), _hash(envelope))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.curve.key_size + 7) // 8
            if len(made) != 2 * half:
                raise TrustError("the signature is of a wrong length")
            parts = (int.from_bytes(made[:half], "big"), int.from_bytes(made[half:], "big"))
            key.verify(encode_dss_signature(*parts), envelope.signed, ec.ECDSA(_hash(envelope)))
    except InvalidSignature:
        raise TrustError("the signature is not by its certificate, or was changed") from None


def _hash(envelope: Envelope) -> Any:
    return _hash_named(envelope.algorithm)


def _hash_named(algorithm: str) -> Any:
    from cryptography.hazmat.primitives import hashes

    return getattr(hashes, f"SHA{algorithm[2:]}")()


def _padding(algorithm: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import padding

    hashed = _hash_named(algorithm)
    return padding.PSS(mgf=padding.MGF1(hashed), salt_length=_HASH_BITS[algorithm[2:]] // 8)


def sign(key: PrivateKeyTypes, data: bytes) -> bytes:
    """Return a signature as JWS and COSE have it: PSS, or the two numbers of ECDSA."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    algorithm = algorithm_for(key.public_key())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _padding(algorithm), _hash_named(algorithm))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        half = (key.curve.key_size + 7) // 8
        made = decode_dss_signature(key.sign(data, ec.ECDSA(_hash_named(algorithm))))
        return b"".join(part.to_bytes(half, "big") for part in made)
    raise TrustError("a key of this kind cannot sign")
