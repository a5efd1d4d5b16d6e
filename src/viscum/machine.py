"""Machines that are kept, and worked with."""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os
import time
from _thread import allocate_lock

from . import launching, native
from .errors import LaunchError, MachineError, TimeoutExpired
from .limits import check_limits
from .process import DEVNULL, PIPE, Process, Streams, close_quietly, open_end
from .request import LIMIT_NAMES, make_limits, make_spec
from .resources.groups import GroupSet
from .resources.usage import Usage, oom_kills, usage_from
from .result import DEFAULT_OUTPUT_LIMIT, FOREVER_NS, Result, exit_code, nanoseconds, verdict_of
from .spec import check_link, check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from .detached import DetachedMachine, LivingOptions
    from .limits import Limits
    from .request import LimitOptions, Options
    from .resources.changing import Applied
    from .resources.oom import OutOfMemory

__all__ = ["Machine"]

POLL_SECONDS = 0.005


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
        if options.get("image") is not None:
            from .from_image import pin

            options["image"] = pin(options)
        # What is run in the machine later is not given to the image's entrypoint.
        self._options = options
        self._for_commands = {"entrypoint": ()} if options.get("image") is not None else {}
        self.spec = make_spec(
            command, options, lives=True, idle=not command, **({"init": True} if command else {})
        )
        self._stdio = (stdin, stdout, stderr)
        self._lock = allocate_lock()
        self._core: native.CoreMachine | None = None
        self._made: launching.Ready | None = None
        self._closed = False
        self._held: list[int] = []
        self._owner = os.getpid()
        self._commands: set[native.CoreMachine] = set()
        self.id = ""
        self.out_of_memory: list[OutOfMemory] = []

    # Machines that live on.

    @staticmethod
    def create(command: Sequence[str], **options: Unpack[LivingOptions]) -> DetachedMachine:
        """Write down a machine that lives on when this process has ended, to be started."""
        from .detached import DetachedMachine

        return DetachedMachine.create(command, **options)

    @staticmethod
    def find(word: str) -> DetachedMachine:
        """Return the machine that lives on of that name, id, or begin of an id."""
        from .detached import DetachedMachine

        return DetachedMachine.find(word)

    # Its life.

    def start(self) -> Self:
        """Start the machine; raises MachineError where it was started before, LaunchError."""
        with self._lock:
            if self._core is not None or self._closed:
                raise MachineError("the machine was started before", hint="make a new Machine")
            self._hold()
            made = launching.ready(self.spec)
            streams = Streams(*self._stdio, made.compiled.owner)
            self.id = launching.new_id()
            try:
                plan, loaded = made.compiled.plan, made.loaded
                self._core = native.launch(plan, loaded, self.id, streams.theirs)
            except BaseException:
                streams.close()
                raise
            self._made = made
            self._keep_policy()
            streams.hand_over()
            self.stdin = open_end(streams.ours_in, "wb")
            self.stdout = open_end(streams.ours_out, "rb")
            self.stderr = open_end(streams.ours_err, "rb")
        return self

    def _hold(self) -> None:
        """Make the machine's volumes ready, and keep them from being removed until it is closed."""
        if any(mount.volume for mount in self.spec.mounts):
            from . import volumes

            self._held += volumes.prepare(self.spec.mounts, self.spec.identity[:2])

    def _let_go(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _keep_policy(self) -> None:
        """Have a thread keep to the policy for lack of memory; the kernel itself only kills."""
        if self.spec.oom_policy == "kill" or self._core is None:
            return
        from .resources.oom import Keeper, OomWatch, parse_policy

        policy, most = parse_policy(self.spec.oom_policy)
        watch = OomWatch(self._group_set(), policy, most)
        Keeper(watch, self._core.fileno(), self.out_of_memory.append)

    def close(self) -> None:
        """Kill everything in the machine and give back what it took from the host; idempotent."""
        with self._lock:
            core, closed, self._closed = self._core, self._closed, True
            if core is None or closed:
                self._let_go()
                return
            if os.getpid() == self._owner:
                self._end(core)
            core.release(self._kill_slot())
            self._let_go()
            for stream in (self.stdin, self.stdout, self.stderr):
                close_quietly(stream)

    def _end(self, core: native.CoreMachine) -> None:
        """Kill everything. The first process cannot finish dying before the commands that were
        started from outside are reaped: they are this process's children.
        """
        if self._frozen():
            self._group_set().thaw()
        if core.wait(0) is None:
            core.signal(signals.SIGKILL)
        for command in tuple(self._commands):
            command.wait(FOREVER_NS)

    def thaw(self) -> None:
        """Let a paused machine go on, where pausing keeps SIGKILL from what is paused (v1)."""
        if self._frozen() and not launching.this_host().cgroups.v2:
            self._group_set().thaw()

    def forget(self, command: native.CoreMachine) -> None:
        """Drop a command that was released. Without the lock, which this thread may hold: a
        command can be collected at any moment.
        """
        self._commands.discard(command)

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
        if getattr(self, "_core", None) is not None or getattr(self, "_held", None):
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
            stat = core.wait(nanoseconds(left))
            if stat is not None:
                return exit_code(stat)
            if end is not None and time.monotonic() >= end:
                raise TimeoutExpired(f"the machine still runs after {timeout} s")

    def result(
        self, stdout: bytes, stderr: bytes, *, timed_out: bool = False, truncated: bool = False
    ) -> Result:
        """Return how the ended machine ended, as `run` would."""
        stat = self._running().wait(FOREVER_NS) or (0,) * 7
        files = self._usage_files()
        verdict = verdict_of(stat, timed_out=timed_out, out_of_memory=oom_kills(files) > 0)
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
        self._running()
        given = {"user": user, "workdir": workdir}
        changes: dict[str, object] = {k: v for k, v in given.items() if v is not None}
        changes["env"] = {**(self._options.get("env") or {}), **(env or {})}
        spec = make_spec(
            command, {**self._options, **self._for_commands, **changes}, mounts=(), devices=()
        )
        folders, into = self._folders()
        host = launching.this_host()
        try:
            made = launching.load(launching.compile_command(spec, host, folders, into))
        except LaunchError:
            self._running()  # it may have been closed meanwhile, and its groups are gone
            raise
        streams = Streams(stdin, stdout, stderr, made.compiled.owner)
        try:
            plan, loaded = made.compiled.plan, made.loaded
            with self._lock:
                target = self._running().fileno()
                child = native.launch(plan, loaded, self.id, streams.theirs, target=target)
                self._commands.add(child)
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
            return process.finish(data, timeout, output_limit)

    # Its groups.

    def _kill_slot(self) -> int:
        return self._made.compiled.groups.slot("") if self._made else native.NO_SLOT

    def _folders(self) -> tuple[tuple[str, ...], str]:
        """Return the machine's v1 groups, and its v2 group or an empty string."""
        if self._made is None:
            return (), ""
        return self._made.compiled.groups.folders(launching.this_host().cgroups, self.id)

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
        return self.groups.usage()

    def resize(self, *, reclaim: float | None = None, **limits: Unpack[LimitOptions]) -> Applied:
        """Change limits, all or none; return what the kernel made of them (`rounded` values).

        Takes every limit that `Machine` takes. Memory is not lowered below what is in use, unless
        `reclaim` gives the kernel that many seconds to take it back. Raises SpecError for values
        that make no sense, HostError where one cannot be had: the others are then as they were.
        """
        self._running()
        if limits.keys() - LIMIT_NAMES:
            raise TypeError(f"unknown limit {min(limits.keys() - LIMIT_NAMES)!r}")
        wanted = make_limits(limits)
        check_limits(wanted)
        check_link(self.spec.replace(limits=wanted))
        with self._lock:
            return self.groups.apply(wanted, reclaim=reclaim, hold_link=self._hold_link)

    def _hold_link(self, limits: Limits) -> None:
        from .resources.link import hold_link

        hold_link(self.pid, self.fileno(), limits)

    @property
    def groups(self) -> GroupSet:
        """The machine's groups, for what this class has no method for."""
        self._running()
        return self._group_set()

    def _group_set(self) -> GroupSet:
        return GroupSet.of(self.id, launching.this_host().cgroups)

    def pause(self) -> None:
        """Freeze every process of the machine; returns once they stand still."""
        self.groups.freeze()

    def unpause(self) -> None:
        """Let the machine go on."""
        self.groups.thaw()

    resume = unpause

    def _frozen(self) -> bool:
        events = self._read("", "cgroup.events") or b""
        return (
            b"frozen 1" in events
            or (self._read("freezer", "freezer.state") or b"")[:6] == b"FROZEN"
        )
