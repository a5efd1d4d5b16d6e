"""Machines that live on, each caller with folders of state of its own."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import callers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Place:
    """A caller with folders of state, removed at the end with what runs there."""

    def __init__(self, caller: callers.Caller, folder: pathlib.Path) -> None:
        self.caller = caller
        self.folder = folder
        self.data = folder / "data"
        os.chown(folder, caller.uid, -1)
        own = {"VISCUM_DATA": str(self.data), "VISCUM_RUN": str(folder / "run")}
        self.env = {**caller.environment(), **own}

    def call(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        """Run `viscum` with words; its output is kept."""
        return self.caller.viscum(*words, env=self.env, **{"cwd": self.folder, **options})

    def __call__(self, *words: str, code: int = 0, **options: object) -> str:
        """Return what a command prints: on stdout where it succeeds, else on stderr."""
        done = self.call(*words, **options)
        text = done.stderr.decode("utf-8", "surrogateescape")
        assert done.returncode == code, text
        assert "Traceback" not in text
        return text if code else done.stdout.decode("utf-8", "surrogateescape")

    def close(self) -> None:
        """Remove every machine."""
        if self.data.exists():
            self("rm", "--force", "--all")


def places(caller: callers.Caller, folder: pathlib.Path) -> Iterator[Place]:
    """Yield a place, for a fixture."""
    place = Place(caller, folder)
    try:
        yield place
    finally:
        place.close()
        shutil.rmtree(folder, ignore_errors=True)
