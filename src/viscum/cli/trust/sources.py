"""Where the command line finds an image and its signatures, by the image's transport."""

from __future__ import annotations

import contextlib

from ...errors import SpecError, TrustError
from ...trust.references import parse_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...trust.references import Image
    from ..parser import Parsed
    from .archives import ArchiveSources
    from .local import DirectorySources
    from .remote import RegistrySources

    Sources = DirectorySources | RegistrySources | ArchiveSources

__all__ = ["open_image", "output_format", "the_image"]


def the_image(parsed: Parsed) -> str:
    """Return the one image that a command was given."""
    if len(parsed.words) != 1:
        raise SpecError(f"one image is needed, not {len(parsed.words)}", hint="docker://NAME:TAG")
    return parsed.words[0]


@contextlib.contextmanager
def open_image(parsed: Parsed, *, writes: bool = False) -> Iterator[tuple[Image, Sources]]:
    """Yield the one image that a command was given, and what gives access to it and to what lies
    beside it. Short names of images are looked up as pulls do.
    """
    from .local import DirectorySources, LayoutSources

    image = parse_image(the_image(parsed))
    if image.transport == "dir":
        yield image, DirectorySources(image)
    elif image.transport == "oci":
        yield image, LayoutSources(image)
    elif image.transport == "docker":
        image, sources = _open_registry(parsed, writes=writes)
        with contextlib.closing(sources):
            yield image, sources
    elif image.transport in ("oci-archive", "docker-archive"):
        with _open_archive(image.transport, the_image(parsed)) as archive:
            yield image, archive
    else:
        hint = "dir:, oci:, oci-archive:, docker-archive:, docker://"
        raise TrustError(f"images of {image.transport}: cannot be looked at here", hint=hint)


@contextlib.contextmanager
def _open_archive(transport: str, text: str) -> Iterator[ArchiveSources]:
    from ...image.sources import open_source
    from ...image_pulling import split_path
    from .archives import ArchiveSources

    path, name = split_path(transport, text.partition(":")[2])
    with open_source(transport, path) as source:
        yield ArchiveSources(source, name)


def _open_registry(parsed: Parsed, *, writes: bool) -> tuple[Image, RegistrySources]:
    from ...image.registry import NotThere
    from ...images import configured_registries
    from ..images.options import settings
    from .remote import RegistrySources

    text = the_image(parsed).removeprefix("docker:").removeprefix("//")
    found = [parse_image(f"docker://{one}") for one in configured_registries().candidates(text)]
    failure: NotThere | None = None
    for image in found:
        assert image.name is not None  # noqa: S101 - for the types
        try:
            return image, RegistrySources(image.name, settings(parsed), writes=writes)
        except NotThere as error:
            failure = failure or error
    raise failure or TrustError(f"{text!r} is nowhere")


def output_format(parsed: Parsed) -> str:
    """Return `text` or `json`."""
    found = parsed.text("format") or "text"
    if found not in ("text", "json"):
        raise SpecError(f"--format {found!r} is unknown", hint="text or json")
    return found
