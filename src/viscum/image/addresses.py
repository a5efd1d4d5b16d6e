"""Web addresses: where a registry is, and where it sends one."""

from __future__ import annotations

import contextlib
import re

from ..errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    Place = tuple[str, str, int]
    """Scheme, host and port."""

__all__ = ["authority", "join", "origin", "split", "target"]

PORTS = {"https": 443, "http": 80}
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?:(?P<user>[^/?#@]*)@)?(?P<host>\[[0-9a-f:.]+\]|[^/?#@:\[\]\s]+)"
    r"(?::(?P<port>[0-9]{1,5})?)?(?P<path>[/?][^#]*)?(?:#.*)?",
    re.ASCII | re.IGNORECASE,
)
_HOST = re.compile(r"[0-9a-z._:-]+")
"""What is left of names in other letters may have signs of addresses in it."""


def split(url: str) -> re.Match[str]:
    """Return scheme, user, host, port and the rest of an address; raises ImageError for none.

    It takes no more than `urllib.parse` does, which takes 3 ms to import.
    """
    match = _ADDRESS.fullmatch(url)
    if match is None or int(match["port"] or 1) >= 1 << 16:
        raise ImageError(f"{url[:200]!r} is no web address")
    return match


def origin(url: str) -> Place:
    """Return scheme, host and port of a URL; raises ImageError for what is no web address."""
    match = split(url)
    scheme, host = match["scheme"].lower(), match["host"].strip("[]").lower()
    with contextlib.suppress(UnicodeError):
        host = host if host.isascii() else host.encode("idna").decode()
    if not _HOST.fullmatch(host):
        raise ImageError(f"{url[:200]!r} is no web address")
    return scheme, host, int(match["port"] or PORTS[scheme])


def join(base: str, target: str) -> str:
    """Return the address that `target` is, seen from `base`; raises ImageError for none."""
    from urllib.parse import urljoin

    try:
        return urljoin(base, target)
    except ValueError:
        raise ImageError(f"{target[:200]!r} is no web address") from None


def target(url: str) -> str:
    """Return the path and the query of an address, as a request has them."""
    path: str = split(url)["path"] or "/"
    path = path if path[0] == "/" else f"/{path}"
    if path.isascii() and path.isprintable() and " " not in path:
        return path
    from urllib.parse import quote

    return quote(path, safe="".join(map(chr, range(0x21, 0x7F))))


def authority(place: Place, *, full: bool = False) -> str:
    """Return host and port as addresses have them, `full` or without a usual port."""
    scheme, host, port = place
    host = f"[{host}]" if ":" in host else host
    return host if port == PORTS[scheme] and not full else f"{host}:{port}"
