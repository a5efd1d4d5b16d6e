"""Reclaiming in a thread of its own: the kernel may take its time, and throttling cannot wait."""

from __future__ import annotations

import contextlib
import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .live import Live

__all__ = ["Reclaimer"]


class Reclaimer:
    """Asks the kernel to take memory back from one machine after the other."""

    def __init__(self) -> None:
        self._asked: deque[tuple[Live, int]] = deque()
        self._more = threading.Semaphore(0)
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="viscum-reclaim", daemon=True)
        self._thread.start()

    def ask(self, live: Live, amount: int) -> None:
        """Take `amount` bytes back from a machine, soon; `live.reclaimed` tells what came."""
        live.reclaiming = True
        self._asked.append((live, amount))
        self._more.release()

    def close(self) -> None:
        """End the thread, once what it does is done."""
        self._ended = True
        self._more.release()
        self._thread.join()

    def _work(self) -> None:
        while True:
            self._more.acquire()
            if self._ended:
                return
            live, amount = self._asked.popleft()
            with contextlib.suppress(OSError):  # its group is gone
                live.reclaimed = live.handles.take_back(amount, int(live.member.memory_limit))
            live.reclaiming = False


def has_swap() -> bool:
    """Return whether the host has any swap."""
    try:
        with open("/proc/swaps", "rb", buffering=0) as file:
            return file.read(4096).count(b"\n") > 1
    except OSError:
        return False
