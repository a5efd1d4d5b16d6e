"""How far long work is, at a terminal: shown from its second second on, gone when it is over."""

from __future__ import annotations

import os
import sys
import time

from .listing import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO, Self

__all__ = ["Counted", "Progress"]

PATIENCE_SECONDS = 1.0
STEP_SECONDS = 0.2


class Progress:
    """A line on standard error that says how much was carried, and how fast."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.begun = time.monotonic()
        self.next = self.begun + PATIENCE_SECONDS if os.isatty(2) else float("inf")
        self.shown = False
        self.count = 0

    def add(self, count: int) -> None:
        """Count bytes that were carried."""
        self.count += count
        now = time.monotonic()
        if now < self.next:
            return
        speed = self.count / max(now - self.begun, 1e-6)
        text = f"{self.what}: {size(self.count)}, {size(speed)}/s"
        print(f"\r{text:<40}", end="", file=sys.stderr, flush=True)
        self.shown, self.next = True, now + STEP_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Counted:
    """A stream to read from, of which is counted what was read."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self.stream = stream
        self.progress = progress

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes."""
        data = self.stream.read(count)
        self.progress.add(len(data))
        return data
