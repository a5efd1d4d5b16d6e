"""References to images, as policies and signatures write them: fully expanded, and checked."""

from __future__ import annotations

import os
import re

from ..errors import TrustError
from ..frozen import Frozen

__all__ = ["DIGEST", "Image", "Name", "parse_image", "parse_name", "valid_scope"]

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-f]{32,}))?",
    re.ASCII,
)
_PREFIX = re.compile(rf"{_DOMAIN}(?:/{_PART})*", re.ASCII)
DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})", re.ASCII)
DEFAULT_REGISTRY = "docker.io"
MAX_NAME = 255
MAX_REFERENCE = MAX_NAME + 1 + 128 + 1 + 7 + 128
"""Longer texts are not even compared: they would take the time of their square."""
PATHS = ("dir", "oci", "oci-archive")
"""Transports whose scopes are paths of this host."""
ELSEWHERE = ("atomic", "ostree", "sif")
"""Transports that a policy may name because Podman knows them."""
OTHERS = ("docker-archive", "docker-daemon", "containers-storage", "tarball")


class Name(Frozen):
    """A reference in the form of Docker, fully expanded; `tag` and `digest` may be empty."""

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
    def bare(self) -> bool:
        """Whether it has neither tag nor digest."""
        return not self.tag and not self.digest

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


class Image(Frozen):
    """What is asked for: a transport, and within it a name or a place on this host.

    `name` is None for transports that do not name images as Docker does. `path` is absolute and
    without links.
    """

    transport: str
    name: Name | None = None
    path: str = ""
    tag: str = ""

    def __str__(self) -> str:
        if self.name is not None:
            return f"{self.transport}://{self.name}"
        return f"{self.transport}:{self.path}" + (f":{self.tag}" if self.tag else "")


def _expand(name: str) -> str:
    first, slash, rest = name.partition("/")
    known = first == "localhost" or any(sign in first for sign in ".:[") or first != first.lower()
    if not slash or not known:
        first, rest = DEFAULT_REGISTRY, name
    if first == "index.docker.io":
        first = DEFAULT_REGISTRY
    if first == DEFAULT_REGISTRY and "/" not in rest:
        rest = f"library/{rest}"
    return f"{first.lower()}/{rest}"  # as hosts are found, so that no spelling gets past a scope


def parse_name(text: str) -> Name:
    """Return a reference of Docker's form, expanded: `busybox` is `docker.io/library/busybox`.

    Raises TrustError for what is none. No tag is added.
    """
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_REFERENCE else None
    if not match or len(match["name"]) > MAX_NAME or re.fullmatch(r"[0-9a-f]{64}", match["name"]):
        raise TrustError(
            f"{text[:MAX_NAME]!r} is no image reference", hint="[HOST[:PORT]/]NAME[:TAG|@DIGEST]"
        )
    digest = match["digest"] or ""
    if digest and not DIGEST.fullmatch(digest):
        raise TrustError(f"digest {digest!r} is not of sha256 or sha512")
    return Name(_expand(match["name"]), match["tag"] or "", digest)


def valid_scope(text: str) -> bool:
    """Return whether any image of a registry could fall under the scope `text` of a policy."""
    if text.startswith("*."):
        return "/" not in text and valid_prefix(text.removeprefix("*."))
    host, _, rest = text.partition("/")
    known = host == "localhost" or any(sign in host for sign in ".:[")
    if not known or host != host.lower():
        return False
    return valid_prefix(text) or bool(rest and _REFERENCE.fullmatch(text))


def valid_prefix(text: str) -> bool:
    """Return whether `text` may stand as a registry, namespace or repository in a rule."""
    return len(text) <= MAX_NAME and bool(_PREFIX.fullmatch(text))


def _docker(text: str) -> Image:
    name = parse_name(text.removeprefix("//"))
    if name.digest:
        name = Name(name.repository, "", name.digest)  # the digest says more than the tag
    elif not name.tag:
        name = name.replace(tag="latest")
    return Image("docker", name)


def parse_image(text: str) -> Image:
    """Return what `text` asks for: `docker://NAME`, `oci:PATH[:TAG]`, `dir:PATH`, or a plain NAME.

    Raises TrustError for what is none.
    """
    transport, colon, rest = text.partition(":")
    if colon and transport == "docker":
        return _docker(rest)
    if colon and transport in PATHS:
        path, _, tag = (rest, "", "") if transport == "dir" else rest.partition(":")
        if not path or "\0" in path:
            raise TrustError(f"{text!r} names no path", hint=f"{transport}:PATH")
        return Image(transport, None, os.path.realpath(path), tag)
    if colon and transport in OTHERS:
        return Image(transport, None, rest)
    return _docker(text)
