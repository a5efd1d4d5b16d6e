"""Images of a registry, with the signatures beside them; registries that want no login."""

from __future__ import annotations

import json

from ...errors import TrustError
from .local import read_url, referrer_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from http.client import HTTPConnection

    from ...trust.references import Image

__all__ = ["RegistrySources"]

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
MAX_BYTES = 16 * 1024 * 1024
TIMEOUT = 30


class Answer:
    """What a server said."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


def _connect(scheme: str, host: str) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    kind = HTTPSConnection if scheme == "https" else HTTPConnection
    return kind(host, timeout=TIMEOUT)


def ask(
    method: str, url: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Send one request and return the answer, bounded; redirects are not followed."""
    import http.client

    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if host == "docker.io":
        host = "registry-1.docker.io"
    connection = _connect(scheme, host)
    try:
        connection.request(method, f"/{path}", body=body, headers=headers or {})
        response = connection.getresponse()
        data = response.read(MAX_BYTES + 1)
        answered = {name.lower(): value for name, value in response.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise TrustError(f"{scheme}://{host}: {reason.lower()}") from None
    finally:
        connection.close()
    if len(data) > MAX_BYTES:
        raise TrustError(f"{url}: the answer has more than {MAX_BYTES} bytes")
    return Answer(response.status, answered, data)


class RegistrySources:
    """A repository of a registry; with `plain` without TLS."""

    def __init__(self, image: Image, *, plain: bool = False) -> None:
        if image.name is None:
            raise TrustError(f"{image} is no image of a registry")
        self.name = image.name
        self.scheme = "http" if plain else "https"

    def _url(self, path: str) -> str:
        return f"{self.scheme}://{self.name.registry}/v2/{self.name.path}/{path}"

    def _get(self, path: str, accept: str = "*/*") -> bytes | None:
        answer = ask("GET", self._url(path), headers={"Accept": accept})
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise TrustError(f"{self._url(path)}: status {answer.status}")
        return answer.body

    def top(self) -> bytes:
        """Return the image's manifest."""
        found = self.manifest(self.name.digest or self.name.tag)
        if found is None:
            raise TrustError(f"{self.name} is not there")
        return found

    def lookaside(self, url: str) -> bytes | None:
        """Return what is at an address."""
        if url.startswith("file:"):
            return read_url(url)
        if not url.startswith(("http://", "https://")):
            raise TrustError(f"{url!r} is no address of signatures", hint="file, http or https")
        answer = ask("GET", url)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise TrustError(f"{url}: status {answer.status}")
        return answer.body

    def manifest(self, tag_or_digest: str) -> bytes | None:
        """Return a manifest of the repository."""
        return self._get(f"manifests/{tag_or_digest}", MANIFESTS)

    def blob(self, digest: str) -> bytes:
        """Return a blob; raises TrustError where there is none."""
        found = self._get(f"blobs/{digest}")
        if found is None:
            raise TrustError(f"{self.name.repository} has no blob {digest}")
        return found

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return descriptors of referrers, from the registry or from the tag that stands in."""
        data = self._get(f"referrers/{digest}")
        if data is None:
            data = self.manifest(digest.replace(":", "-"))
        if data is None:
            return []
        try:
            found = json.loads(data)["manifests"]
            return [each for each in found if each.get("artifactType") == artifact_type]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise TrustError(f"the referrers of {digest} are malformed") from None

    def signature_extension(self, digest: str) -> list[bytes]:
        """Return what the API extension of some registries has, where it is offered."""
        import base64

        answer = ask("GET", f"{self.scheme}://{self.name.registry}/v2/")
        if answer.headers.get("x-registry-supports-signatures") != "1":
            return []
        url = f"{self.scheme}://{self.name.registry}/extensions/v2/{self.name.path}/signatures/"
        answer = ask("GET", url + digest)
        if answer.status != 200:
            return []
        try:
            kept = json.loads(answer.body)["signatures"]
            return [
                base64.b64decode(each["content"])
                for each in kept
                if each["schemaVersion"] == 2 and each["type"] == "atomic"
            ]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise TrustError(f"{url}{digest}: signatures are malformed") from None

    def put_blob(self, data: bytes, digest: str) -> None:
        """Upload a blob."""
        started = ask("POST", self._url("blobs/uploads/"), body=b"")
        where = started.headers.get("location", "")
        if started.status != 202 or not where:
            raise TrustError(f"{self.name.repository}: uploads are refused ({started.status})")
        if where.startswith("/"):
            where = f"{self.scheme}://{self.name.registry}{where}"
        joined = "&" if "?" in where else "?"
        headers = {"Content-Type": "application/octet-stream"}
        done = ask("PUT", f"{where}{joined}digest={digest}", headers=headers, body=data)
        if done.status != 201:
            raise TrustError(f"{self.name.repository}: blob {digest} is refused ({done.status})")

    def put_manifest(self, data: bytes, digest: str, media_type: str, tag: str = "") -> None:
        """Upload a manifest, under a tag if there is one."""
        where = self._url(f"manifests/{tag or digest}")
        done = ask("PUT", where, headers={"Content-Type": media_type}, body=data)
        if done.status != 201:
            raise TrustError(f"{where}: refused ({done.status})")
        if not tag and "oci-subject" not in done.headers:
            self._note_referrer(data, digest, media_type)

    def _note_referrer(self, data: bytes, digest: str, media_type: str) -> None:
        """Keep a referrer in the tag that stands in for the API that this registry lacks."""
        subject, kind = referrer_facts(data)
        if not subject:
            return
        tag = subject.replace(":", "-")
        index = json.loads(self.manifest(tag) or b'{"manifests": []}')
        kept = [each for each in index["manifests"] if each["digest"] != digest]
        own = {"mediaType": media_type, "digest": digest, "size": len(data), "artifactType": kind}
        mime = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": mime, "manifests": [*kept, own]}
        self.put_manifest(json.dumps(index).encode(), "", mime, tag)
