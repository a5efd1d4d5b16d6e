"""Volumes as rows of a listing, and who uses them."""

from __future__ import annotations

import time

from ... import volumes
from ...errors import ViscumError
from ..filters import Filters, labels_match
from ..listing import ago

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["complete", "filtered", "row", "users"]


def row(volume: volumes.Volume) -> dict[str, object]:
    """Return what templates and JSON see of a volume."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(volume.created))
    return {
        "Name": volume.name,
        "Driver": "local",
        "Scope": "local",
        "Mountpoint": volume.folder,
        "CreatedAt": created,
        "Created": ago(volume.created, time.time()),
        "Labels": dict(volume.labels),
        "Anonymous": volume.anonymous,
        "Options": {},
    }


def complete(volume: volumes.Volume) -> dict[str, object]:
    """Return what `inspect` tells: the row, without what changes by the second, and the users."""
    told = row(volume)
    del told["Created"]
    return {**told, "UsedBy": users(volume.name)}


def _labels(row: dict[str, object], wanted: str) -> bool:
    labels = row["Labels"]
    return isinstance(labels, dict) and labels_match(labels, wanted)


def _dangling(row: dict[str, object], value: str) -> bool:
    return (not users(str(row["Name"]))) == (value in ("true", "1"))


def filtered(words: Sequence[str]) -> list[dict[str, object]]:
    """Return the rows of the volumes that `--filter` words want; raises SpecError."""
    tests = {
        "anonymous": lambda row, value: row["Anonymous"] == (value in ("true", "1")),
        "name": lambda row, value: value in str(row["Name"]),
        "label": _labels,
        "label!": lambda row, value: not _labels(row, value),
        "dangling": _dangling,
    }
    filters = Filters(words, tests)
    rows = []
    for name in volumes.names():
        try:
            found = row(volumes.find(name))
        except ViscumError:
            continue  # removed meanwhile
        if filters.match(found):
            rows.append(found)
    return rows


def users(name: str) -> list[str]:
    """Return the names of the machines that have a volume, running or not."""
    from ...registry import machines

    found = []
    for record in machines():
        try:
            mounts = record.config.spec.mounts
        except ViscumError:
            continue  # damaged, or removed meanwhile
        if any(mount.volume == name for mount in mounts):
            found.append(record.name)
    return found
