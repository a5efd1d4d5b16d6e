"""The governor's journal: every limit that was changed, and why, within a bound on disk."""

from __future__ import annotations

import json
import os

from ..errors import MachineError
from ..places import make_folder, run_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .fleet import Decision

__all__ = ["Journal", "entries", "governor_folder", "governor_process", "latest"]

MAX_SIZE = 1 << 20
"""Bytes of the journal's file; with the one before it, twice as much is kept."""
NAME = "decisions"
TAIL = 128 << 10
"""Bytes of the journal in which the last decisions are looked for."""


def governor_folder(*, make: bool = False) -> str:
    """Return the folder of the governor's lock, journal and memory; `make` it where missing."""
    top = run_folder()
    if make:
        make_folder(top, "governor", hint="make it writable, or set VISCUM_RUN")
    return f"{top}/governor"


class Journal:
    """Appends decisions, one line of JSON each; the oldest are dropped."""

    def __init__(self) -> None:
        self._path = f"{governor_folder(make=True)}/{NAME}"
        self._fd = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def note(self, decisions: Iterable[Decision], when: float) -> None:
        """Append decisions made at `when`, in seconds of the epoch. A full disk loses them."""
        lines = [
            json.dumps(
                {
                    "time": round(when, 3),
                    "name": decision.name,
                    "what": decision.what,
                    "old": round(decision.old, 4),
                    "new": round(decision.new, 4),
                    "rule": decision.rule,
                    "signal": decision.signal,
                }
            )
            for decision in decisions
        ]
        if not lines:
            return
        try:
            os.write(self._fd, ("\n".join(lines) + "\n").encode())
            if os.fstat(self._fd).st_size > MAX_SIZE:
                self._turn()
        except OSError:
            return

    def _turn(self) -> None:
        os.rename(self._path, self._path + ".1")
        os.close(self._fd)
        self._fd = self._open()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def entries(name: str | None = None) -> Iterator[dict[str, object]]:
    """Yield the decisions about a machine, or all of them, the oldest first.

    Raises MachineError where no governor has run since the host was started.
    """
    base = f"{governor_folder()}/{NAME}"
    found = False
    for path in (base + ".1", base):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = file.readlines()
        except OSError:
            continue
        found = True
        for line in lines:
            entry = _decoded(line)
            if entry is not None and name in (None, entry.get("name")):
                yield entry
    if not found:
        raise MachineError(
            "no governor has decided anything yet", hint="start one: viscum governor"
        )


def latest() -> dict[str, dict[str, object]]:
    """Return the last decision about each machine that is among the last ones of all."""
    try:
        with open(f"{governor_folder()}/{NAME}", "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL, 0))
            lines = file.read(TAIL).decode("utf-8", "replace").split("\n")
    except OSError:
        return {}
    found: dict[str, dict[str, object]] = {}
    for line in lines:
        entry = _decoded(line)
        if entry is not None:
            found[str(entry["name"])] = entry
    return found


def governor_process() -> int:
    """Return the process id of the governor that runs, 0 where none does."""
    import fcntl

    try:
        fd = os.open(f"{governor_folder()}/lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        word = os.pread(fd, 32, 0).strip()
        return int(word) if word.isdigit() else 0
    finally:
        os.close(fd)
    return 0


def _decoded(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None  # a line that a crash cut short
    return entry if isinstance(entry, dict) and "time" in entry and "name" in entry else None
