"""The face for asyncio: machines watched by their pidfd, no thread held while they run."""

from __future__ import annotations

import asyncio

from .machine import Machine
from .process import DEVNULL, PIPE
from .result import DEFAULT_OUTPUT_LIMIT, Result, nanoseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO, Unpack

    from .request import Options

__all__ = ["run_async"]

CHUNK = 1 << 16


async def _read(stream: IO[bytes] | None, limit: int) -> tuple[bytes, bool]:
    """Read a pipe to its end; keep `limit` bytes of it."""
    if stream is None:
        return b"", False
    loop, kept, truncated = asyncio.get_running_loop(), bytearray(), False
    reader = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), stream
    )
    try:
        while chunk := await reader.read(CHUNK):
            room = max(0, limit - len(kept))
            kept += chunk[:room]
            truncated = truncated or len(chunk) > room
    finally:
        transport.close()
    return bytes(kept), truncated


async def _feed(stream: IO[bytes] | None, data: bytes) -> None:
    if stream is None:
        return
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, stream)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        writer.write(data)
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        return
    finally:
        writer.close()


async def _ended(process: Machine) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(process.fileno(), event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(process.fileno())


async def run_async(
    command: Sequence[str],
    *,
    input: bytes | str | None = None,  # noqa: A002 - the name that subprocess.run has
    timeout: float | None = None,  # noqa: ASYNC109 - it is the machine that ends
    output_limit: int = DEFAULT_OUTPUT_LIMIT,
    **options: Unpack[Options],
) -> Result:
    """Run `command` as `run` does, without blocking the event loop.

    When the awaiting task is cancelled, the machine is killed.
    """
    nanoseconds(timeout)
    data = input.encode() if isinstance(input, str) else input
    stdin = DEVNULL if data is None else PIPE
    machine = Machine(command, stdin=stdin, stdout=PIPE, stderr=PIPE, **options)
    try:
        await asyncio.to_thread(machine.start)
        return await _follow(machine, data or b"", timeout, output_limit)
    finally:
        await asyncio.shield(asyncio.to_thread(machine.close))


async def _follow(machine: Machine, data: bytes, timeout: float | None, limit: int) -> Result:  # noqa: ASYNC109
    streams = asyncio.gather(
        _read(machine.stdout, limit), _read(machine.stderr, limit), _feed(machine.stdin, data)
    )
    timed_out = False
    try:
        try:
            await asyncio.wait_for(_ended(machine), timeout)
        except TimeoutError:
            timed_out = True
            machine.kill()
            await _ended(machine)
        (stdout, cut_out), (stderr, cut_err), _ = await streams
    finally:
        streams.cancel()
        await asyncio.gather(streams, return_exceptions=True)
    return machine.result(stdout, stderr, timed_out=timed_out, truncated=cut_out or cut_err)
