"""Images in folders of this host, `dir:` and `oci:`, with the signatures beside them."""

from __future__ import annotations

import json
import os
import stat

from ...errors import TrustError
from ...trust.references import DIGEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...trust.references import Image

__all__ = ["DirectorySources", "LayoutSources", "read_url", "referrer_facts", "write_url"]

MAX_BYTES = 16 * 1024 * 1024


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(f"{path!r} is no regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise TrustError(f"{path!r} has more than {MAX_BYTES} bytes")
    return data


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(data)
    os.rename(temporary, path)


def read_url(url: str) -> bytes | None:
    """Return the file that a `file:` address names, None where there is none."""
    if not url.startswith("file:///"):
        raise TrustError(f"{url!r} is no address of a file", hint="file:///…")
    return _read(url.removeprefix("file://"))


def write_url(url: str, data: bytes) -> None:
    """Write the file that a `file:` address names, and the folders above it."""
    if not url.startswith("file:///"):
        raise TrustError(f"signatures cannot be written to {url!r}", hint="lookaside-staging")
    _write(url.removeprefix("file://"), data)


class DirectorySources:
    """A folder as `skopeo copy … dir:FOLDER` makes it."""

    def __init__(self, image: Image) -> None:
        self.path = image.path

    def top(self) -> bytes:
        """Return the image's manifest."""
        found = _read(f"{self.path}/manifest.json")
        if found is None:
            raise TrustError(f"dir:{self.path} holds no image", hint="skopeo copy IMAGE dir:FOLDER")
        return found

    def lookaside(self, url: str) -> bytes | None:
        """Return the file that a `file:` address names."""
        return read_url(url)

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return None: such a folder holds one image and no other manifest."""
        del tag_or_digest
        return None

    def blob(self, digest: str) -> bytes:
        """Return a blob; raises TrustError where there is none."""
        found = _read(f"{self.path}/{digest.partition(':')[2]}")
        if found is None:
            raise TrustError(f"dir:{self.path} has no blob {digest}")
        return found

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return nothing: such a folder has no referrers."""
        del digest, artifact_type
        return []

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return nothing: that is for registries."""
        del digest
        return []


class LayoutSources(DirectorySources):
    """An OCI image layout."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.tag = image.tag

    def _index(self) -> list[dict[str, object]]:
        data = _read(f"{self.path}/index.json")
        if data is None:
            raise TrustError(f"oci:{self.path} is no image layout", hint="it lacks index.json")
        try:
            found = [
                dict(entry, digest=str(entry["digest"])) for entry in json.loads(data)["manifests"]
            ]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TrustError(f"oci:{self.path}: index.json is malformed") from None
        return found

    def top(self) -> bytes:
        """Return the manifest of the image's tag, or of the only image."""
        entries = self._index()
        if self.tag:
            entries = [entry for entry in entries if _tag(entry) == self.tag]
        if len(entries) != 1:
            raise TrustError(f"oci:{self.path}:{self.tag} names {len(entries)} images, not one")
        return self.blob(str(entries[0]["digest"]))

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest by its tag or digest."""
        for entry in self._index():
            if tag_or_digest in (_tag(entry), entry["digest"]):
                return self.blob(str(entry["digest"]))
        return None

    def blob(self, digest: str) -> bytes:
        """Return a blob; raises TrustError where there is none."""
        if not DIGEST.fullmatch(digest):
            raise TrustError(f"{digest!r} is no digest")
        found = _read(f"{self.path}/blobs/{digest.replace(':', '/')}")
        if found is None:
            raise TrustError(f"oci:{self.path} has no blob {digest}")
        return found

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return the manifests of the index that refer to `digest`."""
        found = []
        for entry in self._index():
            subject, kind = referrer_facts(self.blob(str(entry["digest"])))
            if (subject, kind) == (digest, artifact_type):
                found.append(entry)
        return found

    def put_blob(self, data: bytes, digest: str) -> None:
        """Add a blob."""
        _write(f"{self.path}/blobs/{digest.replace(':', '/')}", data)

    def put_manifest(self, data: bytes, digest: str, media_type: str, tag: str = "") -> None:
        """Add a manifest to the index, under a tag if there is one."""
        self.put_blob(data, digest)
        entry: dict[str, object] = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if tag:
            entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        top = json.loads(_read(f"{self.path}/index.json") or b"{}")
        kept = [each for each in top["manifests"] if not (tag and _tag(each) == tag)]
        top["manifests"] = [*kept, entry]
        _write(f"{self.path}/index.json", json.dumps(top).encode())


def referrer_facts(manifest: bytes) -> tuple[str, str]:
    """Return what a manifest refers to, and as what; both empty where it refers to nothing."""
    try:
        fields = json.loads(manifest)
        kind = fields.get("artifactType") or fields["config"]["mediaType"]
        return str(fields["subject"]["digest"]), str(kind)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def _tag(entry: dict[str, object]) -> str:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    return str(annotations.get("org.opencontainers.image.ref.name", ""))
