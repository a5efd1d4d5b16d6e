"""`viscum image prune` and `viscum gc`."""

from __future__ import annotations

from ... import images
from ..listing import size
from ..several import confirm
from .options import collect, kept_layers, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Remove images without a name; with --all those that no machine has."""
    words(parsed, 0, 0, "image prune [OPTIONS]")
    store = images.own_store()
    kept = kept_layers()
    spare = []
    for image in images.list_images(store):
        chains = {chain.replace(":", "-") for chain in image.chains}
        used = bool(chains & {name.removeprefix("flat-") for name in kept})
        if image.name.startswith("@") or (parsed.on("all") and not used):
            spare.append(image.name)
    if spare and not parsed.on("force") and not confirm(f"remove {len(spare)} images?"):
        return 1
    freed = 0
    for name in spare:
        freed += images.remove(store, name, kept=kept)[1]
        print(name)
    freed += collect()
    print(f"freed {size(freed)}")
    return 0
