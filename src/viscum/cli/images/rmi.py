"""`viscum rmi`."""

from __future__ import annotations

from ... import images
from ..several import each
from .options import kept_layers, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Take names of images away, and with the last name the image."""
    words(parsed, 1, 1 << 10, "rmi [OPTIONS] IMAGE…")
    store = images.own_store()

    def remove(name: str) -> None:
        gone, _ = images.remove(store, name, force=parsed.on("force"), kept=kept_layers())
        for each_name in gone:
            print(f"untagged {each_name}")

    return each(parsed.words, remove)
