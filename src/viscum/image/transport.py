"""Questions to registries: retries, redirects, and credentials that go to no other host than the
one they are for.
"""

from __future__ import annotations

import time

from ..errors import ImageError
from ..frozen import Frozen
from .addresses import authority, join, origin, target
from .dialing import Dialer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .addresses import Place
    from .http import Answer, Line

__all__ = ["Connection", "Settings", "explain"]

AGENT = "viscum"
MAX_REDIRECTS = 6
RETRIES = 4
REFUSED_RETRIES = 2
"""Where nobody listens, waiting seldom helps."""
FIRST_DELAY = 0.2
MAX_DELAY = 20.0
BUSY = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
CROSSES_HOSTS = ("accept", "range", "user-agent", "content-type", "content-length")
"""Headers that another host may see after a redirect."""


class Settings(Frozen):
    """How to talk to registries. `tls_verify` None follows registries.conf."""

    tls_verify: bool | None = None
    cert_dir: str | None = None
    authfile: str | None = None
    creds: str | None = None


class Connection:
    """Talks to a registry and to where that sends one. May be used from several threads."""

    def __init__(self, registry: str, settings: Settings, *, insecure: bool = False) -> None:
        wanted = settings.tls_verify
        self.insecure = insecure if wanted is None else not wanted
        self._dialer = Dialer(registry, settings, insecure=self.insecure)
        self._idle: dict[Place, list[Line]] = {}

    def close(self) -> None:
        """Close what is kept open."""
        for lines in self._idle.values():
            while lines:
                lines.pop().close()

    def _line(self, place: Place) -> Line:
        idle = self._idle.setdefault(place, [])
        while idle:
            line = idle.pop()
            if line.is_fresh():
                return line
            line.close()
        return self._dialer.dial(place, idle)

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
    ) -> Answer:
        place = origin(url)
        line = self._line(place)
        own = {"Host": authority(place), "Accept-Encoding": "identity"}
        try:
            return line.ask(method, target(url), {**own, **headers}, body)
        except BaseException:
            line.close()
            raise

    def ask_once(self, url: str) -> Answer | None:
        """Return the answer to a plain question, read; None where none comes at once."""
        try:
            answer = self._once("GET", url, {"User-Agent": AGENT}, None)
        except OSError:
            return None
        answer.finish()
        return answer

    def _patiently(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
    ) -> Answer:
        """Ask again after failures that pass; a body that is a stream is sent once only."""
        repeats = body is None or isinstance(body, bytes)
        delay = FIRST_DELAY
        for attempt in range(RETRIES + 1):
            last = attempt == RETRIES or not repeats
            try:
                answer = self._once(method, url, headers, body)
            except OSError as error:
                gone = "refused" in str(error) and attempt == REFUSED_RETRIES
                if last or gone or is_final(error):
                    raise explain(error, url) from None
                wait = delay
            else:
                if answer.status not in BUSY or last:
                    return answer
                wait = max(delay, _retry_after(answer.header("Retry-After")))
                answer.finish()
            time.sleep(min(wait, MAX_DELAY))
            delay *= 3
        raise AssertionError

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Return the answer, unread; redirects are followed, without credentials to other hosts.

        Raises ImageError where no answer comes.
        """
        sent = {"User-Agent": AGENT, **(headers or {})}
        seen = 0
        while True:
            answer = self._patiently(method, url, sent, body)
            to = answer.header("Location")
            if answer.status not in REDIRECTS or not to:
                return answer
            answer.finish()
            seen += 1
            if seen > MAX_REDIRECTS:
                raise ImageError(f"{url[:200]}: more than {MAX_REDIRECTS} redirects")
            if body is not None and not isinstance(body, bytes):
                raise ImageError(f"{url[:200]}: an upload is redirected")
            url, sent = _follow(url, to, sent)
            if answer.status == 303:
                method, body = "GET", None
                sent = {name: sent[name] for name in sent if name[:8].lower() != "content-"}


def _follow(url: str, to: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    to = join(url, to)
    before, after = origin(url), origin(to)
    if before[0] == "https" and after[0] != "https":
        raise ImageError(f"{url[:200]} redirects from https to {after[0]}://{after[1]}")
    if before != after:
        headers = {name: value for name, value in headers.items() if name.lower() in CROSSES_HOSTS}
    return to, headers


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def is_final(error: OSError) -> bool:
    """Return whether asking again cannot help: a certificate, a name."""
    text = f"{type(error).__name__} {error}"
    final = ("certificate", "CERTIFICATE", "gaierror", "WRONG_VERSION", "record layer")
    return any(word in text for word in final)


def explain(error: OSError, url: str) -> ImageError:
    """Return what a failed request means."""
    text, hint = str(error.strerror or error), ""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "put its CA into /etc/containers/certs.d/HOST:PORT/ca.crt, or --tls-verify=false"
    elif "WRONG_VERSION" in text or "record layer" in text:
        hint = "it does not speak TLS: --tls-verify=false, or insecure = true in registries.conf"
    elif "refused" in text:
        hint = "is the registry running there?"
    place = origin(url)
    return ImageError(f"{place[0]}://{authority(place)}: {text[:300]}", hint=hint)
