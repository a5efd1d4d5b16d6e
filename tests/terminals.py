"""A terminal to try programs on: what a person sees and types."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 20.0


class Terminal:
    """A program on a terminal of its own, as its controlling one."""

    def __init__(self, words: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(24, 80)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd="/",
            env=env,
        )
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size, as a window that is dragged does."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type; "\\x03" is Ctrl-C."""
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> str:
        """Read until `pattern` (a regular expression) is seen; return what matched."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = re.search(pattern.encode(), self.seen)
            if found:
                self.seen = self.seen[found.end() :]
                return found.group().decode()
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{pattern!r} was not seen in {self.seen!r}")
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                raise AssertionError(f"{pattern!r} never came: {self.seen!r}") from None

    def wait(self) -> int:
        """Wait for the program's end, reading what it writes; return its exit code."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 65536)
        return self.process.wait(1)
