"""Sigstore bundles of version 0.3 that refer to an image, judged by a `sigstoreBundle` rule.

Keyless bundles are judged by the library `sigstore`, offline, under the trusted root that the rule
pins: certificate, transparency log with its proof of inclusion, and who signed. Bundles by a key
are none of that library's; they are a signature over an envelope, read and verified here.
"""

from __future__ import annotations

import functools

from ..errors import TrustError
from .attachments import referring_layers
from .keys import fingerprint, load_public, verifies
from .material import Reading, need_library
from .strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from .rules import Bundle
    from .sources import SignatureSources
    from .strict import Value

__all__ = ["BUNDLE_TYPE", "IN_TOTO", "PREDICATE", "authenticated_encoding", "bundles", "make_judge"]

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
PREDICATE = "https://sigstore.dev/cosign/sign/v1"
MAX_SUBJECTS = 1024


def bundles(digest: str, sources: SignatureSources) -> Iterator[bytes]:
    """Yield the bundles that refer to a manifest."""
    for layer in referring_layers(digest, BUNDLE_TYPE, sources):
        if layer.media_type == BUNDLE_TYPE:
            yield layer.read()


def make_judge(rule: Bundle) -> Callable[[bytes, str], str]:
    """Return what says who signed, of a bundle and a digest, or raises TrustError."""
    if rule.root is None:
        keys = [load_public(key.read(), str(key)) for key in rule.keys]
        return functools.partial(_judge_keyed, keys)
    return _Keyless(rule).judge


def check_statement(payload: bytes, digest: str) -> None:
    """Raise TrustError unless an authenticated statement says that it signs `digest`.

    Other statements, of how something was built say, are no signatures.
    """
    top = read_json(payload, "statement").fields("_type subject predicateType", "predicate")
    top["_type"].word(*STATEMENTS)
    if top["predicateType"].text() != PREDICATE:
        raise top["predicateType"].wrong(f"is no signature of an image, that is {PREDICATE}")
    algorithm, _, value = digest.partition(":")
    for number, subject in enumerate(top["subject"].items()):
        if number >= MAX_SUBJECTS:
            break
        digests = subject.fields("digest", "name uri annotations")["digest"].members()
        if algorithm in digests and digests[algorithm].text() == value:
            return
    raise TrustError("the statement is about another manifest")


def authenticated_encoding(kind: str, payload: bytes) -> bytes:
    """Return what a DSSE envelope signs: the payload's type and the payload, with lengths."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


# Bundles by a key.


def _judge_keyed(keys: list[PublicKeyTypes], data: bytes, digest: str) -> str:
    with Reading("the bundle"):
        return _judge_key_bundle(keys, data, digest)


def _judge_key_bundle(keys: list[PublicKeyTypes], data: bytes, digest: str) -> str:
    top = read_json(data, "bundle").fields(
        "mediaType verificationMaterial", "dsseEnvelope messageSignature"
    )
    if top["mediaType"].text() != BUNDLE_TYPE:
        raise top["mediaType"].wrong(f"must be {BUNDLE_TYPE}")
    material = top["verificationMaterial"].fields(
        "publicKey", "tlogEntries timestampVerificationData"
    )
    material["publicKey"].fields("", "hint rawBytes")
    if ("dsseEnvelope" in top) == ("messageSignature" in top):
        raise TrustError("the bundle needs either an envelope or a signature")
    if "dsseEnvelope" in top:
        return _judge_envelope(keys, top["dsseEnvelope"], digest)
    return _judge_signature(keys, top["messageSignature"], digest)


def _judge_envelope(keys: list[PublicKeyTypes], value: Value, digest: str) -> str:
    fields = value.fields("payload payloadType signatures")
    payload, kind = fields["payload"].base64(), fields["payloadType"].text()
    signed = authenticated_encoding(kind, payload)
    made = [item.fields("sig", "keyid")["sig"].base64() for item in fields["signatures"].items()]
    if len(made) != 1:
        raise fields["signatures"].wrong(f"has {len(made)} signatures, not one")
    for key in keys:
        if verifies(key, made[0], signed):
            break
    else:
        raise TrustError("the bundle is not by a key that is trusted, or was changed")
    if kind != IN_TOTO:
        raise fields["payloadType"].wrong(f"must be {IN_TOTO}")
    check_statement(payload, digest)
    return f"the key {fingerprint(key)[:16]}"


def _judge_signature(keys: list[PublicKeyTypes], value: Value, digest: str) -> str:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    made = value.fields("signature", "messageDigest")["signature"].base64()
    algorithm, _, hexadecimal = digest.partition(":")
    for key in keys if algorithm == "sha256" else ():
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        hashed = ec.ECDSA(Prehashed(hashes.SHA256()))
        try:
            key.verify(made, bytes.fromhex(hexadecimal), hashed)
        except InvalidSignature:
            continue
        return f"the key {fingerprint(key)[:16]}"
    raise TrustError("the bundle is not by a key that is trusted, or was changed")


# Keyless bundles.


class _Keyless:
    """A rule with its trusted root loaded into sigstore's verifier."""

    def __init__(self, rule: Bundle) -> None:
        need_library("sigstore", "sigstore")
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
        from sigstore.verify.policy import AnyOf, Identity
        from sigstore_models.trustroot.v1 import TrustedRoot as Inner

        if rule.root is None:
            raise TrustError("the rule has no trusted root")
        try:
            root = TrustedRoot(Inner.from_json(rule.root.read()))
            self.verifier = Verifier(trusted_root=root)
        except TrustError:
            raise
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise TrustError(f"{rule.root}: is no trusted root: {reason}") from None
        self.policy = AnyOf(
            [Identity(identity=subject, issuer=issuer) for subject, issuer in rule.identities]
        )

    def judge(self, data: bytes, digest: str) -> str:
        """Return who signed; raises TrustError."""
        from sigstore.models import Bundle as Read

        read_json(data, "bundle").plain()  # doubled keys and depth are refused before
        try:
            bundle = Read.from_json(data)
            self._verify(bundle, digest)
            return _signer(bundle.signing_certificate)
        except TrustError:
            raise
        except Exception as error:  # the library raises its own, pydantic's and ValueError
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise TrustError(f"the bundle is refused: {reason[:300]}") from None

    def _verify(self, bundle: object, digest: str) -> None:
        from sigstore.hashes import Hashed
        from sigstore_models.common.v1 import HashAlgorithm

        envelope = bundle._dsse_envelope  # type: ignore[attr-defined] # noqa: SLF001
        if envelope is not None:
            kind, payload = self.verifier.verify_dsse(bundle, self.policy)  # type: ignore[arg-type]
            if kind != IN_TOTO:
                raise TrustError(f"the envelope's type is {kind}, not {IN_TOTO}")
            check_statement(payload, digest)
            return
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256":
            raise TrustError(f"a bundle of a signature needs sha256, not {algorithm}")
        hashed = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(value))
        self.verifier.verify_artifact(hashed, bundle, self.policy)  # type: ignore[arg-type]


def _signer(certificate: object) -> str:
    from cryptography.x509 import Certificate, SubjectAlternativeName

    if not isinstance(certificate, Certificate):
        return "a certificate"
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    return ", ".join(str(getattr(name, "value", name)) for name in names)
