"""Machines: run one to its end, or keep one and work with it."""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os
import time
from _thread import allocate_lock

from . import launching, native
from .errors import HostError, MachineError, SpecError, TimeoutExpired
from .frozen import Frozen
from .request import make_limits, make_spec
from .resources.limits import settings_v1, settings_v2
from .resources.usage import Usage, oom_kills, usage_from
from .spec import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import IO, Self, Unpack

    from .request import Options

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Machine", "Process", "Result", "run", "run_async"]

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""Streams, by the numbers of `subprocess`."""

CLD_EXITED = 1
NONE_NS = -1
DEFAULT_OUTPUT_LIMIT = 64 << 20
POLL_SECONDS = 0.005


class Result(Frozen):
    """How a machine, or a command in one, ended.

    `exit_code` is the command's own, or 128 + n where signal n ended it. `verdict` is "ok",
    "failed", "timeout", "oom" or "signaled". `truncated` says that output beyond the bound was
    read and thrown away. `lost` is what the host could not give of what was asked for.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    verdict: str
    usage: Usage
    truncated: bool = False
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.verdict == "ok"

    @property
    def text(self) -> str:
        """Standard output as text, what is not UTF-8 replaced."""
        return self.stdout.decode("utf-8", "replace")


def exit_code(stat: tuple[int, ...]) -> int:
    """Return the exit code of a status of the core: the command's own, or 128 + signal."""
    return stat[1] if stat[0] == CLD_EXITED else 128 + stat[1]


def _verdict(stat: tuple[int, ...], *, timed_out: bool, out_of_memory: bool) -> str:
    if timed_out:
        return "timeout"
    if stat[0] == CLD_EXITED and stat[1] == 0:
        return "ok"
    if out_of_memory:
        return "oom"
    return "failed" if stat[0] == CLD_EXITED else "signaled"


def _nanoseconds(timeout: float | None) -> int:
    if timeout is None:
        return NONE_NS
    if not 0 <= timeout <= 1e9:
        raise SpecError(f"timeout {timeout!r} is out of range", hint="seconds from 0 to 1e9")
    return int(timeout * 1e9)


_known_specs: dict[object, launching.Ready] = {}


def _prepared(command: Sequence[str], options: Options) -> launching.Ready:
    """Return the loaded plan; the same command and options are not even checked again."""
    launching.this_host()
    try:
        key = (tuple(command), tuple(options.items()))
        known = _known_specs.get(key)
    except TypeError:  # an option that cannot be hashed, such as a dict
        return launching.ready(make_spec(command, options))
    if known is None or os.getpid() != launching.owner() or (known.opened and not known.is_fresh()):
        known = launching.ready(make_spec(command, options))
        if len(_known_specs) >= launching.MAX_CACHED:
            _known_specs.clear()
        _known_specs[key] = known
    return known


def run(
    command: Sequence[str],
    *,
    input: bytes | str | None = None,  # noqa: A002 - the name that subprocess.run has
    timeout: float | None = None,
    output_limit: int = DEFAULT_OUTPUT_LIMIT,
    capture: bool = True,
    **options: Unpack[Options],
) -> Result:
    """Run `command` in a machine of its own and return how it ended.

    `timeout` is in seconds; when it runs out, everything in the machine is killed. Of each of
    stdout and stderr at most `output_limit` bytes are kept; without `capture` the machine writes
    to the caller's. Raises SpecError, HostError and LaunchError.
    """
    timeout_ns = _nanoseconds(timeout)
    if not 0 <= output_limit <= 1 << 40:
        raise SpecError(f"output limit {output_limit!r} is out of range", hint="bytes from 0 up")
    made = _prepared(command, options)
    compiled = made.compiled
    stat, timed_out, stdout, stderr, truncated, files = native.run(
        compiled.plan,
        made.loaded,
        launching.new_id(),
        data=input.encode() if isinstance(input, str) else input,
        captures=capture,
        limit=output_limit,
        timeout_ns=timeout_ns,
        kill_slot=compiled.kill_slot,
        files=compiled.files,
    )
    verdict = _verdict(stat, timed_out=timed_out, out_of_memory=oom_kills(files) > 0)
    usage = usage_from(stat, files)
    lost = compiled.lost
    return Result(stdout, stderr, exit_code(stat), verdict, usage, bool(truncated), lost)


