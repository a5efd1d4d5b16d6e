"""Feeding and reading several streams at once, without deadlock and within a bound."""

from __future__ import annotations

import os
import selectors
import time

from .errors import TimeoutExpired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

__all__ = ["exchange"]

CHUNK = 1 << 16
DRAIN_SECONDS = 1.0


def _feed(fd: int, data: memoryview) -> memoryview:
    try:
        return data[os.write(fd, data[:CHUNK]) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return data[:0]


def exchange(
    stdin: IO[bytes] | None,
    outputs: tuple[IO[bytes] | None, IO[bytes] | None],
    data: bytes | None,
    timeout: float | None,
    limit: int,
    ended: int,
) -> tuple[bytes, bytes, bool]:
    """Write `data`, read both outputs to their end, and close the three.

    Of each output `limit` bytes are kept, the rest is read and thrown away; the last value says
    whether there was a rest. Once the pidfd `ended` is readable, output that somebody else still
    holds open (a fork of this process, perhaps) is awaited for another second. Raises
    TimeoutExpired with what was read so far in its `outputs`.
    """
    truncated, drained = False, False
    end = None if timeout is None else time.monotonic() + timeout
    kept = (bytearray(), bytearray())
    left = memoryview(data or b"")
    with selectors.DefaultSelector() as selector:
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE, None)
        for stream, buffer in zip(outputs, kept, strict=True):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, buffer)
        streams = len(selector.get_map())
        selector.register(ended, selectors.EVENT_READ, ended)
        while streams:
            wait = None if end is None else end - time.monotonic()
            if wait is not None and wait <= 0:
                if drained:
                    break
                expired = TimeoutExpired(f"output has not ended after {timeout} s")
                expired.outputs = (bytes(kept[0]), bytes(kept[1]), truncated)  # type: ignore[attr-defined]
                raise expired
            for key, _ in selector.select(wait):
                if key.data is ended:
                    selector.unregister(ended)
                    drained, end = True, time.monotonic() + DRAIN_SECONDS
                    continue
                if key.data is None:
                    left = _feed(key.fd, left)
                    done = not left
                else:
                    chunk = os.read(key.fd, CHUNK)
                    room = max(0, limit - len(key.data))
                    key.data.extend(chunk[:room])
                    truncated = truncated or len(chunk) > room
                    done = not chunk
                if done:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
                    streams -= 1
    return bytes(kept[0]), bytes(kept[1]), truncated
