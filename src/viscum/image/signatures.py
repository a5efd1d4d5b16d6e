"""Where the signatures of an image are looked for: what `viscum.trust` asks for."""

from __future__ import annotations

from ..errors import ImageError
from .addresses import authority, origin
from .registry import NotThere, Repository, bounded
from .transport import Connection, Settings, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pulling import Source

__all__ = ["Signatures", "fetch"]

MAX_SIGNATURE = 4 << 20


class Signatures:
    """The signatures beside one image. What is not there is None or empty."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def lookaside(self, url: str) -> bytes | None:
        """Return what a file or web address of a lookaside storage has, None where nothing is."""
        from urllib.parse import unquote, urlsplit

        kind = urlsplit(url).scheme
        if kind == "file":
            return _read_file(unquote(urlsplit(url).path))
        if kind not in ("http", "https"):
            raise ImageError(f"{url[:200]!r} is no address of signatures", hint="file, http, https")
        return fetch(url, Settings(), MAX_SIGNATURE)

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest of the image's repository, None where it has none."""
        try:
            return self.source.manifest(tag_or_digest)[0]
        except NotThere:
            return None
        except ImageError:
            if isinstance(self.source, Repository):
                raise
            return None

    def blob(self, digest: str) -> bytes:
        """Return a blob of the image's repository."""
        return self.source.blob(digest, MAX_SIGNATURE)

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return descriptors of what refers to a manifest (OCI 1.1)."""
        if isinstance(self.source, Repository):
            return self.source.referrers(digest, artifact_type)
        return []

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return what the registry's API extension for signatures has."""
        return self.source.signatures(digest) if isinstance(self.source, Repository) else []


def fetch(url: str, settings: Settings, limit: int) -> bytes | None:
    """Return what a web address has, at most `limit` bytes; None where nothing is."""
    connection = Connection(authority(origin(url)), settings)
    answer = connection.request("GET", url)
    try:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise ImageError(f"{url}: status {answer.status}")
        return bounded(answer, limit, url)
    except OSError as error:
        raise explain(error, url) from None
    finally:
        answer.close()
        connection.close()


def _read_file(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIGNATURE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
    if len(data) > MAX_SIGNATURE:
        raise ImageError(f"{path} has more than {MAX_SIGNATURE} bytes")
    return data
