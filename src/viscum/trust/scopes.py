"""Which scope of a policy an image falls under, the most specific first."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .references import Image, Name

__all__ = ["name_scopes", "scopes"]


def _wildcards(registry: str) -> Iterator[str]:
    """Yield `*.example.com` and `*.com` for `hub.example.com:5000`."""
    host = registry.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"


def name_scopes(name: Name) -> Iterator[str]:
    """Yield the scopes of an image of Docker's kind: itself, its repository, namespaces, host."""
    if not name.bare:
        yield str(name)
    scope = name.repository
    yield scope
    while "/" in scope:
        scope = scope.rpartition("/")[0]
        yield scope
    yield from _wildcards(name.registry)


def _folders(path: str) -> Iterator[str]:
    """Yield `path` and the folders above it; `/` is none, the transport's default is for that."""
    while path not in ("/", ""):
        yield path
        path = os.path.dirname(path)


def scopes(image: Image) -> Iterator[str]:
    """Yield the scopes of its transport that `image` falls under, "" last."""
    if image.name is not None:
        yield from name_scopes(image.name)
    elif image.transport in ("oci", "oci-archive"):
        yield f"{image.path}:{image.tag}"
        yield from _folders(image.path)
    elif image.transport == "dir":
        yield from _folders(image.path)
    yield ""
