"""`ps`: the processes of a container, as the host numbers them."""

from __future__ import annotations

import os

from ..errors import MachineError, SpecError
from .document import dump
from .store import open_stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call
    from .store import Stored

__all__ = ["main", "pids_of"]


def _pids_below(folder: str) -> list[int]:
    found = []
    for path, _, _ in os.walk(folder):
        try:
            with open(f"{path}/cgroup.procs", "rb") as file:
                found += [int(line) for line in file]
        except OSError:
            continue
    return found


def pids_of(stored: Stored) -> list[int]:
    """Return the processes of a container: those of its groups, or its first one."""
    for folder in stored.cgroups:
        if os.path.isdir(folder):
            pids = _pids_below(folder)
            if pids:
                return sorted(set(pids))
    return [stored.pid] if stored.lives() else []


def main(call: Call) -> int:
    """Print the processes, as `ps` does or their numbers as JSON."""
    from .words import read_words

    known = ["format,f="]
    given, words = call.given, call.words
    if words[1:2] and words[1].startswith(("-f=", "--format", "-f")) and len(words[1]) > 1:
        more, rest = read_words(words[1:], known) if words[1] != "-ef" else (given, words[1:])
        given.options.update(more.options)
        words = [words[0], *rest]
    form = given.text("format", "table")
    if form not in ("table", "json"):
        raise SpecError(f"invalid format option {form!r}", hint="table or json")
    stored = open_stored(call.root, words[0])
    pids = pids_of(stored)
    if form == "json":
        print(dump(pids))
        return 0
    import subprocess

    options = words[1:] or ["-ef"]
    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    except OSError as error:
        raise MachineError(f"ps: {(error.strerror or '').lower()}") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines or "PID" not in lines[0].split():
        raise MachineError(f"ps {' '.join(options)}: {done.stderr.strip() or 'prints no PID'}")
    column = lines[0].split().index("PID")
    print(lines[0])
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            print(line)
    return 0
