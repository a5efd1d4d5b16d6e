"""Platforms of images, and the choice among those of an index."""

from __future__ import annotations

import os

from ..errors import ImageError
from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .manifest import Descriptor

__all__ = ["Platform", "choose", "own_platform", "parse_platform"]

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armhf": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "loongarch64": "loong64",
}
_BEST = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
"""The variant that is meant where none is named."""


class Platform(Frozen):
    """Operating system, architecture and its variant, in the words of Go."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def plain(self) -> Platform:
        """Return the same with the variant that none stands for left out."""
        known = _ARCHITECTURES.get(self.architecture, self.architecture)
        best = self.variant == _BEST.get(known)
        return Platform(self.os, known, "" if best else self.variant)


def own_platform() -> Platform:
    """Return the platform of this host."""
    machine = os.uname().machine
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def parse_platform(text: str | None) -> Platform:
    """Return `OS/ARCHITECTURE[/VARIANT]` or `ARCHITECTURE`; this host's for none."""
    if not text:
        return own_platform()
    words = text.lower().split("/")
    if len(words) == 1:
        words = (
            [words[0], own_platform().architecture] if words[0] == "linux" else ["linux", *words]
        )
    fine = all(word.replace("-", "").replace("_", "").replace(".", "").isalnum() for word in words)
    if len(words) > 3 or not fine or not text.isascii():
        raise ImageError(f"platform {text!r} is not usable", hint="such as linux/arm64/v8")
    return Platform(*words).plain()


def _rank(wanted: Platform, given: Platform) -> int:
    """Return how well `given` serves, 0 for not at all: the same variant, or a lesser one."""
    if (wanted.os, wanted.architecture) != (given.os, given.architecture):
        return 0
    if wanted.variant == given.variant:
        return 100
    best = _BEST.get(wanted.architecture, "")
    asked, has = wanted.variant or best, given.variant or best
    numbers = [word[1:] for word in (asked, has) if word[:1] == "v" and word[1:].isdigit()]
    if len(numbers) == 2 and int(numbers[1]) < int(numbers[0]):
        return int(numbers[1]) + 1
    return 0


def choose(wanted: Platform, descriptors: Sequence[Descriptor], what: str) -> Descriptor:
    """Return the manifest of an index that serves `wanted` best; raises ImageError for none."""
    plain = wanted.plain()
    ranked = [(_rank(plain, each.platform.plain()), each) for each in descriptors if each.platform]
    best = max((rank for rank, _ in ranked), default=0)
    if best:
        return next(each for rank, each in ranked if rank == best)
    if len(descriptors) == 1 and not descriptors[0].platform:
        return descriptors[0]
    offered = sorted({str(each.platform) for each in descriptors if each.platform})
    offered = [word for word in offered if not word.startswith("unknown")][:20]
    raise ImageError(
        f"{what} has nothing for {wanted}", hint=f"it has: {', '.join(offered) or 'no platform'}"
    )
