"""Signatures as cosign attaches them, judged by a `sigstoreSigned` rule."""

from __future__ import annotations

from ..errors import TrustError
from .keys import fingerprint, load_public, verifies
from .material import Reading
from .simple import COSIGN, read_claim
from .strict import decode_base64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from .references import Image
    from .rules import SigstoreSigned
    from .sources import Sigstore

__all__ = ["BUNDLE", "CERTIFICATE", "CHAIN", "SIGNATURE", "Judge"]

SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
BUNDLE = "dev.sigstore.cosign/bundle"
MAX_CHAIN = 16


class Judge:
    """A rule with its keys loaded; `judge` looks at one signature."""

    def __init__(self, rule: SigstoreSigned) -> None:
        self.rule = rule
        self.keys = [load_public(key.read(), str(key)) for key in rule.keys]
        self.logs = [load_public(key.read(), str(key)) for key in rule.rekor]

    def judge(self, signature: Sigstore, image: Image, digest: str) -> str:
        """Return who signed `image`; raises TrustError where this signature does not show it.

        The payload is read after the signature over it was found to be right.
        """
        with Reading("the signature"):
            return self._judge(signature, image, digest)

    def _judge(self, signature: Sigstore, image: Image, digest: str) -> str:
        made = self._signature(signature)
        if self.keys:
            key = self._key(signature, made)
            signer = f"the key {fingerprint(key)[:16]}"
            if self.logs:
                self._promise(signature, made, _pem(key))
        else:
            signer = self._certificate(signature, made)
        claim = read_claim(signature.payload, COSIGN)
        claim.check_digest(digest)
        self.rule.identity.check(image, claim.reference)
        return signer

    @staticmethod
    def _signature(signature: Sigstore) -> bytes:
        try:
            return decode_base64(signature.annotations[SIGNATURE])
        except KeyError:
            raise TrustError(f"it lacks the annotation {SIGNATURE}") from None
        except ValueError:
            raise TrustError(f"its annotation {SIGNATURE} is not base64") from None

    def _key(self, signature: Sigstore, made: bytes) -> PublicKeyTypes:
        for key in self.keys:
            if verifies(key, made, signature.payload):
                return key
        raise TrustError("it is not by a key that is trusted, or was changed")

    def _promise(self, signature: Sigstore, made: bytes, verifier: bytes) -> int:
        """Return when the log took this signature, in seconds."""
        from .rekor import read_promise

        if BUNDLE not in signature.annotations:
            raise TrustError("it lacks the promise of a transparency log")
        promise = read_promise(signature.annotations[BUNDLE], self.logs)
        promise.check_entry(signature.payload, made, verifier)
        return promise.time

    def _certificate(self, signature: Sigstore, made: bytes) -> str:
        from .certificates import check_fulcio, check_pki, load_certificates

        own = signature.annotations.get(CERTIFICATE, "").encode()
        if not own:
            raise TrustError("it has no certificate")
        leaf = load_certificates(own, "its certificate")[0]
        chain = signature.annotations.get(CHAIN, "").encode()
        between = load_certificates(chain, "its chain") if chain.strip() else []
        if len(between) > MAX_CHAIN:
            raise TrustError(f"its chain has {len(between)} certificates")
        if self.rule.fulcio is not None:
            time = self._promise(signature, made, own)
            signer = check_fulcio(leaf, between, self.rule.fulcio, time)
        elif self.rule.pki is not None:
            signer = check_pki(leaf, between, self.rule.pki)
        else:  # the reader of rules asks for one of them
            raise TrustError("the rule names nobody")
        if not verifies(leaf.public_key(), made, signature.payload):
            raise TrustError("it is not by its certificate, or was changed")
        return signer


def _pem(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