async def run_async(
    command: Sequence[str],
    *,
    input: bytes | str | None = None,  # noqa: A002
    timeout: float | None = None,  # noqa: ASYNC109 - it is the machine that ends
    output_limit: int = DEFAULT_OUTPUT_LIMIT,
    **options: Unpack[Options],
) -> Result:
    """Run `command` as `run` does, without blocking the event loop.

    When the awaiting task is cancelled, the machine is killed.
    """
    from .asynchronous import run_in_loop

    return await run_in_loop(command, input, timeout, output_limit, options)


def _open_stream(stream: object, number: int, opened: list[int]) -> tuple[int, int]:
    """Return (the machine's end, our end or -1) of one of the three streams."""
    if stream == PIPE:
        ends = os.pipe()
        opened.extend(ends)
        return (ends[0], ends[1]) if number == 0 else (ends[1], ends[0])
    if stream == DEVNULL:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        opened.append(null)
        return null, -1
    if stream is None:
        return number, -1
    return (stream if isinstance(stream, int) else stream.fileno()), -1  # type: ignore[attr-defined]


class _Streams:
    """The descriptors of a command's stdin, stdout and stderr, theirs and ours."""

    def __init__(self, stdin: object, stdout: object, stderr: object) -> None:
        self.opened: list[int] = []
        try:
            theirs_in, self.ours_in = _open_stream(stdin, 0, self.opened)
            theirs_out, self.ours_out = _open_stream(stdout, 1, self.opened)
            theirs_err, self.ours_err = theirs_out, -1
            if stderr != STDOUT:
                theirs_err, self.ours_err = _open_stream(stderr, 2, self.opened)
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


