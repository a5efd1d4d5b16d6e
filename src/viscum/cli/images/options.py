"""Options that every verb has which talks to a registry."""

from __future__ import annotations

from ... import images
from ...image.transport import Settings
from ...storing import machine_layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..parser import Parsed

__all__ = ["kept_layers", "settings", "words"]


def settings(parsed: Parsed) -> Settings:
    """Return how to talk to registries."""
    given = parsed.options.get("tls_verify")
    return Settings(
        tls_verify=given if isinstance(given, bool) else None,
        cert_dir=parsed.text("cert_dir"),
        authfile=parsed.text("authfile"),
        creds=parsed.text("creds"),
    )


def words(parsed: Parsed, least: int, most: int, usage: str) -> Sequence[str]:
    """Return the words of a command, as many as it takes; raises SpecError."""
    from ...errors import SpecError

    if not least <= len(parsed.words) <= most:
        what = "too few words" if len(parsed.words) < least else "too many words"
        raise SpecError(what, hint=f"viscum {usage}")
    return parsed.words


def kept_layers() -> set[str]:
    """Return the names of layers that machines have which live on, running or not."""
    return machine_layers()


def collect(*, everything: bool = False) -> int:
    """Remove what no image and no machine needs; return the bytes."""
    return images.collect(images.own_store(), kept=kept_layers(), everything=everything)
