"""What a launch could leave on its host, and looking for it."""

from __future__ import annotations

import os
import pathlib
import time

from viscum import host

PATIENCE_SECONDS = 5.0


def groups(owner: int | None = None) -> set[str]:
    """Return the folders of control groups made by process `owner`, by default this one."""
    prefix = f"viscum-{host.owner_prefix()}-"
    if owner is not None:
        words = prefix.split("-")
        prefix = f"viscum-{words[1]}-{owner:x}-"
    cgroups = host.probe().cgroups
    folders = {folder for _, folder in cgroups.v1} | ({cgroups.v2} if cgroups.v2 else set())
    return {
        f"{folder}/{name}"
        for folder in folders
        for name in os.listdir(folder)
        if name.startswith(prefix)
    }


def children() -> set[int]:
    """Return the children of every thread of this process."""
    found = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        try:
            found |= {int(word) for word in (task / "children").read_text().split()}
        except OSError:
            continue
    return found


def descriptors() -> set[tuple[int, str]]:
    """Return the open descriptors of this process and what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            continue
    return found


def mounts() -> set[str]:
    """Return the mount points that this process sees."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines}


def files() -> set[str]:
    """Return what in the folders for temporary files is named after Viscum."""
    folders = ("/tmp", "/dev/shm", "/var/tmp")
    return {f"{folder}/{name}" for folder in folders for name in _listed(folder)}


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith("viscum-machine")]
    except OSError:
        return []


def look() -> dict[str, set[object]]:
    """Return all of the above, to be compared before and after."""
    return {
        "groups": set(groups()),
        "children": set(children()),
        "descriptors": set(descriptors()),
        "mounts": set(mounts()),
        "files": set(files()),
    }


def settle(before: dict[str, set[object]]) -> dict[str, set[object]]:
    """Return what is there now and was not before, once nothing more goes away."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        now = look()
        left = {what: now[what] - before[what] for what in now if now[what] - before[what]}
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.02)


def processes(mark: str) -> dict[int, str]:
    """Return the living processes of the host that have `mark` in their environment."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = pathlib.Path(f"/proc/{name}/environ").read_bytes()
            if mark.encode() in environment:
                found[int(name)] = os.readlink(f"/proc/{name}/exe")
        except OSError:
            continue
    return found


def await_none(mark: str, seconds: float = PATIENCE_SECONDS) -> dict[int, str]:
    """Return the marked processes that are still there after `seconds`."""
    end = time.monotonic() + seconds
    while (left := processes(mark)) and time.monotonic() < end:
        time.sleep(0.02)
    return left
