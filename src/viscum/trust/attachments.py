"""Signatures that lie in an image's repository: cosign's tag, and referrers of OCI 1.1.

Whoever can write to the repository can put anything there, so manifests and blobs are bounded,
compared with their digests, and read with the strict reader. Keys that are unknown are allowed in
manifests, since OCI allows them.
"""

from __future__ import annotations

import hashlib

from ..errors import TrustError
from .references import DIGEST
from .sources import MAX_SIGNATURES, Sigstore
from .strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sources import SignatureSources
    from .strict import Value

__all__ = ["Layer", "cosign_signatures", "digest_matches", "referring_layers", "signature_tag"]

COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
COSIGN_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
MAX_BLOB = 4 * 1024 * 1024


def digest_matches(digest: str, data: bytes) -> bool:
    """Return whether `digest`, of sha256 or sha512, is that of `data`."""
    algorithm, _, value = digest.partition(":")
    return bool(DIGEST.fullmatch(digest)) and hashlib.new(algorithm, data).hexdigest() == value


def signature_tag(digest: str) -> str:
    """Return the tag under which cosign keeps the signatures of a manifest."""
    return digest.replace(":", "-") + ".sig"


class Layer:
    """A blob that a signature's manifest names: its type, its annotations, its bytes."""

    def __init__(self, value: Value, sources: SignatureSources) -> None:
        fields = value.members()
        self._digest = _text(fields, value, "digest")
        self.media_type = _text(fields, value, "mediaType")
        self.annotations: dict[str, str] = {}
        if "annotations" in fields and not fields["annotations"].absent:
            pairs = fields["annotations"].members().items()
            self.annotations = {name: text.text() for name, text in pairs}
        self._sources = sources

    def read(self) -> bytes:
        """Return the blob, its digest compared; raises TrustError."""
        data = self._sources.blob(self._digest)
        if len(data) > MAX_BLOB:
            raise TrustError(f"blob {self._digest} has more than {MAX_BLOB} bytes")
        if not digest_matches(self._digest, data):
            raise TrustError(f"blob {self._digest} has another digest")
        return data


def _text(fields: dict[str, Value], value: Value, name: str) -> str:
    if name not in fields:
        raise value.wrong(f"lacks the key {name!r}")
    return fields[name].text()


def _layers(data: bytes, source: str, sources: SignatureSources) -> Iterator[Layer]:
    fields = read_json(data, source).members()
    if "layers" not in fields:
        return
    for number, value in enumerate(fields["layers"].items()):
        if number >= MAX_SIGNATURES:
            return
        yield Layer(value, sources)


def _check_subject(data: bytes, source: str, digest: str) -> None:
    top = read_json(data, source)
    fields = top.members()
    subject = fields["subject"].members() if "subject" in fields else {}
    if "digest" not in subject or subject["digest"].text() != digest:
        raise top.wrong(f"its subject is not {digest}")


def referring_layers(digest: str, artifact_type: str, sources: SignatureSources) -> Iterator[Layer]:
    """Yield the layers of the manifests of a type that refer to `digest`."""
    for descriptor in sources.referrers(digest, artifact_type)[:MAX_SIGNATURES]:
        own = descriptor.get("digest")
        if not isinstance(own, str) or not DIGEST.fullmatch(own):
            raise TrustError(f"a referrer of {digest} has no digest")
        data = sources.manifest(own)
        if data is None:
            continue
        if not digest_matches(own, data):
            raise TrustError(f"manifest {own} has another digest")
        _check_subject(data, f"manifest {own}", digest)
        yield from _layers(data, f"manifest {own}", sources)


def cosign_signatures(digest: str, sources: SignatureSources) -> Iterator[Sigstore]:
    """Yield the signatures that cosign attached to a manifest, by tag and as referrers."""
    tag = signature_tag(digest)
    tagged = sources.manifest(tag)
    found = list(_layers(tagged, f"manifest {tag}", sources)) if tagged is not None else []
    found += referring_layers(digest, COSIGN_ARTIFACT, sources)
    for layer in found:
        if layer.media_type == COSIGN_LAYER:
            yield Sigstore(layer.read(), layer.annotations)
