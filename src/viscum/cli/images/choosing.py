"""Whether the words of `run` begin with an image or with a command of the host's root."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["choose_image"]

DIGITS = 12
"""So many digits of an id at least are taken for one, where a command could stand too."""
PREFIXES = ("docker://", "oci:", "oci-archive:", "docker-archive:", "dir:")


def names_image(word: str) -> bool:
    """Return whether a first word is an image: it has a transport, a registry, or a tag or digest
    without a folder before it; or the store has an image of that name.
    """
    if word.startswith(PREFIXES):
        return True
    if not word or word[0] in "/.~-" or not word.isascii():
        return False
    first, slash, rest = word.partition("/")
    if slash and rest and (":" in first or "." in first or first == "localhost"):
        return True
    if not slash and (":" in word or "@" in word):
        return True
    return _is_stored(word)


def _is_stored(word: str) -> bool:
    from ...places import data_folder

    path = f"{data_folder()}/images/index.json"
    try:
        if os.stat(path).st_size < 64:
            return False
    except OSError:
        return False
    from ... import images

    return images.find_name(images.own_store(), word, DIGITS) is not None


def choose_image(parsed: Parsed) -> str | None:
    """Return the image, taken from the words where it stands there; None for the host's root."""
    given = parsed.text("image")
    if given is not None:
        return given
    if parsed.dashed or parsed.text("rootfs") is not None or not parsed.words:
        return None
    return parsed.words.pop(0) if names_image(parsed.words[0]) else None


def obtain(parsed: Parsed, name: str) -> object:
    """Return the image, pulled as --pull says."""
    from ... import image_pulling
    from .choosing_name import ask
    from .options import settings
    from .progress import Bars

    policy = parsed.text("pull") or "missing"
    if policy in ("always", "newer") or name.startswith(PREFIXES[1:]):
        parsed.options["image_may_change"] = True  # a plan of it is good for this time only
    with Bars() as bars:
        return image_pulling.obtain(
            name,
            policy=policy,
            platform=parsed.text("platform"),
            settings=settings(parsed),
            progress=bars,
            storage=parsed.text("storage"),
            ask=ask(),
        )