class Process:
    """A command in a machine; made by `Machine.exec`, with the face of `subprocess.Popen`.

    `fileno()` is its pidfd: an event loop sees it readable once the process has ended.
    """

    def __init__(
        self, core: native.CoreMachine, streams: _Streams, args: tuple[str, ...], machine: Machine
    ) -> None:
        self._core = core
        self._machine = machine
        self._oom_before = machine.oom_kills()
        self.args = args
        self.pid: int = core.pid
        self.stdin: IO[bytes] | None = _file(streams.ours_in, "wb")
        self.stdout: IO[bytes] | None = _file(streams.ours_out, "rb")
        self.stderr: IO[bytes] | None = _file(streams.ours_err, "rb")
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
            stat = self._poll(_nanoseconds(left))
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

        Raises TimeoutExpired; the command then still runs.
        """
        from .streams import exchange

        outputs = exchange(self.stdin, (self.stdout, self.stderr), input, timeout, output_limit)
        self.wait(timeout)
        return outputs

    def close(self) -> None:
        """Kill the command if it still runs, reap it and close the streams."""
        self._core.release(native.NO_SLOT)
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue

    def result(self, stdout: bytes, stderr: bytes, *, timed_out: bool = False) -> Result:
        """Return how the ended command ended, as `run` would."""
        stat = self._poll(NONE_NS) or (0, 0, 0, 0, 0, 0, 0)
        oom = self._machine.oom_kills() > self._oom_before
        verdict = _verdict(stat, timed_out=timed_out, out_of_memory=oom)
        usage = usage_from(stat, (None, None, None))
        return Result(stdout, stderr, exit_code(stat), verdict, usage, lost=self._machine.lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _file(fd: int, mode: str) -> IO[bytes] | None:
    return None if fd < 0 else os.fdopen(fd, mode, 0 if mode == "wb" else -1)


class Machine:
    """A machine that stays until it is closed, or until this process ends.

    Without a command its first process only waits, and commands are run in it with `exec` and
    `run`. Use it in a `with`: nothing of it is left behind the block, whatever its processes
    forked, ignored or caught. Methods may be called from any thread.
    """

    def __init__(
        self,
        command: Sequence[str] = (),
        *,
        name: str | None = None,
        stdin: object = DEVNULL,
        stdout: object = None,
        stderr: object = None,
        **options: Unpack[Options],
    ) -> None:
        self.name = None if name is None else check_name(name)
        self._options = dict(options)
        self.spec = make_spec(
            command, options, lives=True, idle=not command, **({"init": True} if command else {})
        )
        self._stdio = (stdin, stdout, stderr)
        self._lock = allocate_lock()
        self._core: native.CoreMachine | None = None
        self._made: launching.Ready | None = None
        self._life = -1
        self._closed = False
        self.id = ""

    # Its life.

    def start(self) -> Self:
        """Start the machine; raises MachineError where it was started before, LaunchError."""
        with self._lock:
            if self._core is not None or self._closed:
                raise MachineError("the machine was started before", hint="make a new Machine")
            made = launching.ready(self.spec)
            streams = _Streams(*self._stdio)
            watched, self._life = os.pipe()
            try:
                self.id = launching.new_id()
                plan, loaded = made.compiled.plan, made.loaded
                self._core = native.launch(plan, loaded, self.id, streams.theirs, life=watched)
            except BaseException:
                streams.close()
                os.close(self._life)
                raise
            finally:
                os.close(watched)
            self._made = made
            streams.hand_over()
            self.stdin = _file(streams.ours_in, "wb")
            self.stdout = _file(streams.ours_out, "rb")
            self.stderr = _file(streams.ours_err, "rb")
        return self

    def close(self) -> None:
        """Kill everything in the machine and give back what it took from the host; idempotent."""
        with self._lock:
            core, self._closed = self._core, True
            life, self._life = self._life, -1
            if core is None or life < 0:
                return
            if self._frozen():
                self._freeze("0", "THAWED")
            core.release(self._kill_slot())
            os.close(life)

    def __enter__(self) -> Self:
        return self.start() if self._core is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_life", -1) >= 0:
            self.close()

    def _running(self) -> native.CoreMachine:
        if self._core is None or self._closed:
            state = "closed" if self._closed else "not started"
            raise MachineError(f"the machine is {state}", hint="use it inside of its with block")
        return self._core

    # What it is.

    def fileno(self) -> int:
        """Return the pidfd of the machine's first process; readable once it has ended."""
        return self._running().fileno()

    @property
    def pid(self) -> int:
        """The first process's id on the host."""
        return self._running().pid

    @property
    def lost(self) -> tuple[str, ...]:
        """What the host could not give of what was asked for."""
        return self._made.compiled.lost if self._made else ()

    @property
    def state(self) -> str:
        """One of "created", "running", "paused", "exited"."""
        if self._core is None:
            return "created"
        if self._closed or self._core.wait(0) is not None:
            return "exited"
        return "paused" if self._frozen() else "running"

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the machine's first process; return its exit code. Raises TimeoutExpired."""
        core = self._running()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            stat = core.wait(_nanoseconds(left))
            if stat is not None:
                return exit_code(stat)
            if end is not None and time.monotonic() >= end:
                raise TimeoutExpired(f"the machine still runs after {timeout} s")

    def result(
        self, stdout: bytes, stderr: bytes, *, timed_out: bool = False, truncated: bool = False
    ) -> Result:
        """Return how the ended machine ended, as `run` would."""
        stat = self._running().wait(NONE_NS) or (0,) * 7
        files = self._usage_files()
        verdict = _verdict(stat, timed_out=timed_out, out_of_memory=oom_kills(files) > 0)
        usage = usage_from(stat, files)
        return Result(stdout, stderr, exit_code(stat), verdict, usage, truncated, self.lost)

    def kill(self, number: int = signals.SIGKILL) -> None:
        """Send a signal to the machine's first process, SIGKILL by default."""
        self._running().signal(number)

    def stop(self, timeout: float | None = None) -> int:
        """Send the stop signal, after `timeout` s (10) SIGKILL; return the exit code."""
        self.kill(self.spec.stop_signal)
        try:
            return self.wait(self.spec.stop_timeout if timeout is None else timeout)
        except TimeoutExpired:
            self.kill()
            return self.wait()

    # Commands in it.

    def exec(
        self,
        command: Sequence[str],
        *,
        stdin: object = DEVNULL,
        stdout: object = None,
        stderr: object = None,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
    ) -> Process:
        """Start `command` in the machine, under the machine's limits and guard.

        Streams are None (the caller's), PIPE, DEVNULL, STDOUT (stderr only), a descriptor or a
        file. Raises SpecError, LaunchError, MachineError.
        """
        core = self._running()
        changes = {"env": {**(self._options.get("env") or {}), **(env or {})}}
        for key, value in (("user", user), ("workdir", workdir)):
            if value is not None:
                changes[key] = value  # type: ignore[assignment]
        spec = make_spec(command, {**self._options, **changes}, mounts=(), devices=())
        folders, into = self._folders()
        host = launching.this_host()
        made = launching.load(launching.compile_command(spec, host, folders, into))
        streams = _Streams(stdin, stdout, stderr)
        try:
            plan, loaded = made.compiled.plan, made.loaded
            target = core.fileno()
            child = native.launch(plan, loaded, self.id, streams.theirs, target=target)
        except BaseException:
            streams.close()
            raise
        streams.hand_over()
        return Process(child, streams, tuple(command), self)

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes | str | None = None,  # noqa: A002
        timeout: float | None = None,
        output_limit: int = DEFAULT_OUTPUT_LIMIT,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
    ) -> Result:
        """Run `command` in the machine to its end; as the function `run`, in this machine.

        When `timeout` seconds run out the command is killed; what it forked stays.
        """
        data = input.encode() if isinstance(input, str) else input
        stdin = DEVNULL if data is None else PIPE
        with self.exec(
            command, stdin=stdin, stdout=PIPE, stderr=PIPE, env=env, user=user, workdir=workdir
        ) as process:
            try:
                stdout, stderr = process.communicate(data, timeout, output_limit)
            except TimeoutExpired as expired:
                process.kill()
                process.wait()
                stdout, stderr = getattr(expired, "outputs", (b"", b""))
                return process.result(stdout, stderr, timed_out=True)
            return process.result(stdout, stderr)

    # Its groups.

    def _kill_slot(self) -> int:
        return self._made.compiled.groups.slot("") if self._made else native.NO_SLOT

    def _folders(self) -> tuple[tuple[str, ...], str]:
        """Return the machine's v1 groups, and its v2 group or an empty string."""
        cgroups = launching.this_host().cgroups
        folders, into = [], ""
        roots = {**dict(cgroups.v1), "": cgroups.v2}
        for controller, _ in self._made.compiled.groups.slots if self._made else ():
            folder = f"{roots[controller]}/{self.id}"
            if controller:
                folders.append(folder)
            else:
                into = folder
        return tuple(folders), into

    def _read(self, controller: str, file: str) -> bytes | None:
        if self._core is None or self._made is None:
            return None
        return self._core.read(self._made.compiled.groups.slot(controller), file)

    def oom_kills(self) -> int:
        """Return how many processes of the machine were killed for its memory limit so far."""
        return oom_kills((None, self._usage_files()[1], None))

    def _usage_files(self) -> tuple[bytes | None, ...]:
        if self._core is None or self._made is None:
            return (None, None, None)
        return tuple(self._core.read(slot, file) for slot, file in self._made.compiled.files)

    def usage(self) -> Usage:
        """Return what the machine used so far, as its groups count it."""
        self._running()
        return usage_from((0,) * 7, self._usage_files())

    def resize(self, **limits: str | float | None) -> None:
        """Change limits (`memory`, `memory_swap`, `cpus`, `cpu_shares`, `pids`) all or none.

        Raises SpecError for values that make no sense, HostError where the kernel refuses one:
        the others are then as they were.
        """
        self._running()
        wanted = make_limits(limits)
        v1 = bool(launching.this_host().cgroups.v1)
        settings = settings_v1(wanted) if v1 else settings_v2(wanted)
        folders, into = self._folders()
        by_controller = dict(
            zip((c for c, _ in self._groups() if c), folders, strict=True)
        )
        done: list[tuple[str, str]] = []
        with self._lock:
            for controller, file, value in settings:
                folder = by_controller.get(controller) if v1 else into
                path = f"{folder}/{file}"
                try:
                    if not folder:
                        raise FileNotFoundError(2, "no such controller")
                    before = _read_text(path)
                    _write_text(path, value)
                except OSError as error:
                    for changed, old in reversed(done):
                        _write_text(changed, old)
                    raise HostError(
                        f"{file} cannot become {value}: {(error.strerror or '').lower()}",
                        hint="is it below what is in use, or has the host no controller for it?",
                    ) from None
                done.append((path, before))

    def _groups(self) -> tuple[tuple[str, int], ...]:
        return self._made.compiled.groups.slots if self._made else ()

    def pause(self) -> None:
        """Freeze every process of the machine; returns once they stand still."""
        self._running()
        self._freeze("1", "FROZEN")

    def unpause(self) -> None:
        """Let the machine go on."""
        self._running()
        self._freeze("0", "THAWED")

    resume = unpause

    def _frozen(self) -> bool:
        events = self._read("", "cgroup.events") or b""
        return b"frozen 1" in events or (self._read("freezer", "freezer.state") or b"")[:6] == b"FROZEN"

    def _freeze(self, v2: str, v1: str) -> None:
        folders, into = self._folders()
        path, value = f"{into}/cgroup.freeze", v2
        if not into:
            freezer = [f for c, f in zip((c for c, _ in self._groups() if c), folders, strict=True)
                       if c == "freezer"]
            if not freezer:
                raise HostError("this host has no cgroup to pause a machine with")
            path, value = f"{freezer[0]}/freezer.state", v1
        _write_text(path, value)
        while self._frozen() != (v2 == "1"):
            if self._core is None or self._core.wait(0) is not None:
                return
            time.sleep(POLL_SECONDS)


def _read_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _write_text(path: str, text: str) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())
