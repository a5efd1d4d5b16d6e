"""The face for asyncio: machines watched by their pidfd, no thread held while they run."""

from __future__ import annotations

import asyncio

from .errors import SpecError
from .machine import DEVNULL, PIPE, Machine, Process, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from .request import Options

__all__ = ["run_in_loop"]

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


async def _ended(process: Process) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(process.fileno(), event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(process.fileno())


async def run_in_loop(
    command: Sequence[str],
    data: bytes | str | None,
    timeout: float | None,  # noqa: ASYNC109 - it is the machine that ends
    limit: int,
    options: Options,
) -> Result:
    """Run `command` in a machine of its own; see `viscum.run_async`."""
    if timeout is not None and not 0 <= timeout <= 1e9:
        raise SpecError(f"timeout {timeout!r} is out of range", hint="seconds from 0 to 1e9")
    raw = data.encode() if isinstance(data, str) else data
    stdin = DEVNULL if raw is None else PIPE
    machine = Machine(command, stdin=stdin, stdout=PIPE, stderr=PIPE, **options)
    try:
        await asyncio.to_thread(machine.start)
        return await _follow(machine, raw or b"", timeout, limit)
    finally:
        await asyncio.shield(asyncio.to_thread(machine.close))


async def _follow(machine: Machine, data: bytes, timeout: float | None, limit: int) -> Result:
    feeding = asyncio.ensure_future(_feed(machine.stdin, data))
    reading = asyncio.gather(_read(machine.stdout, limit), _read(machine.stderr, limit))
    timed_out = False
    try:
        await asyncio.wait_for(_ended(machine), timeout)  # type: ignore[arg-type]
    except TimeoutError:
        timed_out = True
        machine.kill()
        await _ended(machine)  # type: ignore[arg-type]
    finally:
        feeding.cancel()
    (stdout, cut_out), (stderr, cut_err) = await reading
    return machine.result(stdout, stderr, timed_out=timed_out, truncated=cut_out or cut_err)
