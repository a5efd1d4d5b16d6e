"""Names of images: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, and transports before them."""

from __future__ import annotations

import re

from ..errors import ImageError
from ..frozen import Frozen

__all__ = [
    "TRANSPORTS",
    "Reference",
    "check_digest",
    "is_digest",
    "is_short",
    "parse_reference",
    "split_transport",
]

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:(?:{_HOST})/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_DOMAIN = re.compile(_HOST, re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
MAX_NAME = 255
MAX_TEXT = 1024
DEFAULT_REGISTRY = "docker.io"
TRANSPORTS = ("docker", "oci", "oci-archive", "docker-archive", "dir")


def is_digest(text: str) -> bool:
    """Return whether `text` is a digest that Viscum can compute."""
    return bool(_DIGEST.fullmatch(text))


def check_digest(text: object, what: str = "digest") -> str:
    """Return `text` if it is a digest; raises ImageError otherwise."""
    if not isinstance(text, str) or not is_digest(text):
        raise ImageError(f"{what} {text!r} is no digest of sha256 or sha512")
    return text


class Reference(Frozen):
    """A full name: `repository` begins with its registry; tag and digest may be empty."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def registry(self) -> str:
        """Host and port."""
        return self.repository.partition("/")[0]

    @property
    def path(self) -> str:
        """The repository without its registry."""
        return self.repository.partition("/")[2]

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def _refuse(text: str) -> ImageError:
    hint = "[HOST[:PORT]/]NAME[:TAG][@DIGEST], the name in small letters"
    if text != text.lower() and _REFERENCE.fullmatch(text.lower()):
        hint = "the name of a repository has small letters only"
    return ImageError(f"{text[:200]!r} is no reference of an image", hint=hint)


def split_transport(text: str) -> tuple[str, str]:
    """Return transport and the rest of `docker://NAME`, `oci:PATH[:NAME]`; a bare name is docker's.

    Raises ImageError for a transport that is unknown.
    """
    word, colon, rest = text.partition(":")
    if colon and word in TRANSPORTS:
        if word != "docker":
            return word, rest
        if not rest.startswith("//"):
            raise ImageError(f"{text!r} is no reference", hint="docker://NAME")
        return word, rest[2:]
    if colon and (rest.startswith("//") or word in ("containers-storage", "docker-daemon")):
        known = ", ".join(TRANSPORTS)
        raise ImageError(f"transport {word!r} of {text!r} is unknown", hint=f"one of: {known}")
    return "docker", text


def _first_is_host(name: str) -> bool:
    first, slash, _ = name.partition("/")
    return bool(slash) and (
        first == "localhost" or any(sign in first for sign in ".:[") or first != first.lower()
    )


def is_short(text: str) -> bool:
    """Return whether a reference names no registry."""
    return not _first_is_host(text.partition("@")[0])


def parse_reference(text: str, registry: str = DEFAULT_REGISTRY) -> Reference:
    """Return what `text` names; a short name is one of `registry`.

    No tag is added. Raises ImageError for what is none.
    """
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_TEXT else None
    if not match or len(match["name"]) > MAX_NAME or _HEX.fullmatch(match["name"]):
        raise _refuse(text)
    digest = match["digest"] or ""
    if digest and not is_digest(digest):
        raise ImageError(f"digest {digest!r} is not of sha256 or sha512, in small letters")
    host, rest = registry, match["name"]
    if _first_is_host(rest):
        host, _, rest = rest.partition("/")
        if not _DOMAIN.fullmatch(host):
            raise _refuse(text)
    if host == "index.docker.io":
        host = DEFAULT_REGISTRY
    if host == DEFAULT_REGISTRY and "/" not in rest:
        rest = f"library/{rest}"
    return Reference(f"{host}/{rest}", match["tag"] or "", digest)
