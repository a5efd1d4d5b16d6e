"""Where signatures come from: whatever has the image gives this face to it."""

from __future__ import annotations

import json

from ..errors import TrustError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from .references import Image
else:
    Protocol = object

__all__ = ["MAX_SIGNATURES", "SignatureSources", "Sigstore", "openpgp_messages", "sigstore_in"]

MAX_SIGNATURES = 128
"""Signatures looked at for one image; who writes to a registry could add any number."""


class SignatureSources(Protocol):
    """Access to what lies beside one image: of its registry, layout or folder.

    Nothing that these return is trusted. What is not there is None or empty; a source that
    cannot be reached raises an error of its own.
    """

    def lookaside(self, url: str) -> bytes | None:
        """Return what is at a `file`, `http` or `https` address, None where nothing is."""

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest of the image's repository."""

    def blob(self, digest: str) -> bytes:
        """Return a blob of the image's repository, its digest not yet compared."""

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return descriptors of manifests of a type whose subject is `digest` (OCI 1.1)."""

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return what the registry's API extension for signatures has for `digest`."""


_SIMPLE = b"\0simple-signing\n"
_SIGSTORE = b"\0sigstore-json\n"


def stored_signatures(image: Image, digest: str, sources: SignatureSources) -> Iterator[bytes]:
    """Yield what lies in the lookaside storage, or in the folder of a `dir:` image."""
    from .storage import find_storage, signature_url

    base = find_storage(image.name).lookaside if image.name is not None else ""
    for number in range(1, MAX_SIGNATURES + 1):
        if image.name is not None and base:
            url = signature_url(base, image.name, digest, number)
        elif image.transport == "dir":
            url = f"file://{image.path}/signature-{number}"
        else:
            return
        found = sources.lookaside(url)
        if found is None:
            return
        yield found


def openpgp_messages(image: Image, digest: str, sources: SignatureSources) -> Iterator[bytes]:
    """Yield every OpenPGP message that is kept as a signature of the manifest `digest`."""
    for found in stored_signatures(image, digest, sources):
        if found.startswith(_SIMPLE):
            yield found[len(_SIMPLE) :]
        elif found[:1] >= b"\x80":  # OpenPGP without armour, which has never had a prefix
            yield found
        elif not found.startswith(_SIGSTORE):
            raise TrustError("a stored signature is of a form that is unknown")
    if image.transport == "docker":
        yield from sources.signature_extension(digest)[:MAX_SIGNATURES]


class Sigstore:
    """A signature in the form of cosign: a payload, and annotations that sign it."""

    def __init__(self, payload: bytes, annotations: dict[str, str]) -> None:
        self.payload = payload
        self.annotations = annotations


def sigstore_in(image: Image, digest: str, sources: SignatureSources) -> Iterator[Sigstore]:
    """Yield the signatures that a `dir:` folder keeps in files, as skopeo writes them."""
    from .strict import read_json

    if image.transport != "dir":
        return
    for found in stored_signatures(image, digest, sources):
        if found.startswith(_SIGSTORE):
            value = read_json(found[len(_SIGSTORE) :], "signature file")
            fields = value.fields("mimeType payload annotations")
            texts = {key: each.text() for key, each in fields["annotations"].members().items()}
            yield Sigstore(fields["payload"].base64(), texts)


def in_sigstore_form(payload: bytes, mime: str, annotations: dict[str, str]) -> bytes:
    """Return a signature of cosign's kind as a `dir:` folder keeps it."""
    import base64

    text = base64.b64encode(payload).decode()
    kept = {"mimeType": mime, "payload": text, "annotations": annotations}
    return _SIGSTORE + json.dumps(kept, separators=(",", ":")).encode()
