"""Images in archives, and the signatures that an archive of a layout may have."""

from __future__ import annotations

from ...image.signatures import Signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...image.sources import DockerArchive, LayoutSource

__all__ = ["ArchiveSources"]


class ArchiveSources(Signatures):
    """An image of an archive, read only."""

    def __init__(self, source: LayoutSource | DockerArchive, name: str) -> None:
        super().__init__(source)
        self._top = source.manifest(name)[0]

    def top(self) -> bytes:
        """Return the image's manifest, or its index."""
        return self._top
