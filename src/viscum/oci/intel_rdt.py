"""`linux.intelRdt`: the class of service that a container is in, in a file system `resctrl`.

A class is a folder there (Documentation/filesystems/resctrl.rst in Linux): its `schemata` say what
its tasks get of caches and of memory bandwidth. One that is there already belongs to somebody else.
What is made for a container goes with it.
"""

from __future__ import annotations

import os

from ..errors import HostError, SpecError
from ..host import unescaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["ClassOfService", "find", "folders_of", "remove", "schemata_of"]

RESERVED = (".", "..", "info", "mon_data", "mon_groups")
"""What every `resctrl` has at its top that is no class."""


def find() -> str:
    """Return where `resctrl` is mounted; raises HostError."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            if tail.startswith("resctrl "):
                return unescaped(head.split()[4])
    raise HostError(
        "linux.intelRdt: it needs a resctrl file system, mounted",
        hint="mount -t resctrl resctrl /sys/fs/resctrl, or leave it out",
    )


def folders_of(given: dict[str, Any], identity: str) -> tuple[str, ...]:
    """Return the folders that a later process of a container enters, as far as they are there."""
    try:
        top = f"{find()}/{given.get('closID') or identity}"
    except HostError:
        return ()
    return tuple(path for path in (top, f"{top}/mon_groups/{identity}") if os.path.isdir(path))


def remove(folders: Iterable[str]) -> None:
    """Remove classes and monitoring groups, as far as they are there."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            continue


def schemata_of(given: dict[str, Any]) -> str:
    """Return what to write to `schemata`; memory bandwidth comes from its own field alone."""
    memory = given.get("memBwSchema", "")
    if memory and (not memory.startswith("MB:") or "\n" in memory):
        raise SpecError(f"linux.intelRdt.memBwSchema {memory!r} is not one line of MB:")
    caches = given.get("l3CacheSchema", "").splitlines()
    lines = [*(line for line in caches if not line.startswith("MB:")), memory]
    return "".join(f"{line}\n" for line in lines if line)


def _shares(schemata: str) -> dict[tuple[str, str], str]:
    """Return each share by resource and domain, however the number is written."""
    found = {}
    for line in schemata.splitlines():
        resource, _, shares = line.strip().partition(":")
        for share in shares.split(";"):
            domain, _, value = share.partition("=")
            found[resource, domain.strip()] = value.strip().lower().lstrip("0")
    return found


class ClassOfService:
    """The class that a configuration asks for, below `point`; raises SpecError, HostError."""

    def __init__(self, point: str, given: dict[str, Any], identity: str) -> None:
        self.point = point
        self.top = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.name: str = given.get("closID") or identity
        if self.name in RESERVED or "/" in self.name or "\n" in self.name:
            raise SpecError(f"linux.intelRdt.closID {self.name!r} can be no class of service")
        self.schemata = schemata_of(given)
        names = [self.name]
        if given.get("enableCMT") or given.get("enableMBM"):
            names.append(f"{self.name}/mon_groups/{identity}")
        is_there = self._is_there(shared=bool(given.get("closID")))
        self.names = names[1:] if is_there else names
        """What is to be made."""
        self.folders = tuple(f"{point}/{name}" for name in names)
        """The folders that the container's processes enter, in this order."""
        self.ours = tuple(f"{point}/{name}" for name in reversed(self.names))
        """Those of them that will have to be removed, in this order."""
        self.made: list[str] = []
        """Those that were made so far, in the same order."""

    def make(self) -> None:
        """Make what is not there yet; `made` says how far that went. Raises HostError."""
        try:
            for name in self.names:
                os.mkdir(name, 0o755, dir_fd=self.top)
                self.made.insert(0, f"{self.point}/{name}")
                if name == self.name and self.schemata:
                    self._write(f"{name}/schemata", self.schemata)
        except OSError as error:
            said = self._last_status() or (error.strerror or "").lower()
            raise self._error(f": {said}") from None

    def unmake(self) -> None:
        """Remove what was made."""
        remove(self.made)

    def _is_there(self, *, shared: bool) -> bool:
        """Return whether the class is there; raises HostError where it must be another way."""
        try:
            there = self._read(f"{self.name}/schemata")
        except FileNotFoundError:
            if shared and not self.schemata:
                raise self._error(" is not there", "give a schema for it") from None
            return False
        except OSError as error:
            raise self._error(f": {(error.strerror or '').lower()}") from None
        if not shared:
            raise self._error(" is there already", "name it as closID to share it")
        if not _shares(self.schemata).items() <= _shares(there).items():
            raise self._error(" is there with other schemata", "name another closID")
        return True

    def _error(self, text: str, hint: str = "") -> HostError:
        return HostError(f"linux.intelRdt: the class of service {self.name!r}{text}", hint=hint)

    def _read(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.top)
        with open(fd, encoding="utf-8") as file:
            return file.read()

    def _write(self, path: str, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.top)
        with open(fd, "wb", buffering=0) as file:
            file.write(text.encode())

    def _last_status(self) -> str:
        """Return what the kernel says of the last command, which tells more than an errno."""
        try:
            text = self._read("info/last_cmd_status").strip()
        except OSError:
            return ""
        return "" if text == "ok" else text
