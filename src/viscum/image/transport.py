"""HTTP to registries: certificates, proxies, retries, redirects, and credentials that go to no
other host than the one they are for.
"""

from __future__ import annotations

import os
import ssl
import time
import urllib.parse

import urllib3

from ..errors import ImageError
from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Connection", "Settings", "origin"]

MAX_REDIRECTS = 6
RETRIES = 4
REFUSED_RETRIES = 2
"""Where nobody listens, waiting seldom helps."""
FIRST_DELAY = 0.2
MAX_DELAY = 20.0
TIMEOUT = urllib3.Timeout(connect=20, read=60)
BUSY = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
CROSSES_HOSTS = ("accept", "range", "user-agent", "content-type", "content-length")
"""Headers that another host may see after a redirect."""


class Settings(Frozen):
    """How to talk to registries. `tls_verify` None follows registries.conf."""

    tls_verify: bool | None = None
    cert_dir: str | None = None
    authfile: str | None = None
    creds: str | None = None


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL; raises ImageError for what is no web address."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise ImageError(f"{url[:200]!r} is no web address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImageError(f"{url[:200]!r} is no web address")
    return parts.scheme, parts.hostname.lower(), port


def join(base: str, target: str) -> str:
    """Return the address that `target` is, seen from `base`; raises ImageError for none."""
    try:
        return urllib.parse.urljoin(base, target)
    except ValueError:
        raise ImageError(f"{target[:200]!r} is no web address") from None


def _proxy(scheme: str, host: str, port: int) -> str | None:
    from urllib.request import (  # type: ignore[attr-defined]
        getproxies_environment,
        proxy_bypass_environment,
    )

    proxies = getproxies_environment()
    if proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    return proxies.get(scheme) or proxies.get("all")


class _Pool(urllib3.HTTPSConnectionPool):
    """Without the warning about certificates that are not checked: that was asked for."""

    def _validate_conn(self, conn: urllib3.connection.HTTPSConnection) -> None:  # type: ignore[override]
        if conn.is_closed:
            conn.connect()


class Connection:
    """Talks to a registry and to where that sends one. May be used from several threads."""

    def __init__(self, registry: str, settings: Settings, *, insecure: bool = False) -> None:
        self.registry = registry
        self.settings = settings
        wanted = settings.tls_verify
        self.insecure = insecure if wanted is None else not wanted
        self._pools: dict[tuple[str, str, int], urllib3.PoolManager] = {}

    def close(self) -> None:
        """Close what is kept open."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()

    def _certificates(self, host: str, port: int) -> list[str]:
        """Return the folders with certificates for a host."""
        if self.settings.cert_dir:
            return [self.settings.cert_dir]
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        tops = (f"{config}/containers/certs.d", *CERTIFICATES)
        names = [f"{host}:{port}", *([host] if port == 443 else [])]
        folders = [f"{top}/{name}" for name in names for top in tops]
        return [folder for folder in folders if os.path.isdir(folder)][:1]

    def _context(self, host: str, port: int) -> ssl.SSLContext:
        ours = host == self.registry.rpartition(":")[0] or host == self.registry
        if self.insecure and ours:
            # Reading the host's authorities takes longer than all the rest of a short answer.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        for folder in self._certificates(host, port):
            try:
                for name in sorted(os.listdir(folder)):
                    path = f"{folder}/{name}"
                    if name.endswith(".crt"):
                        context.load_verify_locations(path)
                    elif name.endswith(".cert"):
                        context.load_cert_chain(path, path.removesuffix("cert") + "key")
            except (OSError, ssl.SSLError) as error:
                raise ImageError(f"certificates in {folder!r}: {error}") from None
        return context

    def _pool(self, place: tuple[str, str, int]) -> urllib3.PoolManager:
        known = self._pools.get(place)
        if known is not None:
            return known
        options: dict[str, object] = {"retries": False, "timeout": TIMEOUT, "maxsize": 8}
        if place[0] == "https":
            options["ssl_context"] = self._context(place[1], place[2])
        proxy = _proxy(*place)
        made = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)  # type: ignore[arg-type]
        )
        made.pool_classes_by_scheme = {**made.pool_classes_by_scheme, "https": _Pool}
        return self._pools.setdefault(place, made)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: object
    ) -> urllib3.BaseHTTPResponse:
        return self._pool(origin(url)).request(
            method,
            url,
            headers=dict(headers),
            body=body,  # type: ignore[arg-type]
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def _patiently(
        self, method: str, url: str, headers: Mapping[str, str], body: object
    ) -> urllib3.BaseHTTPResponse:
        """Ask again after failures that pass; a body that is a stream is sent once only."""
        repeats = body is None or isinstance(body, bytes)
        delay = FIRST_DELAY
        for attempt in range(RETRIES + 1):
            last = attempt == RETRIES or not repeats
            try:
                answer = self._once(method, url, headers, body)
            except urllib3.exceptions.HTTPError as error:
                gone = "refused" in str(error) and attempt == REFUSED_RETRIES
                if last or gone or is_final(error):
                    raise explain(error, url) from None
                wait = delay
            else:
                if answer.status not in BUSY or last:
                    return answer
                wait = max(delay, _retry_after(answer.headers.get("Retry-After", "")))
                answer.drain_conn()
                answer.release_conn()
            time.sleep(min(wait, MAX_DELAY))
            delay *= 3
        raise AssertionError

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Return the answer, unread; redirects are followed, without credentials to other hosts.

        Raises ImageError where no answer comes.
        """
        sent = {"User-Agent": "viscum", **(headers or {})}
        seen = 0
        while True:
            answer = self._patiently(method, url, sent, body)
            target = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not target:
                return answer
            answer.drain_conn()
            answer.release_conn()
            seen += 1
            if seen > MAX_REDIRECTS:
                raise ImageError(f"{url[:200]}: more than {MAX_REDIRECTS} redirects")
            if body is not None and not isinstance(body, bytes):
                raise ImageError(f"{url[:200]}: an upload is redirected")
            url, sent = self._follow(url, target, sent)
            if answer.status == 303:
                method, body = "GET", None

    def _follow(self, url: str, target: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
        to = join(url, target)
        before, after = origin(url), origin(to)
        if before[0] == "https" and after[0] != "https":
            raise ImageError(f"{url[:200]} redirects from https to {after[0]}://{after[1]}")
        if before != after:
            headers = {
                name: value for name, value in headers.items() if name.lower() in CROSSES_HOSTS
            }
        return to, headers


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def is_final(error: Exception) -> bool:
    """Return whether asking again cannot help: a certificate, a name."""
    text = str(error)
    final = ("certificate", "CERTIFICATE", "NameResolution", "WRONG_VERSION", "record layer")
    return any(word in text for word in final)


def explain(error: Exception, url: str) -> ImageError:
    """Return what a failed request means."""
    text = str(getattr(error, "reason", None) or error)
    text = text.rpartition(">: ")[2] if ">: " in text else text
    hint = ""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "put its CA into /etc/containers/certs.d/HOST:PORT/ca.crt, or --tls-verify=false"
    elif "WRONG_VERSION" in text or "record layer" in text:
        hint = "it does not speak TLS: --tls-verify=false, or insecure = true in registries.conf"
    elif "refused" in text:
        hint = "is the registry running there?"
    scheme, host, port = origin(url)
    return ImageError(f"{scheme}://{host}:{port}: {text[:300]}", hint=hint)
