"""Freezing all processes of a machine, by its control group of either version."""

from __future__ import annotations

import os
import time

from ..errors import HostError
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["freeze"]

POLL_SECONDS = 0.005
PATIENCE_SECONDS = 30.0
V1_WORDS = {True: "FROZEN", False: "THAWED"}


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def freeze(folders: Mapping[str, str], *, frozen: bool) -> None:
    """Freeze or thaw the groups in `folders` (by v1 controller; v2 under ""), and wait until they
    stand still or go on. Raises HostError.
    """
    if folders.get(""):
        path, value = folders[""] + "/cgroup.freeze", str(int(frozen))
        state, wanted = folders[""] + "/cgroup.events", f"frozen {int(frozen)}"
    elif folders.get("freezer"):
        path = state = folders["freezer"] + "/freezer.state"
        value = wanted = V1_WORDS[frozen]
    else:
        raise HostError("this host has no cgroup to pause a machine with")
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        write_text(path, value)
        while wanted not in _read(state):
            if time.monotonic() > end:
                raise HostError(f"{state!r} does not become {wanted!r}", hint="is it in state D?")
            time.sleep(POLL_SECONDS)
    except OSError as error:
        if os.path.exists(state):
            raise HostError(f"{path!r}: {(error.strerror or '').lower()}") from None
