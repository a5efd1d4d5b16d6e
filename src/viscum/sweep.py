"""What a crash left behind, found by name and finished: groups whose owner is gone.

A machine's id names its owner: the pid namespace, the pid and the start time of the process that
launched it. Nothing else is trusted, and nothing of another pid namespace is touched.
"""

from __future__ import annotations

import _signal as signal  # `signal` imports enum, 6 ms
import os
import time

from .host import owner_prefix
from .resources.limits import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .host import Cgroups

__all__ = ["is_orphan", "remove_groups", "sweep_groups"]

PATIENCE_SECONDS = 1.0
STEP_SECONDS = 0.01


def is_orphan(machine_id: str) -> bool:
    """Return whether the process that owns `machine_id` is known to be gone."""
    fields = machine_id.removeprefix(PREFIX).split("-")
    if len(fields) != 4:
        return False
    try:
        pid = int(fields[1], 16)
    except ValueError:
        return False
    if f"{os.stat('/proc/self/ns/pid').st_ino:x}" != fields[0]:
        return False
    return owner_prefix(pid) != "-".join(fields[:3])


def _kill(folder: str) -> None:
    """Kill every process of a group; of version 2 at once, of version 1 one by one."""
    try:
        with open(folder + "/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        try:
            with open(folder + "/cgroup.procs", encoding="ascii") as file:
                pids = [int(line) for line in file]
        except OSError:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


def _thaw(folder: str) -> None:
    """Let a frozen v1 group go on: SIGKILL does not reach what is frozen there."""
    try:
        with open(folder + "/freezer.state", "w", encoding="ascii") as file:
            file.write("THAWED")
    except OSError:
        return


def _remove(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def sweep_groups(cgroups: Cgroups) -> list[str]:
    """Kill and remove the groups of machines whose owner is gone; return their folders."""
    found = list(_orphans(_roots(cgroups)))
    _end(found)
    return found


def _roots(cgroups: Cgroups) -> Iterable[str]:
    folders = [*(folder for _, folder in cgroups.v1), *([cgroups.v2] if cgroups.v2 else [])]
    return dict.fromkeys(folders)


def remove_groups(cgroups: Cgroups, name: str) -> None:
    """Kill and remove the groups of that name, where there are any."""
    _end([path for root in _roots(cgroups) if os.path.isdir(path := f"{root}/{name}")])


def _end(left: list[str]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while left:
        for folder in left:
            _thaw(folder)
        for folder in left:
            _kill(folder)
        left = [folder for folder in left if not _remove(folder)]
        if time.monotonic() >= end:
            break
        if left:
            time.sleep(STEP_SECONDS)


def _orphans(folders: Iterable[str]) -> Iterable[str]:
    verdicts: dict[str, bool] = {}
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if name.startswith(PREFIX):
                if name not in verdicts:
                    verdicts[name] = is_orphan(name)
                if verdicts[name]:
                    yield f"{folder}/{name}"
