"""`viscum volume create`."""

from __future__ import annotations

from ... import volumes
from ...errors import SpecError
from ...limits import parse_size
from ...wiping import wipe
from ..filters import parse_labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Make a volume and print its name; without a name it gets one of 64 random digits."""
    if len(parsed.words) > 1:
        raise SpecError(f"{parsed.words[1]!r} is too much", hint="viscum volume create [NAME]")
    if parsed.text("driver") not in (None, "local"):
        raise SpecError(
            f"driver {parsed.text('driver')!r} is unknown", hint="local is the only one"
        )
    labels = parse_labels(parsed.texts("label"))
    name = parsed.words[0] if parsed.words else _random_name()
    volumes.sweep(wipe)
    size = None if parsed.text("size") is None else parse_size(parsed.text("size") or "", "--size")
    print(volumes.create(name, labels, size=size).name)
    return 0


def _random_name() -> str:
    import os

    return os.urandom(32).hex()
