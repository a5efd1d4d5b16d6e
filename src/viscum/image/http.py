"""HTTP/1.1 as registries are asked (RFC 9112): one request after another on a connection, and
bodies as streams that tell where they were cut off.

The standard library's client parses heads as mail, and takes longer to import than a pull of what
is there already takes in all.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    class Channel(Protocol):
        """A socket, or TLS over one."""

        def recv(self, size: int, /) -> bytes:
            """Return what is there, at most `size` bytes; none at the end."""

        def sendall(self, data: bytes, /) -> None:
            """Send all of `data`."""

        def fileno(self) -> int:
            """Return the descriptor."""

        def close(self) -> None:
            """End it."""


__all__ = ["Answer", "Broken", "Line"]

MAX_HEAD = 64 << 10
MAX_LINES = 128
"""Of trailers; also of answers that are not the last, and of reads of a body nobody wants."""
ENDLESS = 1 << 62
"""The length of a body that lasts as long as the connection."""
READ = 16 << 10
BODILESS, TUNNEL = (204, 304), ("CONNECT", 200)


class Broken(OSError):
    """The other side ended the connection too early, or does not speak HTTP."""


class Line:
    """A connection to a server, for one request at a time; goes back to `idle` after each."""

    def __init__(self, channel: Channel, idle: list[Line], *, through: str = "") -> None:
        self.channel = channel
        self.idle = idle
        self.through = through
        """What stands before a path for a proxy, which wants whole addresses."""
        self.headers: dict[str, str] = {}
        """Sent with every request."""
        self.buffer = bytearray()

    def close(self) -> None:
        """End the connection."""
        self.channel.close()

    def is_fresh(self) -> bool:
        """Return whether an idle connection can be used again: the other side said nothing."""
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        return not self.buffer and not poll.poll(0)

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None = None,
    ) -> Answer:
        """Send a request and return the head of its answer; `headers` have the length of a body
        that is no bytes. Raises OSError.
        """
        sent = {**headers, **self.headers}
        if isinstance(body, bytes):
            sent["Content-Length"] = str(len(body))
        lines = [f"{method} {self.through}{target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        if not all(line.isascii() and line.isprintable() for line in lines):
            raise Broken("a header to be sent has characters that no header may have")
        head = "\r\n".join([*lines, "\r\n"]).encode()
        try:
            self.channel.sendall(head + body if isinstance(body, bytes) else head)
            for piece in () if body is None or isinstance(body, bytes) else body:
                self.channel.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it had read all
        return Answer(self, method)

    # What comes.

    def until(self, end: bytes) -> bytes:
        """Return what comes before `end`; raises Broken for too much of it."""
        start = 0
        while (at := self.buffer.find(end, start)) < 0:
            start = max(0, len(self.buffer) - len(end))
            if start > MAX_HEAD:
                raise Broken(f"the head of an answer has more than {MAX_HEAD} bytes")
            data = self.channel.recv(READ)
            if not data:
                raise Broken("the connection ended before an answer came")
            self.buffer += data
        found = bytes(self.buffer[:at])
        del self.buffer[: at + len(end)]
        return found

    def some(self, size: int) -> bytes:
        """Return what there is, at most `size` bytes; none at the end of the connection."""
        if not self.buffer:
            return self.channel.recv(size)
        found = bytes(self.buffer[:size])
        del self.buffer[:size]
        return found


class Answer:
    """What a server answers: its status and headers, and its body when that is read."""

    def __init__(self, line: Line, method: str) -> None:
        self.line = line
        self.ended = False
        for _ in range(MAX_LINES):
            self.status, self.lasts, self.headers = _read_head(line)
            if self.status >= 200:
                break
        else:
            raise Broken(f"more than {MAX_LINES} answers say that another one comes")
        self.chunked = "transfer-encoding" in self.headers
        self.left = self._length(method)
        """Bytes of the body, or of its chunk, that are still to come."""

    def header(self, name: str) -> str:
        """Return the value of a header, empty where it is missing."""
        return self.headers.get(name.lower(), "")

    def _length(self, method: str) -> int:
        coding, length = self.header("Transfer-Encoding"), self.headers.get("content-length")
        if coding.lower() not in ("", "chunked"):
            raise Broken(f"an answer has the transfer coding {coding[:40]!r}")
        if method == "HEAD" or self.status in BODILESS or (method, self.status) == TUNNEL:
            self.chunked = False
            return 0
        if self.chunked:
            return 0
        if length is None:
            self.lasts = False
            return ENDLESS
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise Broken(f"an answer has the length {length[:40]!r}")
        return int(length)

    def read(self, size: int) -> bytes:
        """Return the next bytes of the body, at most `size`; none at its end. Raises OSError where
        the connection breaks before.
        """
        if self.chunked and not self.left:
            self._begin_chunk()
        if not self.left:
            return b""
        data = self.line.some(min(size, self.left))
        if not data:
            if self.left != ENDLESS:
                raise Broken(f"the connection ended {self.left} bytes too early")
            self.left = 0
        elif self.left != ENDLESS:
            self.left -= len(data)
            if self.chunked and not self.left and self.line.until(b"\r\n"):
                raise Broken("a chunk of an answer is longer than it says")
        return data

    def _begin_chunk(self) -> None:
        digits = self.line.until(b"\r\n").partition(b";")[0].strip()
        if not 0 < len(digits) < 16 or digits.strip(b"0123456789abcdefABCDEF"):
            raise Broken(f"an answer has a chunk of the length {digits[:40]!r}")
        self.left = int(digits, 16)
        if not self.left:
            self.chunked = False
            if all(self.line.until(b"\r\n") for _ in range(MAX_LINES)):
                raise Broken(f"an answer has more than {MAX_LINES} trailers")

    def finish(self) -> None:
        """Let the connection be used again, the rest of a short body read; idempotent."""
        if not self.ended and self.lasts and self._drained():
            self.ended = True
            self.line.idle.append(self.line)
        self.close()

    def _drained(self) -> bool:
        """Read what is left of a short body; return whether it is over."""
        for _ in range(MAX_LINES):
            try:
                if not self.read(READ):
                    return True
            except OSError:
                break
        return False

    def close(self) -> None:
        """End the connection: nothing more is read of it."""
        if not self.ended:
            self.ended = True
            self.line.close()


def _read_head(line: Line) -> tuple[int, bool, dict[str, str]]:
    """Return status, whether the connection lasts, and headers, their names in small letters."""
    first, *lines = line.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    number = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not number.isdigit() or not number.isascii():
        raise Broken("what answers does not speak HTTP")
    headers: dict[str, str] = {}
    for one in lines:
        name, colon, value = one.partition(":")
        if not colon or not name or name != name.strip():
            raise Broken(f"an answer has the header {one[:40]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    closes = "close" in headers.get("connection", "").lower()
    return int(number), version == "HTTP/1.1" and not closes, headers
