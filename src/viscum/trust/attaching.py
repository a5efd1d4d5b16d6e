"""Signatures made, and put where verifiers look for them: files, tags and referrers."""

from __future__ import annotations

import hashlib
import json

from ..errors import TrustError
from ..frozen import Frozen
from .attachments import COSIGN_LAYER, signature_tag
from .cosign import SIGNATURE
from .references import parse_name
from .simple import ATOMIC, COSIGN, make_claim
from .sources import MAX_SIGNATURES, in_sigstore_form
from .strict import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .references import Image
    from .sources import SignatureSources

    class Sink(SignatureSources, Protocol):
        """Sources that can be written to as well."""

        def put_blob(self, data: bytes, digest: str) -> None:
            """Add a blob."""

        def put_manifest(self, data: bytes, digest: str, media_type: str, tag: str = "") -> None:
            """Add a manifest, under a tag if there is one."""

    Sign = Callable[[bytes], bytes]
    Write = Callable[[str, bytes], None]

__all__ = ["Target", "attach_cosign", "attach_notation", "store_cosign", "store_openpgp"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


class Target(Frozen):
    """What is signed: an image, its manifest, and the name that the signature claims."""

    image: Image
    manifest: bytes
    identity: str = ""

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return _digest(self.manifest)

    @property
    def claimed(self) -> str:
        """The name that is claimed; raises TrustError where there is none."""
        if self.identity:
            return str(parse_name(self.identity))
        if self.image.name is None or self.image.name.digest:
            raise TrustError(f"{self.image} has no tag to sign for", hint="--identity NAME:TAG")
        return str(self.image.name)

    def descriptor(self) -> dict[str, object]:
        """Return how a manifest refers to this one."""
        fields = read_json(self.manifest, "manifest").members()
        kind = fields["mediaType"].text() if "mediaType" in fields else MANIFEST
        return {"mediaType": kind, "digest": self.digest, "size": len(self.manifest)}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _free_address(target: Target, sources: SignatureSources) -> str:
    """Return the address of the first signature that is not there yet."""
    from .storage import find_storage, signature_url

    base = ""
    if target.image.name is not None:
        base = find_storage(target.image.name).writable
        if not base:
            raise TrustError(f"no place for signatures of {target.image}", hint="lookaside-staging")
        if not base.startswith("file:"):
            raise TrustError(f"signatures cannot be written to {base}", hint="lookaside-staging")
    elif target.image.transport != "dir":
        raise TrustError(
            f"{target.image.transport}: has no place for such a signature", hint="dir:"
        )
    for number in range(1, MAX_SIGNATURES + 1):
        if target.image.name is not None:
            url = signature_url(base, target.image.name, target.digest, number)
        else:
            url = f"file://{target.image.path}/signature-{number}"
        if sources.lookaside(url) is None:
            return url
    raise TrustError(f"{target.image} has {MAX_SIGNATURES} signatures already")


def store_openpgp(target: Target, sign: Sign, sources: SignatureSources, write: Write) -> str:
    """Make a signature of simple signing; returns the address that it was written to."""
    url = _free_address(target, sources)
    write(url, sign(make_claim(target.digest, target.claimed, ATOMIC)))
    return url


def store_cosign(target: Target, sign: Sign, sources: SignatureSources, write: Write) -> str:
    """Make a signature of cosign's kind for a `dir:` folder; returns its address."""
    import base64

    url = _free_address(target, sources)
    payload = make_claim(target.digest, target.claimed, COSIGN)
    made = base64.b64encode(sign(payload)).decode()
    write(url, in_sigstore_form(payload, COSIGN_LAYER, {SIGNATURE: made}))
    return url


def _put(sink: Sink, data: bytes, media_type: str, **more: object) -> dict[str, object]:
    """Add a blob and return its descriptor."""
    digest = _digest(data)
    sink.put_blob(data, digest)
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


def attach_cosign(target: Target, sign: Sign, sink: Sink) -> str:
    """Sign by a key, beside what cosign attached before; returns the tag of the signatures."""
    import base64

    payload = make_claim(target.digest, target.claimed, COSIGN)
    made = base64.b64encode(sign(payload)).decode()
    tag = signature_tag(target.digest)
    layers: list[object] = []
    present = sink.manifest(tag)
    if present is not None:
        kept = read_json(present, f"manifest {tag}").members()
        layers = [item.plain() for item in kept["layers"].items()] if "layers" in kept else []
    layers.append(_put(sink, payload, COSIGN_LAYER, annotations={SIGNATURE: made}))
    diffs = [layer["digest"] for layer in layers if isinstance(layer, dict)]
    config = {
        "architecture": "",
        "config": {},
        "history": [],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _put(sink, json.dumps(config).encode(), CONFIG),
        "layers": layers,
    }
    data = json.dumps(manifest).encode()
    sink.put_manifest(data, _digest(data), MANIFEST, tag)
    return tag


def attach_notation(target: Target, envelope: bytes, form: str, thumbs: str, sink: Sink) -> str:
    """Attach an envelope of the Notary Project as a referrer; returns its digest."""
    from .notation.signing import ANNOTATION, ARTIFACT, FORMATS

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": _put(sink, b"{}", ARTIFACT),
        "layers": [_put(sink, envelope, FORMATS[form])],
        "subject": target.descriptor(),
        "annotations": {ANNOTATION: thumbs},
    }
    data = json.dumps(manifest).encode()
    sink.put_manifest(data, _digest(data), MANIFEST)
    return _digest(data)
