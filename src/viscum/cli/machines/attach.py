"""`viscum attach`: the caller's terminal joined to a machine's streams."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty

from ...attaching import Attachment
from ...errors import SpecError
from ...terminal import write_all
from .finding import one_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...attaching import Output
    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["Console", "detach_keys", "main"]

DEFAULT_KEYS = "ctrl-p,ctrl-q"
CHUNK = 4096
CONTROL = {**{chr(c): c - 96 for c in range(97, 123)}, "@": 0, "[": 27, "\\": 28, "]": 29}
CONTROL |= {"^": 30, "_": 31}


def detach_keys(text: str | None) -> bytes:
    """Return the keys that leave the machine, from `ctrl-p,ctrl-q`; none from an empty text."""
    keys = bytearray()
    for word in filter(None, (DEFAULT_KEYS if text is None else text).split(",")):
        control, letter = word.startswith("ctrl-"), word.removeprefix("ctrl-")
        if control and letter in CONTROL:
            keys.append(CONTROL[letter])
        elif not control and len(word) == 1 and word.isascii():
            keys += word.encode()
        else:
            raise SpecError(f"--detach-keys: {word!r} is no key", hint="a letter, or ctrl-LETTER")
    return bytes(keys)


class KeyWatch:
    """Finds the detach keys in what is typed; the begin of them is held back until it is told."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what goes to the machine, and whether the keys were there."""
        passed = b""
        for byte in data:
            self.held += bytes([byte])
            while self.held and not self.keys.startswith(self.held):
                passed, self.held = passed + self.held[:1], self.held[1:]
            if self.keys and self.held == self.keys:
                return passed, True
        return passed, False


class Console:
    """Copies between the caller's streams and a machine's until one of them ends."""

    def __init__(
        self, machine: DetachedMachine, attachment: Attachment, keys: bytes, *, typed: bool
    ) -> None:
        self.machine = machine
        self.attachment = attachment
        self.tty = machine.config.spec.tty
        self.typed = typed
        self.watch = KeyWatch(keys if self.tty or os.isatty(0) else b"")
        self.saved: list[object] | None = None
        self.left = False

    def run(self) -> int:
        """Stay until the machine ends (its exit code) or the keys are typed (0)."""
        with self.attachment:
            try:
                self._enter()
                self._copy()
            finally:
                if self.saved is not None:
                    termios.tcsetattr(0, termios.TCSADRAIN, self.saved)  # type: ignore[arg-type]
        if self.left:
            print(f"\nleft {self.machine.name}; it goes on", file=sys.stderr)
            return 0
        code = self.attachment.exit_code
        return self.machine.wait() if code is None or code < 0 else code

    def _enter(self) -> None:
        if self.tty:
            self._resize()
            signal.signal(signal.SIGWINCH, lambda *_: self._resize())
            if self.typed and os.isatty(0):
                self.saved = termios.tcgetattr(0)
                tty.setraw(0, termios.TCSADRAIN)
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._forward)

    def _forward(self, number: int, _frame: object) -> None:
        from ...errors import MachineError

        try:
            self.machine.stop(number=number)
        except MachineError:
            return

    def _resize(self) -> None:
        try:
            size = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            return
        rows, columns = struct.unpack("HHHH", size)[:2]
        self.attachment.resize(rows, columns)

    def _copy(self) -> None:
        while not self.left:
            watched = [self.attachment.fileno(), *([0] if self.typed else [])]
            ready, _, _ = select.select(watched, [], [])
            if 0 in ready:
                self._type()
            if self.attachment.fileno() in ready:
                output = self.attachment.receive()
                if output is None:
                    return
                self._show(output)

    def _type(self) -> None:
        data = os.read(0, CHUNK)
        if not data:
            self.typed = False
            self.attachment.close_input()
            return
        passed, self.left = self.watch.feed(data)
        if passed:
            self.attachment.send(passed)

    @staticmethod
    def _show(output: Output) -> None:
        if output.lost:
            print(f"viscum: {output.lost} bytes went by unread", file=sys.stderr)
        write_all(2 if output.stream == "stderr" else 1, output.data)


def main(parsed: Parsed) -> int:
    """Join a machine's streams; detach keys leave it running."""
    keys = detach_keys(parsed.text("detach_keys"))
    machine = one_machine(parsed, "viscum attach NAME")
    typed = not parsed.on("no_stdin") and machine.config.interactive
    return Console(machine, machine.attach(), keys, typed=typed).run()
