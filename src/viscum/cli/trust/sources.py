"""Where the command line finds an image and its signatures, by the image's transport."""

from __future__ import annotations

from ...errors import SpecError, TrustError
from ...trust.references import parse_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...trust.references import Image
    from ..parser import Parsed
    from .local import DirectorySources
    from .remote import RegistrySources

__all__ = ["asked_image", "open_sources", "output_format"]


def asked_image(parsed: Parsed) -> tuple[str, Image]:
    """Return the one image that a command was given, as text and taken apart."""
    if len(parsed.words) != 1:
        raise SpecError(f"one image is needed, not {len(parsed.words)}", hint="docker://NAME:TAG")
    return parsed.words[0], parse_image(parsed.words[0])


def open_sources(image: Image, parsed: Parsed) -> DirectorySources | RegistrySources:
    """Return what gives access to an image and to what lies beside it."""
    from .local import DirectorySources, LayoutSources

    if image.transport == "dir":
        return DirectorySources(image)
    if image.transport == "oci":
        return LayoutSources(image)
    if image.transport == "docker":
        from .remote import RegistrySources

        return RegistrySources(image, plain=parsed.options.get("tls_verify") is False)
    raise TrustError(f"images of {image.transport}: cannot be looked at here", hint="dir:, oci:")


def output_format(parsed: Parsed) -> str:
    """Return `text` or `json`."""
    found = parsed.text("format") or "text"
    if found not in ("text", "json"):
        raise SpecError(f"--format {found!r} is unknown", hint="text or json")
    return found
