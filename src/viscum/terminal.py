"""The caller's terminal joined to a machine's: raw mode, sizes, bytes both ways."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import termios
import threading
import tty

from . import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

__all__ = ["Pipes", "Relay"]

CHUNK = 1 << 16
TYPED_AT_ONCE = 1024
END_OF_FILE = b"\x04"


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
        os.set_blocking(self.master, False)
        self.interactive = interactive
        self.saved: list[object] | None = None
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> Self:
        self.resize()
        signal.signal(signal.SIGWINCH, lambda *_: self.resize())
        if self.interactive and os.isatty(0):
            self.saved = termios.tcgetattr(0)
            tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
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
        typed = b""
        while True:
            watch = [self.master, self.wake_read]
            if self.interactive and not typed:
                watch.append(0)
            ready, writable, _ = select.select(watch, [self.master] if typed else [], [])
            if 0 in ready:
                typed = os.read(0, CHUNK)
                if not typed:
                    self.interactive, typed = False, END_OF_FILE
            if writable:
                typed = typed[os.write(self.master, typed[:TYPED_AT_ONCE]) :]
            if self.master in ready:
                if not self._show():
                    return
            elif self.wake_read in ready:
                return  # the machine has ended and everything it wrote was shown

    def _show(self) -> bool:
        try:
            data = os.read(self.master, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the last descriptor of the terminal was closed
            return False
        write_all(1, data)
        return bool(data)


def write_all(fd: int, data: bytes) -> None:
    """Write everything, waiting where the other side is slow."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])


class Pipes:
    """Stands between the caller's terminal and a machine that was given none: it sees pipes, and
    can neither read what is typed elsewhere nor change the terminal's settings.
    """

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.theirs: list[int] = []

    def between(self, fd: int) -> int:
        """Return what the machine gets in place of `fd`, a terminal."""
        reader, writer = native.pipe()
        theirs, source, target = (reader, fd, writer) if fd == 0 else (writer, reader, fd)
        self.theirs.append(theirs)
        thread = threading.Thread(target=self._pump, args=(source, target, fd), daemon=True)
        if fd != 0:
            self.threads.append(thread)
        thread.start()
        return theirs

    @staticmethod
    def _pump(source: int, target: int, fd: int) -> None:
        try:
            while data := os.read(source, CHUNK):
                write_all(target, data)
        except OSError:
            return
        finally:
            os.close(source if fd else target)

    def hand_over(self) -> None:
        """Close the machine's ends: it has them now."""
        while self.theirs:
            os.close(self.theirs.pop())

    def drain(self) -> None:
        """Wait until everything the machine wrote was shown."""
        for thread in self.threads:
            thread.join()
