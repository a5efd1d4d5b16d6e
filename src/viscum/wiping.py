"""Removing folders that machines have written to: whatever modes and owners are in them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["wipe"]

PLACE = "/wipe"
PATIENCE_SECONDS = 600.0


def wipe(path: str) -> None:
    """Remove a folder of this user's. What in it belongs to subordinate ids is removed by a
    machine, whose root is above them. What cannot be removed stays: `viscum prune` tries again.
    """
    import shutil

    shutil.rmtree(path, onerror=_open_up)
    if os.path.lexists(path) and os.geteuid() != 0:
        _wipe_inside(path)
        shutil.rmtree(path, ignore_errors=True)


def _open_up(act: Callable[..., object], path: str, _error: object) -> None:
    """A folder may be closed even to its owner, as overlayfs leaves its own."""
    try:
        os.chmod(os.path.dirname(path), 0o700, follow_symlinks=False)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        else:
            act(path)
    except (OSError, NotImplementedError):
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
