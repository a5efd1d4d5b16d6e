"""Where an image is found: the places that registries.conf names, mirrors first."""

from __future__ import annotations

import contextlib

from ..errors import ImageError
from .registry import NotThere, Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .manifest import Descriptor
    from .reference import Reference
    from .registries import Registries
    from .transport import Settings

__all__ = ["open_repository"]


@contextlib.contextmanager
def open_repository(
    reference: Reference, registries: Registries, settings: Settings, target: str = ""
) -> Iterator[tuple[Repository, bytes, Descriptor]]:
    """Find `reference` at one of its places; yield the repository and the manifest there."""
    failure: ImageError | None = None
    for endpoint in registries.endpoints(reference):
        repository = Repository(
            endpoint, settings, name=reference.repository, helpers=registries.helpers
        )
        try:
            data, descriptor = repository.manifest(target or reference.target)
        except ImageError as error:
            repository.close()
            failure = error
            continue
        try:
            yield repository, data, descriptor
        finally:
            repository.close()
        return
    raise failure or NotThere(f"{reference} is nowhere")
