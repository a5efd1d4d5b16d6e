"""What was learned of machines, kept on disk from one governor to the next."""

from __future__ import annotations

import json
import os

from .decisions import governor_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .fleet import Fleet, Member

__all__ = ["Memories", "load_memories", "save_memories"]

VERSION = 1
MAX_MACHINES = 10_000
MAX_SIZE = 64 << 20


class Memories:
    """What is known by machine's name; a machine that comes back is known again."""

    def __init__(self, known: dict[str, dict[str, object]]) -> None:
        self._known = known

    def give(self, member: Member) -> None:
        """Let a member remember."""
        kept = self._known.get(member.name)
        if kept is None or member.cpu is None:
            return
        member.cpu.histogram.load(kept.get("levels"))
        member.cpu.day.load(kept.get("day"))

    def keep(self, member: Member) -> None:
        """Keep what a member learned, for as long as this governor runs."""
        if member.cpu is not None:
            self._known[member.name] = _learned(member)


def _learned(member: Member) -> dict[str, object]:
    cpu = member.cpu
    if cpu is None:
        return {}
    levels = [round(weight, 3) for weight in cpu.histogram.dump()]
    return {"levels": levels, "day": cpu.day.dump()}


def _path() -> str:
    return f"{governor_folder()}/learned.json"


def load_memories() -> Memories:
    """Return what the last governor saved; nothing where that cannot be read."""
    try:
        with open(_path(), encoding="utf-8") as file:
            plain = json.loads(file.read(MAX_SIZE))
    except (OSError, ValueError, RecursionError):
        return Memories({})
    machines = plain.get("machines") if isinstance(plain, dict) else None
    if not isinstance(machines, dict) or plain.get("version") != VERSION:
        return Memories({})
    return Memories({name: kept for name, kept in machines.items() if isinstance(kept, dict)})


def save_memories(fleet: Fleet) -> None:
    """Save what was learned of the machines there are. A full disk keeps the last save."""
    machines = {
        member.name: _learned(member)
        for member in list(fleet.members.values())[:MAX_MACHINES]
        if member.cpu is not None
    }
    path = _path()
    try:
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(
                json.dumps({"version": VERSION, "machines": machines}, separators=(",", ":"))
            )
        os.rename(path + ".new", path)
    except OSError:
        return
