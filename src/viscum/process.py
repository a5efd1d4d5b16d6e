"""Commands in machines, with the face of `subprocess.Popen`."""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os
import time

from . import native
from .errors import TimeoutExpired
from .resources.usage import usage_from
from .result import DEFAULT_OUTPUT_LIMIT, FOREVER_NS, Result, exit_code, nanoseconds, verdict_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol, Self

    class Home(Protocol):
        """The machine that a command runs in."""

        @property
        def lost(self) -> tuple[str, ...]: ...
        def oom_kills(self) -> int: ...
        def thaw(self) -> None: ...
        def forget(self, command: native.CoreMachine) -> None: ...


__all__ = ["DEVNULL", "PIPE", "STDOUT", "Process", "Streams", "close_quietly", "open_end"]

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""Streams, by the numbers of `subprocess`."""


def _open_stream(
    stream: object, number: int, opened: list[int], owner: tuple[int, int]
) -> tuple[int, int]:
    """Return (the machine's end, our end or -1) of one of the three streams. A pipe becomes the
    machine's user's, who could not open /dev/stdout otherwise.
    """
    if stream == PIPE:
        ends = native.pipe()
        native.give_away(ends[0], owner)
        opened.extend(ends)
        return (ends[0], ends[1]) if number == 0 else (ends[1], ends[0])
    if stream == DEVNULL:
        null = native.open_null()
        opened.append(null)
        return null, -1
    if stream is None:
        return number, -1
    return (stream if isinstance(stream, int) else stream.fileno()), -1  # type: ignore[attr-defined]


class Streams:
    """The descriptors of a command's stdin, stdout and stderr, theirs and ours."""

    def __init__(
        self, stdin: object, stdout: object, stderr: object, owner: tuple[int, int]
    ) -> None:
        self.opened: list[int] = []
        try:
            theirs_in, self.ours_in = _open_stream(stdin, 0, self.opened, owner)
            theirs_out, self.ours_out = _open_stream(stdout, 1, self.opened, owner)
            theirs_err, self.ours_err = theirs_out, -1
            if stderr != STDOUT:
                theirs_err, self.ours_err = _open_stream(stderr, 2, self.opened, owner)
        except BaseException:
            self.close()
            raise
        self.theirs = (theirs_in, theirs_out, theirs_err)

    def close(self) -> None:
        """Close everything that was opened here."""
        for fd in self.opened:
            os.close(fd)
        self.opened.clear()

    def hand_over(self) -> None:
        """Close the machine's ends; ours now belong to the process."""
        ours = {self.ours_in, self.ours_out, self.ours_err}
        for fd in self.opened:
            if fd not in ours:
                os.close(fd)
        self.opened.clear()


def open_end(fd: int, mode: str) -> IO[bytes] | None:
    """Return our end of a pipe as a file, None where there is no pipe."""
    return None if fd < 0 else os.fdopen(fd, mode, 0 if mode == "wb" else -1)


def close_quietly(stream: IO[bytes] | None) -> None:
    """Close our end of a pipe; that nobody reads it any more is no error."""
    if stream is not None:
        try:
            stream.close()
        except OSError:
            return


class Process:
    """A command in a machine; made by `Machine.exec`, with the face of `subprocess.Popen`.

    `fileno()` is its pidfd: an event loop sees it readable once the process has ended.
    """

    def __init__(
        self, core: native.CoreMachine, streams: Streams, args: tuple[str, ...], machine: Home
    ) -> None:
        self._core = core
        self._machine = machine
        self._oom_before = machine.oom_kills()
        self.args = args
        self.pid: int = core.pid
        self.stdin: IO[bytes] | None = open_end(streams.ours_in, "wb")
        self.stdout: IO[bytes] | None = open_end(streams.ours_out, "rb")
        self.stderr: IO[bytes] | None = open_end(streams.ours_err, "rb")
        self._stat: tuple[int, ...] | None = None

    def fileno(self) -> int:
        """Return the pidfd."""
        return self._core.fileno()

    @property
    def exit_code(self) -> int | None:
        """The exit code, 128 + n after signal n; None while the command runs."""
        stat = self._poll(0)
        return None if stat is None else exit_code(stat)

    returncode = exit_code

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self.exit_code

    def _poll(self, timeout_ns: int) -> tuple[int, ...] | None:
        if self._stat is None:
            self._stat = self._core.wait(timeout_ns)
        return self._stat

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raises TimeoutExpired after `timeout` s."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            stat = self._poll(nanoseconds(left))
            if stat is not None:
                return exit_code(stat)
            if end is not None and time.monotonic() >= end:
                raise TimeoutExpired(f"{self.args[0]!r} still runs after {timeout} s")

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens once the process has ended."""
        try:
            self._core.signal(number)
        except ProcessLookupError:
            return

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signals.SIGKILL)

    def communicate(
        self,
        input: bytes | None = None,  # noqa: A002
        timeout: float | None = None,
        output_limit: int = DEFAULT_OUTPUT_LIMIT,
    ) -> tuple[bytes, bytes]:
        """Feed `input`, read both streams to their end, and wait; each keeps `output_limit` bytes.

        Output that others still hold open is awaited for one second after the command's end.

        Raises TimeoutExpired; the command then still runs.
        """
        stdout, stderr, _ = self._exchange(input, timeout, output_limit)
        return stdout, stderr

    def _exchange(
        self, data: bytes | None, timeout: float | None, limit: int
    ) -> tuple[bytes, bytes, bool]:
        from .streams import exchange

        end = None if timeout is None else time.monotonic() + timeout
        streams = (self.stdout, self.stderr)
        outputs = exchange(self.stdin, streams, data, timeout, limit, self._core.fileno())
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        return outputs

    def finish(self, data: bytes | None, timeout: float | None, limit: int) -> Result:
        """Feed, read and wait as `communicate`; after `timeout` s the command is killed."""
        try:
            outputs, timed_out = self._exchange(data, timeout, limit), False
        except TimeoutExpired as expired:
            self.kill()
            self.wait()
            outputs, timed_out = getattr(expired, "outputs", (b"", b"", False)), True
        stdout, stderr, truncated = outputs
        return self._result(stdout, stderr, timed_out=timed_out, truncated=truncated)

    def close(self) -> None:
        """Kill the command if it still runs, reap it and close the streams."""
        self._machine.thaw()
        self._core.release(native.NO_SLOT)
        self._machine.forget(self._core)
        for stream in (self.stdin, self.stdout, self.stderr):
            close_quietly(stream)

    def _result(self, stdout: bytes, stderr: bytes, *, timed_out: bool, truncated: bool) -> Result:
        stat = self._poll(FOREVER_NS) or (0, 0, 0, 0, 0, 0, 0)
        oom = self._machine.oom_kills() > self._oom_before
        verdict = verdict_of(stat, timed_out=timed_out, out_of_memory=oom)
        usage = usage_from(stat, (None, None, None))
        return Result(
            stdout, stderr, exit_code(stat), verdict, usage, truncated, self._machine.lost
        )

    def __del__(self) -> None:
        if hasattr(self, "_stat"):
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
