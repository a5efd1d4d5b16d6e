"""Images of a registry, with the signatures beside them, as pulls and pushes reach it."""

from __future__ import annotations

import contextlib

from ...image import document
from ...image.manifest import OCI_INDEX, Descriptor, parse_descriptor
from ...image.places import open_repository
from ...image.reference import Reference
from ...image.registry import Repository
from ...image.signatures import Signatures
from ...images import configured_registries
from .local import referrer_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...image.transport import Settings
    from ...trust.references import Name

__all__ = ["RegistrySources"]


class RegistrySources(Signatures):
    """An image of a registry. Where it is signed, it is looked at where signatures are put: at
    the registry itself; else at its mirrors first, as pulls do.
    """

    source: Repository

    def __init__(self, name: Name, settings: Settings, *, writes: bool = False) -> None:
        reference = Reference(name.repository, name.tag, name.digest)
        registries = configured_registries()
        with contextlib.ExitStack() as opened:
            if writes:
                endpoint = registries.endpoints(reference, writes=True)[-1]
                own, helpers = reference.repository, registries.helpers
                repository = Repository(endpoint, settings, name=own, helpers=helpers, writes=True)
                opened.callback(repository.close)
                self._top = repository.manifest(reference.target)[0]
            else:
                found = open_repository(reference, registries, settings)
                repository, self._top, _ = opened.enter_context(found)
            self._open = opened.pop_all()
        super().__init__(repository)

    def close(self) -> None:
        """Close the connections."""
        self._open.close()

    def top(self) -> bytes:
        """Return the image's manifest, or its index."""
        return self._top

    def put_blob(self, data: bytes, digest: str) -> None:
        """Upload a blob."""
        del digest
        self.source.put_blob(data)

    def put_manifest(self, data: bytes, digest: str, media_type: str, tag: str = "") -> None:
        """Upload a manifest, under a tag if there is one."""
        if tag:
            self.source.put_manifest(tag, data, media_type)
        elif not self.source.put_referrer(data, media_type):
            self._note_referrer(data, digest, media_type)

    def _note_referrer(self, data: bytes, digest: str, media_type: str) -> None:
        """Keep a referrer in the tag that stands in for the API that this registry lacks."""
        subject, kind = referrer_facts(data)
        if not subject:
            return
        tag = subject.replace(":", "-")
        present = self.manifest(tag)
        entries: list[dict[str, object]] = []
        if present is not None:
            value = document.parse(present, f"index {tag}")
            entries = document.list_of(value, "manifests", dict, f"index {tag}")
        known = [parse_descriptor(entry, f"index {tag}").digest for entry in entries]
        kept = [entry for entry, own in zip(entries, known, strict=True) if own != digest]
        own = Descriptor(media_type, digest, len(data), artifact_type=kind).as_json()
        made = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*kept, own]}
        self.source.put_manifest(tag, document.write(made), OCI_INDEX)
