"""How far a pull or a push is: a bar for each layer on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time

from ..listing import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Bars"]

REDRAW_SECONDS = 0.1
WIDTH = 24
DONE = ("done", "there")


class Bars:
    """Draws on standard error; with `quiet` nothing. Use it in a `with`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.terminal = not quiet and os.isatty(2) and os.environ.get("TERM") != "dumb"
        self.rows: dict[str, tuple[str, int, int]] = {}
        self.drawn = 0
        self.last = 0.0
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.lock:
            if self.terminal and self.rows:
                self._draw()

    def __call__(self, digest: str, what: str, done: int, total: int) -> None:
        """Take note of how far a layer is."""
        if self.quiet:
            return
        with self.lock:
            before = self.rows.get(digest, ("", 0, 0))[0]
            self.rows[digest] = (what, done, total)
            if self.terminal:
                if what != before or time.monotonic() - self.last > REDRAW_SECONDS:
                    self._draw()
            elif what not in (before, "waiting"):
                print(f"{_short(digest)} {what} {size(total)}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        self.last = time.monotonic()
        lines = [_bar(digest, *row) for digest, row in self.rows.items()]
        try:
            room = max(2, os.get_terminal_size(2).lines - 1)
        except OSError:
            room = 20
        lines = lines[-room:]
        up = f"\x1b[{self.drawn}A" if self.drawn else ""
        text = "".join(f"\x1b[2K{line}\n" for line in lines)
        sys.stderr.write(up + text)
        sys.stderr.flush()
        self.drawn = len(lines)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _bar(digest: str, what: str, done: int, total: int) -> str:
    share = 1.0 if what in DONE or not total else min(1.0, done / total)
    full = int(share * WIDTH)
    bar = "█" * full + "░" * (WIDTH - full)
    return f"{_short(digest)}  {bar}  {what:<11} {size(done)} / {size(total)}"
