"""Talking to a machine's monitor over its socket; the messages are told in `native/clients.c`."""

from __future__ import annotations

import _socket as sockets  # `socket` imports enum and selectors, 4 ms
import os

from .errors import MachineError
from .frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from .registry import Record

__all__ = ["Attachment", "Output", "tell_settings", "tell_stop"]

LARGEST = 1 << 17
INPUT_AT_ONCE = 4096
STREAMS = {b"o": "stdout", b"e": "stderr"}


class Output(Frozen):
    """What a machine wrote while it was watched; `lost` bytes before it went by unread."""

    stream: str
    data: bytes
    lost: int = 0


def _words(size: int, *numbers: int) -> bytes:
    return b"".join(number.to_bytes(size, "little", signed=number < 0) for number in numbers)


def _connect(record: Record) -> sockets.socket:
    """Connect to the monitor; the folder's path may be longer than an address takes."""
    channel = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    try:
        folder = os.open(record.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            channel.connect(f"/proc/self/fd/{folder}/ctl")
        finally:
            os.close(folder)
    except OSError as error:
        channel.close()
        reason = (error.strerror or "").lower()
        raise MachineError(
            f"the monitor of {record.name!r} does not answer: {reason}",
            hint=f"is it running? viscum ps -a; viscum start {record.name}",
        ) from None
    return channel


def _tell(record: Record, message: bytes) -> None:
    channel = _connect(record)
    try:
        channel.send(message)
    finally:
        channel.close()


def tell_stop(record: Record, number: int, patience: float | None) -> None:
    """Have the monitor end the machine: signal `number` first, SIGKILL after `patience` s (None:
    never). It is not started again.
    """
    milliseconds = -1 if patience is None else round(min(patience, 2e6) * 1000)
    _tell(record, b"S" + _words(4, number, milliseconds))


def tell_settings(record: Record) -> None:
    """Have the monitor read its settings again."""
    _tell(record, b"U")


class Attachment:
    """A connection to a running machine's streams; made by `DetachedMachine.attach`.

    Iterating yields `Output` until the machine ends; then `exit_code` is known. Whoever reads too
    slowly loses output, which the next `Output` tells; the machine is never held up.
    """

    def __init__(self, channel: sockets.socket) -> None:
        self._channel = channel
        self.exit_code: int | None = None

    @classmethod
    def to(cls, record: Record) -> Attachment:
        """Connect to a running machine; raises MachineError."""
        channel = _connect(record)
        try:
            channel.send(b"A")
        except OSError:
            channel.close()
            raise MachineError(
                f"machine {record.name!r} has too many clients", hint="have some of them leave"
            ) from None
        return cls(channel)

    @classmethod
    def pair(cls) -> tuple[Attachment, sockets.socket]:
        """Return a connection to a machine that is not there yet, and the monitor's end of it."""
        near, far = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        near.send(b"A")
        return cls(near), far

    def fileno(self) -> int:
        """Return the descriptor that is readable once there is output."""
        return self._channel.fileno()

    def __iter__(self) -> Iterator[Output]:
        while (output := self.receive()) is not None:
            yield output

    def receive(self) -> Output | None:
        """Wait for output; None once the machine has ended."""
        lost = 0
        while True:
            try:
                message = self._channel.recv(LARGEST)
            except ConnectionError:
                message = b""
            kind, data = message[:1], message[1:]
            if kind in STREAMS:
                return Output(STREAMS[kind], data, lost)
            if kind == b"l":
                lost += int.from_bytes(data, "little")
            elif kind == b"x":
                self.exit_code = int.from_bytes(data, "little", signed=True)
            elif not message:
                return Output("stderr", b"", lost) if lost else None

    def send(self, data: bytes) -> None:
        """Type `data` to the machine; waits while the machine does not take it."""
        for at in range(0, len(data), INPUT_AT_ONCE):
            self._channel.send(b"i" + data[at : at + INPUT_AT_ONCE])

    def close_input(self) -> None:
        """End the machine's standard input."""
        self._channel.send(b"c")

    def resize(self, rows: int, columns: int) -> None:
        """Give the machine's terminal a size, in cells."""
        self._channel.send(b"w" + _words(2, rows, columns))

    def close(self) -> None:
        """Leave; the machine goes on."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
