"""Callers with folders of state of their own, and machines that live on in them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import viscum.host
from callers import script
from viscum.record import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from callers import Caller

PATIENCE_SECONDS = 20.0


class Place:
    """A caller with folders of state of its own; calling it runs a `viscum` command."""

    def __init__(self, caller: Caller, folder: pathlib.Path) -> None:
        self.caller = caller
        self.data = folder / "data"
        self.run = folder / "run"
        os.chown(folder, caller.uid, -1)
        own = {"VISCUM_DATA": str(self.data), "VISCUM_RUN": str(self.run)}
        self.env = {**caller.environment(), **own}

    def __call__(self, *words: str, code: int = 0, **options: object) -> str:
        """Return what the command printed; where it should fail, what it complained."""
        done = self.result(*words, **options)
        text = done.stderr.decode()
        assert done.returncode == code, (words, done.returncode, text, done.stdout)
        assert "Traceback" not in text, text
        return done.stdout.decode() if not code else text

    def result(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        return self.caller.viscum(*words, **{"env": self.env, **options})

    def start(self, *words: str, **options: object) -> subprocess.Popen:
        settings = {"env": self.env, "stdin": subprocess.DEVNULL, "cwd": "/", **options}
        return subprocess.Popen([script("viscum"), *words], **settings)

    def folder_of(self, machine_id: str) -> pathlib.Path:
        return self.data / "machines" / machine_id

    def status(self, machine_id: str) -> Status:
        """Return the status as its monitor wrote it."""
        path = self.folder_of(machine_id) / "status.json"
        return Status.decode(path.read_bytes(), str(path))

    def machines(self) -> list[str]:
        folder = self.data / "machines"
        return [path.name for path in folder.iterdir()] if folder.exists() else []

    def clear(self) -> None:
        """End every machine, monitors that do not answer too."""
        self.result("rm", "-fav")
        for machine_id in self.machines():
            with contextlib.suppress(OSError, Exception):
                status = self.status(machine_id)
                for pid in (status.monitor, status.pid):
                    if pid > 1:
                        os.kill(pid, signal.SIGKILL)


def groups_of(machine_id: str) -> list[str]:
    """Return the control groups that a machine has."""
    cgroups = viscum.host.probe().cgroups
    roots = {folder for _, folder in cgroups.v1} | ({cgroups.v2} if cgroups.v2 else set())
    paths = [f"{root}/viscum-{machine_id}" for root in roots]
    return [path for path in paths if os.path.isdir(path)]


def until(
    condition: Callable[[], object], what: str = "", seconds: float = PATIENCE_SECONDS
) -> None:
    """Wait until `condition` holds; fail where it does not come to."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen: {what or condition}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
