"""Images as rows of a listing and as records."""

from __future__ import annotations

import calendar
import time
from collections import Counter

from ... import images
from ...image import document
from ...image.store import FROM_INDEX
from ..listing import ago, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...image.store import Store
    from ...images import Image

__all__ = ["image_record", "image_rows", "moment"]

SHORT = 12


def moment(text: str) -> float | None:
    """Return the seconds of a time as images write it, None for none."""
    try:
        return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None


def _split(name: str) -> tuple[str, str]:
    if name.startswith("@"):
        return "<none>", "<none>"
    plain, _, digest = name.partition("@")
    if digest:
        return plain, "<none>"
    repository, colon, tag = plain.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (plain, "<none>")


def image_rows(store: Store, *, whole: bool = False) -> list[dict[str, object]]:
    """Return what templates and JSON see of each image."""
    found = images.list_images(store)
    users: Counter[str] = Counter()
    for digest in {image.digest for image in found}:
        image = next(each for each in found if each.digest == digest)
        users.update({layer.digest for layer in image.manifest.layers})
    return [_row(image, users, whole=whole) for image in found]


def _row(image: Image, users: Counter[str], *, whole: bool) -> dict[str, object]:
    repository, tag = _split(image.name)
    own = sum(layer.size for layer in image.manifest.layers if users[layer.digest] == 1)
    made = moment(image.config.created)
    digits = image.id.partition(":")[2]
    return {
        "Repository": repository,
        "Tag": tag,
        "ID": image.id if whole else digits[:SHORT],
        "Digest": image.digest,
        "CreatedAt": image.config.created,
        "CreatedSince": "" if made is None else ago(made, time.time()),
        "Size": size(image.size),
        "OwnSize": size(own),
        "SharedSize": size(image.size - own),
        "Bytes": image.size,
        "Labels": dict(image.config.labels),
    }


def image_record(image: Image) -> dict[str, object]:
    """Return what `image inspect` tells."""
    config = image.config
    store = images.own_store()
    names = [n for n, other in store.names().items() if other.digest == image.descriptor.digest]
    raw = document.parse(store.read(image.id, "configuration"), "configuration")
    index = image.descriptor.note(FROM_INDEX)
    repositories = {name.partition("@")[0].rpartition(":")[0] or name for name in names}
    digests = [image.digest, *([index] if index else [])]
    return {
        "Id": image.id,
        "Digest": image.digest,
        "RepoTags": [name for name in names if "@" not in name],
        "RepoDigests": sorted(f"{r}@{d}" for r in repositories if r for d in digests),
        "Created": config.created,
        "Architecture": config.architecture,
        "Os": config.os,
        "Author": document.field(raw, "author", str, "", "configuration"),
        "Size": image.size,
        "MediaType": image.manifest.media_type,
        "Config": document.fields(raw, "config", "configuration"),
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Layers": [layer.as_json() for layer in image.manifest.layers],
        "Annotations": dict(image.manifest.annotations),
        "History": [
            {"created": created, "created_by": command, "comment": comment, "empty_layer": empty}
            for created, command, comment, empty in config.history
        ],
    }
