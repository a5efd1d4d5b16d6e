"""Removing folders that machines have written to: whatever modes and owners are in them."""

from __future__ import annotations

import os

from .folders import remove_tree

__all__ = ["wipe"]

PLACE = "/wipe"
PATIENCE_SECONDS = 600.0


def wipe(path: str) -> None:
    """Remove a folder of this user's. What in it belongs to subordinate ids is removed by a
    machine, whose root is above them. What cannot be removed stays: `viscum prune` tries again.
    """
    _remove(path)
    if os.path.lexists(path) and os.geteuid() != 0:
        _wipe_inside(path)
        _remove(path)


def _remove(path: str) -> None:
    try:
        remove_tree(path)
    except OSError:
        return


def _wipe_inside(path: str) -> None:
    from .errors import ViscumError
    from .running import run
    from .spec import Mount

    command = ["find", PLACE, "-mindepth", "1", "-delete"]
    try:
        run(command, mounts=[Mount(path, PLACE)], timeout=PATIENCE_SECONDS, capture=False)
    except ViscumError:
        return
