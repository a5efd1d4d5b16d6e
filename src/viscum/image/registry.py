"""A repository of a registry, as the OCI distribution specification has it."""

from __future__ import annotations

import binascii
import re
import time

from ..errors import ImageError
from . import document
from .addresses import join, origin
from .manifest import ACCEPTED, OCI_INDEX, Descriptor, digest_of, parse_descriptor
from .reference import check_digest, is_digest
from .transport import Connection, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .auth import Credentials
    from .http import Answer
    from .registries import Endpoint
    from .store import Partial
    from .transport import Settings

__all__ = ["NotThere", "Repository", "bounded"]

MAX_TOKEN = 1 << 20
MAX_ERROR = 64 << 10
READ = 1 << 18
RESUMES = 8
STALLED_SECONDS = 0.5
_CHALLENGE = re.compile(r'([a-zA-Z0-9_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next\b')
MAX_PAGES = 100
HUB = "registry-1.docker.io"


class NotThere(ImageError):
    """The registry answers, and has no such thing."""


def _domain(host: str) -> str:
    """Return what hosts of one owner share: the last two labels, a whole address."""
    if host.replace(".", "").isdigit() or ":" in host or "." not in host:
        return host
    return ".".join(host.split(".")[-2:])


class Repository:
    """One repository: manifests and blobs in it, and who may have them."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        *,
        name: str = "",
        helpers: tuple[str, ...] = (),
        writes: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.settings = settings
        self.helpers = helpers
        self.name = name or f"{endpoint.registry}/{endpoint.path}"
        self.actions = "pull,push" if writes else "pull"
        self.connection = Connection(endpoint.registry, settings, insecure=endpoint.insecure)
        self._base = ""
        self._header: str | None = None
        self._credentials: Credentials | None = None
        self._scopes: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def __str__(self) -> str:
        return f"{self.endpoint.registry}/{self.endpoint.path}"

    # The way in.

    def _find(self) -> str:
        """Return where the registry's API is: https, or http for an insecure one that has that."""
        if not self._base:
            host = HUB if self.endpoint.registry == "docker.io" else self.endpoint.registry
            plain = self.connection.insecure and self._is_plain(host)
            self._base = f"http{'' if plain else 's'}://{host}/v2/"
        return self._base

    def _is_plain(self, host: str) -> bool:
        """Return whether an insecure registry speaks no TLS. A port that was named speaks one or
        the other, and is asked in plain words, which tell nothing: `ssl` takes longer to import.
        """
        if ":" in host.rpartition("]")[2]:
            answer = self.connection.ask_once(f"http://{host}/v2/")
            return answer is not None and answer.status in (200, 401)
        try:
            self.connection.request("GET", f"https://{host}/v2/").finish()
        except ImageError:
            return True
        return False

    def check_login(self) -> None:
        """Have the registry check the credentials; raises ImageError where it refuses them."""
        self._expect(self._call("GET", self._find()), (200,), "login")

    def _known(self, registry: str) -> Credentials | None:
        from . import auth

        if self.settings.creds is not None and registry == self.endpoint.registry:
            return auth.parse_pair(self.settings.creds)
        file, helpers = self.settings.authfile, self.helpers
        path = self.endpoint.path if registry == self.endpoint.registry else ""
        return auth.find_credentials(registry, path, file=file, helpers=helpers)

    def _authorize(self, answer: Answer) -> None:
        """Do what a refusal asks for: a password with each request, or a token."""
        challenge = answer.header("WWW-Authenticate")
        kind, _, rest = challenge.partition(" ")
        values = {key.lower(): quoted or bare for key, quoted, bare in _CHALLENGE.findall(rest)}
        known = self._known(self.endpoint.registry)
        if kind.lower() == "basic":
            if known is None or not known.user:
                raise ImageError(
                    f"registry {self.endpoint.registry} wants a password",
                    hint=f"viscum login {self.endpoint.registry}",
                )
            self._header = known.basic
        elif kind.lower() == "bearer" and values.get("realm"):
            self._header = "Bearer " + self._token(values, known)
        else:
            raise ImageError(
                f"registry {self.endpoint.registry} wants authentication of the kind {kind[:40]!r}",
                hint="Basic and Bearer are understood",
            )

    def _may_see(self, realm: str, known: Credentials | None) -> Credentials | None:
        """Return the credentials that the token server at `realm` gets: those of the registry
        where it is of the same owner by its name, else its own from the files.
        """
        _, host, port = origin(realm)
        ours = origin(self._base)
        if (host, port) == ours[1:] or _domain(host) == _domain(ours[1]):
            return known
        return self._known(host if port in (80, 443) else f"{host}:{port}")

    def _token(self, values: Mapping[str, str], known: Credentials | None) -> str:
        from urllib.parse import urlencode

        realm = values["realm"]
        if origin(self._base)[0] == "https" and origin(realm)[0] != "https":
            raise ImageError(f"the token server {realm[:200]!r} is not https")
        scopes = [f"repository:{self.endpoint.path}:{self.actions}"] if self.endpoint.path else []
        scopes += sorted(self._scopes)
        fields = [("scope", scope) for scope in scopes]
        if values.get("service"):
            fields.append(("service", values["service"]))
        known = self._may_see(realm, known)
        if known and known.token:
            extra = [("grant_type", "refresh_token"), ("refresh_token", known.token)]
            form = urlencode([*extra, ("client_id", "viscum"), *fields])
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self.connection.request("POST", realm, kind, form.encode())
        else:
            join = "&" if "?" in realm else "?"
            url = realm + join + urlencode(fields)
            answer = self.connection.request(
                "GET", url, {"Authorization": known.basic} if known else {}
            )
        data = self._expect(answer, (200,), "token", MAX_TOKEN)
        found = document.parse(data, f"answer of the token server {realm[:100]}")
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise ImageError(f"the token server {realm[:200]!r} gave no token")
        return token

    def _call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], Iterator[bytes]] | None = None,
    ) -> Answer:
        """Return the answer to a request for what is at `path` below the repository."""
        base = self._find()
        url = path if "://" in path else f"{base}{self.endpoint.path}/{path}"
        for attempt in range(2):
            sent = dict(headers or {})
            if self._header and origin(url) == origin(base):
                sent["Authorization"] = self._header
            stream = body() if callable(body) else body
            answer = self.connection.request(method, url, sent, stream)
            if answer.status != 401 or attempt or origin(url) != origin(base):
                return answer
            answer.finish()
            self._authorize(answer)
        raise AssertionError

    def _expect(
        self,
        answer: Answer,
        statuses: tuple[int, ...],
        what: str,
        limit: int = document.MAX_DOCUMENT,
    ) -> bytes:
        """Return the body of an answer of one of `statuses`; raises ImageError for others."""
        try:
            if answer.status in statuses:
                return bounded(answer, limit, what)
            text = bounded(answer, MAX_ERROR, what)
        except OSError as error:
            raise ImageError(f"{self}: {what}: {error}") from None
        finally:
            answer.finish()
        raise self._refused(answer.status, text, what)

    def _refused(self, status: int, body: bytes, what: str) -> ImageError:
        reason = ""
        try:
            errors = document.list_of(document.parse(body, "error"), "errors", dict, "error")
            words = [str(each.get("message") or each.get("code") or "") for each in errors]
            reason = "; ".join(filter(None, words))[:300]
        except ImageError:
            pass
        reason = "".join(c for c in reason if c.isprintable()) or f"status {status}"
        if status == 404:
            return NotThere(f"{self}: {what}: {reason}", hint="check name and tag")
        if status in (401, 403):
            return ImageError(
                f"{self}: {what}: {reason}", hint=f"viscum login {self.endpoint.registry}"
            )
        if status == 429:
            return ImageError(f"{self}: {what}: too many requests", hint="wait, or log in")
        return ImageError(f"{self}: {what}: {reason}")

    # Manifests.

    def manifest(self, target: str) -> tuple[bytes, Descriptor]:
        """Return manifest or index `target`, a tag or a digest, as bytes and what they are."""
        what = f"manifest {target}"
        answer = self._call("GET", f"manifests/{target}", {"Accept": ", ".join(ACCEPTED)})
        media_type = answer.header("Content-Type").partition(";")[0].strip().lower()
        said = answer.header("Docker-Content-Digest")
        data = self._expect(answer, (200,), what)
        digest = digest_of(data, target.partition(":")[0] if is_digest(target) else "sha256")
        if is_digest(target) and digest != target:
            raise ImageError(f"{self}: {what} has the digest {digest}")
        if said and is_digest(said) and digest_of(data, said.partition(":")[0]) != said:
            raise ImageError(f"{self}: {what} has the digest {digest}, and not {said} as it says")
        kind = media_type if media_type in ACCEPTED else ""
        return data, Descriptor(kind or "application/octet-stream", digest, len(data))

    def head(self, target: str) -> str:
        """Return the digest that a tag stands for, empty where the registry does not tell."""
        answer = self._call("HEAD", f"manifests/{target}", {"Accept": ", ".join(ACCEPTED)})
        said = answer.header("Docker-Content-Digest")
        self._expect(answer, (200,), f"manifest {target}")
        return said if is_digest(said) else ""

    def put_manifest(self, target: str, data: bytes, media_type: str) -> str:
        """Put a manifest under a tag or a digest; return its digest."""
        self._put_manifest(target, data, media_type)
        return digest_of(data)

    def put_referrer(self, data: bytes, media_type: str) -> bool:
        """Put a manifest that refers to another; return whether the registry lists it there."""
        return self._put_manifest(digest_of(data), data, media_type)

    def _put_manifest(self, target: str, data: bytes, media_type: str) -> bool:
        answer = self._call("PUT", f"manifests/{target}", {"Content-Type": media_type}, data)
        self._expect(answer, (200, 201, 202), f"manifest {target}")
        return bool(answer.header("OCI-Subject"))

    def _pages(self, path: str) -> Iterator[dict[str, object]]:
        """Yield the parts of a list of referrers, each of which names the next (RFC 8288)."""
        size = 0
        for _ in range(MAX_PAGES):
            answer = self._call("GET", path, {"Accept": OCI_INDEX})
            data = self._expect(answer, (200,), "referrers", document.MAX_DOCUMENT - size)
            size += len(data)
            yield document.parse(data, "referrers")
            after = _NEXT.search(answer.header("Link"))
            if not after:
                return
            path = join(f"{self._base}{self.endpoint.path}/{path}", after[1])
            if origin(path) != origin(self._base):
                raise ImageError(f"{self}: another host is to have the next part of the referrers")
        raise ImageError(f"{self}: the referrers come in more than {MAX_PAGES} parts")

    def referrers(self, digest: str, artifact_type: str) -> list[dict[str, object]]:
        """Return the descriptors of what refers to a manifest, by the API or by the tag that
        stands for it where there is none.
        """
        from urllib.parse import quote

        check_digest(digest)
        filters = f"?artifactType={quote(artifact_type)}" if artifact_type else ""
        try:
            pages = list(self._pages(f"referrers/{digest}{filters}"))
        except NotThere:
            try:
                data, _ = self.manifest(digest.replace(":", "-"))
            except NotThere:
                return []
            pages = [document.parse(data, "referrers")]
        found = [
            each
            for page in pages
            for each in document.list_of(page, "manifests", dict, "referrers")
        ]
        kinds = [(each, parse_descriptor(each, "referrers")) for each in found]
        return [each for each, kind in kinds if artifact_type in ("", kind.artifact_type)]

    def signatures(self, digest: str) -> list[bytes]:
        """Return what the API extension for signatures has, where the registry offers it."""
        base = self._find()
        told = self._call("GET", base)
        told.finish()
        if told.header("X-Registry-Supports-Signatures") != "1":
            return []
        top = f"{base.removesuffix('v2/')}extensions/v2/{self.endpoint.path}"
        url = f"{top}/signatures/{check_digest(digest)}"
        try:
            answer = self._call("GET", url)
            value = document.parse(self._expect(answer, (200,), "signatures"), "signatures")
        except NotThere:
            return []
        rows = document.list_of(value, "signatures", dict, "signatures")
        kinds = [(row.get("schemaVersion"), row.get("type")) for row in rows]
        known = [row for row, kind in zip(rows, kinds, strict=True) if kind == (2, "atomic")]
        texts = [document.field(row, "content", str, "", "signatures") for row in known]
        try:
            return [binascii.a2b_base64(text, strict_mode=True) for text in texts]
        except ValueError:
            raise ImageError(f"{self}: a signature of {digest} is not base64") from None

    # Blobs.

    def blob(self, digest: str, limit: int = document.MAX_DOCUMENT) -> bytes:
        """Return a small blob, its digest compared."""
        answer = self._call("GET", f"blobs/{check_digest(digest)}")
        data = self._expect(answer, (200,), f"blob {digest}", limit)
        if digest_of(data, digest.partition(":")[0]) != digest:
            raise ImageError(f"{self}: blob {digest} has the digest {digest_of(data)}")
        return data

    def has_blob(self, digest: str) -> bool:
        """Return whether the repository has a blob."""
        answer = self._call("HEAD", f"blobs/{digest}")
        answer.finish()
        return answer.status == 200

    def fetch(self, partial: Partial, progress: Callable[[int], None]) -> None:
        """Add what is missing to `partial`; where the connection breaks, go on by Range."""
        wanted = partial.descriptor
        failures = 0
        while partial.size < wanted.size:
            before = partial.size
            try:
                self._fetch_rest(partial, progress)
            except OSError as error:
                failures = 0 if partial.size > before else failures + 1
                if failures >= RESUMES:
                    raise explain(error, self._base) from None
                time.sleep(STALLED_SECONDS * failures)
                continue
            if partial.size == before:
                raise ImageError(f"{self}: blob {wanted.digest} ended after {before} bytes")
        partial.finish()

    def _fetch_rest(self, partial: Partial, progress: Callable[[int], None]) -> None:
        wanted, start = partial.descriptor, partial.size
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._call("GET", f"blobs/{wanted.digest}", headers)
        if answer.status == 416 or (start and not _goes_on(answer, start)):
            partial.restart()
            if answer.status != 200:
                answer.finish()
                answer = self._call("GET", f"blobs/{wanted.digest}")
        if answer.status not in (200, 206):
            self._expect(answer, (), f"blob {wanted.digest}")
        try:
            while data := answer.read(READ):
                partial.write(data)
                progress(partial.size)
        except BaseException:
            answer.close()
            raise
        answer.finish()

    def mount(self, digest: str, source: str) -> bool:
        """Have the registry take a blob over from another of its repositories."""
        self._scopes.add(f"repository:{source}:pull")
        from urllib.parse import urlencode

        query = urlencode({"mount": digest, "from": source})
        answer = self._call("POST", f"blobs/uploads/?{query}")
        self._expect(answer, (201, 202), f"blob {digest}")
        return answer.status == 201

    def upload(self, descriptor: Descriptor, path: str, progress: Callable[[int], None]) -> None:
        """Put the file at `path` there as a blob."""
        self._upload(descriptor.digest, descriptor.size, lambda: _file_pieces(path, progress))

    def put_blob(self, data: bytes) -> None:
        """Put a small blob there, where it is not yet."""
        digest = digest_of(data)
        if not self.has_blob(digest):
            self._upload(digest, len(data), data)

    def _upload(self, digest: str, size: int, body: bytes | Callable[[], Iterator[bytes]]) -> None:
        answer = self._call("POST", "blobs/uploads/", {"Content-Length": "0"}, b"")
        self._expect(answer, (202,), f"upload of {digest}")
        target = answer.header("Location")
        url = join(f"{self._base}{self.endpoint.path}/", target)
        if origin(self._base)[0] == "https" and origin(url)[0] != "https":
            raise ImageError(f"{self}: an upload is sent from https to http")
        url += ("&" if "?" in url else "?") + f"digest={digest}"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
        }
        answer = self._call("PUT", url, headers, body)
        self._expect(answer, (201, 202, 204), f"upload of {digest}")


def _file_pieces(path: str, progress: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(READ):
            yield data
            done += len(data)
            progress(done)


def _goes_on(answer: Answer, start: int) -> bool:
    given = answer.header("Content-Range")
    return answer.status == 206 and given.startswith(f"bytes {start}-")


def bounded(answer: Answer, limit: int, what: str) -> bytes:
    """Read a body of at most `limit` bytes; raises ImageError for a longer one."""
    parts, size = [], 0
    while data := answer.read(READ):
        size += len(data)
        if size > limit:
            answer.close()
            raise ImageError(f"{what} has more than {limit} bytes")
        parts.append(data)
    return b"".join(parts)
