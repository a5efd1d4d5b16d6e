"""What a governor leaves behind when it dies: limits that need nobody to watch over them.

`viscum-rest` waits beside the governor for its death. It then sets the limits that the governor
last wrote down, unless another governor has taken over by then.
"""

from __future__ import annotations

import os
import subprocess

from .decisions import governor_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Resting"]

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin", "viscum-rest")
PATIENCE_MS = 500
"""How long a new governor has before the limits are set to rest."""


class Resting:
    """The file of limits to rest at, and the process that waits for this one's death."""

    def __init__(self, lock: str) -> None:
        self.path = f"{governor_folder(make=True)}/rest"
        self._text = ""
        _write(self.path, "")
        self.process = subprocess.Popen(
            [PROGRAM, lock, self.path, str(PATIENCE_MS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            close_fds=True,
        )

    def write(self, lines: Iterable[str]) -> None:
        """Write down the limits to rest at, where they changed. A full disk leaves those before."""
        text = "".join(lines)
        if text == self._text:
            return
        self._text = text
        try:
            _write(self.path, text)
        except OSError:
            return

    def stop(self) -> None:
        """End the process: this governor ends in order."""
        if self.process.stdin is not None:
            try:
                self.process.stdin.write(b".")
                self.process.stdin.close()
            except OSError:
                pass  # somebody killed it
        self.process.wait()


def _write(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path + ".new", path)
