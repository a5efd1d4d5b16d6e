"""The caller's terminal joined to the machine's: raw mode, sizes, bytes both ways."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import sys
import termios
import threading
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Relay"]

CHUNK = 1 << 16


def _receive_terminal(near: int) -> int:
    """Return the master of the machine's terminal, which its child sent over a socket."""
    with socket.socket(fileno=os.dup(near)) as channel:
        _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    os.set_inheritable(fds[0], False)
    return fds[0]


def _window_size(fd: int) -> bytes | None:
    size = array.array("H", [0, 0, 0, 0])
    try:
        fcntl.ioctl(fd, termios.TIOCGWINSZ, size, True)
    except OSError:
        return None
    return size.tobytes()


class Relay:
    """Copies between this process's stdin and stdout and a machine's terminal, in a thread.

    Leaving the `with` copies what is left and puts the caller's terminal back.
    """

    def __init__(self, near: int, interactive: bool) -> None:  # noqa: FBT001
        self.master = _receive_terminal(near)
        self.interactive = interactive
        self.saved: list[object] | None = None
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> Self:
        self.resize()
        signal.signal(signal.SIGWINCH, lambda *_: self.resize())
        if self.interactive and os.isatty(0):
            self.saved = termios.tcgetattr(0)
            tty.setraw(0)
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.wake_write)
        self.thread.join()
        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)  # type: ignore[arg-type]
        os.close(self.master)
        os.close(self.wake_read)

    def resize(self) -> None:
        """Give the machine's terminal the size of the caller's."""
        for fd in (0, 1, 2):
            size = _window_size(fd) if os.isatty(fd) else None
            if size is not None:
                fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
                return

    def _copy(self) -> None:
        sources = [self.master, self.wake_read, *([0] if self.interactive else [])]
        poller = select.poll()
        for fd in sources:
            poller.register(fd, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if 0 in ready and not self._type():
                poller.unregister(0)
            if self.master in ready:
                if not self._show():
                    return
            elif self.wake_read in ready:
                return  # the machine has ended and everything it wrote was shown

    def _type(self) -> bool:
        data = os.read(0, CHUNK)
        if not data:
            os.write(self.master, b"\x04")
            return False
        view = memoryview(data)
        while view:
            view = view[os.write(self.master, view) :]
        return True

    def _show(self) -> bool:
        try:
            data = os.read(self.master, CHUNK)
        except OSError:  # EIO: the last descriptor of the terminal was closed
            return False
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return bool(data)
