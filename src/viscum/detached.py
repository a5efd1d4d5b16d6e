"""Machines that live on: created, started, stopped and removed by whoever comes, found by name.

Every change of a machine is made under its lock. What a lost monitor or a host that was switched
off left behind is found and finished by the next call that touches the machine.
"""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os
import time

from . import journal, registry, volumes
from .alive import await_end, is_alive
from .attaching import Attachment, tell_settings, tell_stop
from .errors import MachineError, TimeoutExpired
from .record import Config, Health, LogOptions, Status
from .registry import Locked, Record, open_machine
from .result import DEFAULT_OUTPUT_LIMIT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Unpack

    from .drivers.process import Compiled
    from .limits import Limits
    from .logs import LogEntry
    from .process import Process
    from .record import Health, LogOptions
    from .request import LimitOptions, Options
    from .resources.changing import Applied

    class LivingOptions(Options, total=False):
        """What `Machine.create` takes beside the options of a machine.

        `restart` is "no", "on-failure", "on-failure:N", "always" or "unless-stopped". `share` maps
        "network", "pid" or "ipc" to the machine whose namespace it gets. With `interactive` its
        standard input stays open for who attaches. With `remove` it goes once it has ended;
        `timeout` s after its start it is killed. `fixed` are fields of `Spec` beside the options.
        """

        name: str | None
        labels: Mapping[str, str]
        restart: str
        health: Health | None
        log: LogOptions
        interactive: bool
        remove: bool
        timeout: float | None
        share: Mapping[str, str]
        fixed: Mapping[str, object]


__all__ = ["DetachedMachine", "machines"]

OWN_OPTIONS = "name labels restart health log interactive remove timeout share fixed".split()

UNKNOWN_CODE = 255
"""Exit code of a machine whose end nobody saw."""
KILL_PATIENCE = 10.0
POLL_SECONDS = 0.01
RUNNING = registry.RUNNING


def machines(*, all: bool = False) -> list[DetachedMachine]:  # noqa: A002 - as in `ps --all`
    """Return the machines that run, with `all` also those that do not, the newest last."""
    found = [DetachedMachine(record) for record in registry.machines()]
    return found if all else [machine for machine in found if machine.state in RUNNING]


class DetachedMachine:
    """A machine with a monitor of its own, which lives on when this process has ended.

    Made by `Machine.create`, found by `Machine.find` and `viscum.machines`.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.id = record.id

    @classmethod
    def create(cls, command: Sequence[str], **options: Unpack[LivingOptions]) -> DetachedMachine:
        """Write down a machine, to be started; nothing runs yet.

        It takes the options of `Machine`, and those of `LivingOptions`. Raises SpecError,
        MachineError.
        """
        from .creating import make_config

        given: dict[str, Any] = dict(options)
        own = {key: given.pop(key) for key in OWN_OPTIONS if key in given}
        made = make_config(command, given, **own)
        held = volumes.prepare(made.spec.mounts, made.spec.identity[:2])
        try:  # nobody removes its volumes before it is written down that it has them
            machine = cls(registry.create(made))
        finally:
            for fd in held:
                os.close(fd)
        machine._note("create")
        return machine

    @classmethod
    def find(cls, word: str) -> DetachedMachine:
        """Return the machine of that name, id, or begin of an id; raises MachineError."""
        return cls(registry.find(word))

    # What it is.

    @property
    def config(self) -> Config:
        """What was asked for."""
        return self.record.config

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.record.name

    @property
    def status(self) -> Status:
        """What became of it, as it is now."""
        return self.record.status()

    @property
    def state(self) -> str:
        """One of "created", "running", "paused", "restarting", "exited", "unknown"."""
        return self.status.state

    @property
    def pid(self) -> int:
        """The first process's id on the host, 0 where none runs."""
        status = self.status
        return status.pid if status.state in RUNNING else 0

    @property
    def monitor_is_lost(self) -> bool:
        """Whether the machine runs on without its monitor."""
        status = self.status
        return status.state in ("running", "paused") and not status.monitor

    def _note(self, event: str, **attributes: str) -> None:
        journal.note(event, self.id, self.name, attributes)

    def _require(self, status: Status, *states: str) -> Status:
        if status.state not in states:
            hint = {
                "created": f"viscum start {self.name}",
                "exited": f"viscum start {self.name}",
                "paused": f"viscum unpause {self.name}",
                "running": f"viscum stop {self.name}",
            }.get(status.state, "")
            raise MachineError(f"machine {self.name!r} is {status.state}", hint=hint)
        return status

    def _require_detached(self) -> None:
        if self.config.owner:
            raise MachineError(
                f"machine {self.name!r} is in the foreground of process "
                f"{int(self.config.owner.split('-')[1], 16)}",
                hint="its streams and its end are there; start machines that live on with run -d",
            )

    def require_running(self) -> Status:
        """Return the status of a machine that runs; raises MachineError."""
        return self._require(self.record.status(), "running")

    # Its life.

    def start(self) -> Compiled:
        """Start it; returns once its command runs, with what was compiled for that.

        Raises MachineError, LaunchError.
        """
        with Locked(self.record):
            return self._start()

    def start_attached(self) -> Attachment:
        """Start it and return a connection to its streams from their very begin."""
        near, far = Attachment.pair()
        try:
            with Locked(self.record):
                self._start(far.fileno())
        except BaseException:
            near.close()
            raise
        finally:
            far.close()
        return near

    def _start(self, client: int = -1) -> Compiled:
        from . import supervising

        status = self._require(self.record.status(), "created", "exited")
        if status.state == "exited":
            self._clear_groups()
        return supervising.start(self.record, client)

    def _clear_groups(self) -> None:
        """Remove control groups that a lost monitor or a crash left."""
        from .host import probe
        from .sweep import remove_groups

        remove_groups(probe().cgroups, self.record.group)

    def stop(self, timeout: float | None = None, number: int | None = None) -> int:
        """Ask it to end with its stop signal, kill it after `timeout` s (its own by default), and
        return the exit code. A machine that does not run stays as it is.
        """
        with Locked(self.record):
            return self._stop(timeout, number)

    def _stop(self, timeout: float | None, number: int | None) -> int:
        status = self.record.status()
        if status.state not in RUNNING:
            return self._code(status)
        status = self._take_over(status)
        if status.state == "paused":
            self._freeze(frozen=False)
        spec = self.config.spec
        patience = spec.stop_timeout if timeout is None else timeout
        if self.config.owner:
            return self._stop_foreground(status, number or spec.stop_signal, patience)
        tell_stop(self.record, spec.stop_signal if number is None else number, patience)
        if not self._await_monitor(status, patience + KILL_PATIENCE):
            raise MachineError(f"machine {self.name!r} does not end", hint="is it in state D?")
        self._note("stop")
        return self._code(self.record.status())

    def _await_monitor(self, status: Status, patience: float) -> bool:
        """Return whether it ended. One that was killed may still wait for I/O that its bounds hold
        back, for as long as they take: then they are lifted.
        """
        monitor = status.monitor, status.monitor_start
        if await_end(*monitor, patience):
            return True
        from .host import probe
        from .resources.groups import GroupSet

        bounded = GroupSet.of(self.config.group, probe().cgroups).lift_io()
        return bounded and await_end(*monitor, KILL_PATIENCE)

    def _end(self, status: Status) -> None:
        """Kill it, whatever is left of what is known of it."""
        try:
            self._stop(0.0, signals.SIGKILL)
        except MachineError:
            for pid, start in ((status.monitor, status.monitor_start), (status.pid, status.start)):
                if is_alive(pid, start):
                    os.kill(pid, signals.SIGKILL)
                    await_end(pid, start, KILL_PATIENCE)

    def _stop_foreground(self, status: Status, number: int, patience: float) -> int:
        """End a machine whose caller waits for it; its caller tells the exit code."""
        _signal(status, number)
        if not await_end(status.pid, status.start, patience):
            _signal(status, signals.SIGKILL)
            await_end(status.pid, status.start, KILL_PATIENCE)
        return 128 + number

    def _take_over(self, status: Status) -> Status:
        """Give a machine whose monitor was lost a new one."""
        if status.monitor:
            return status
        from . import supervising

        supervising.adopt(self.record)
        return self.record.status()

    def take_over(self) -> bool:
        """Give the machine a new monitor where it has lost its own; say whether it had."""
        if not self.monitor_is_lost:
            return False
        with Locked(self.record):
            if not self.monitor_is_lost:
                return False
            self._take_over(self.record.status())
        return True

    def restart(self, timeout: float | None = None) -> None:
        """Stop it where it runs, and start it."""
        self._require_detached()
        with Locked(self.record):
            self._stop(timeout, None)
            self._start()
        self._note("restart")

    def kill(self, number: int = signals.SIGKILL) -> None:
        """Send a signal to its first process; with SIGKILL it is not started again."""
        status = self._require(self.record.status(), "running", "paused", "restarting")
        if number == signals.SIGKILL:
            status = self._take_over(status)
            if status.state == "paused":
                self._freeze(frozen=False)
        if number == signals.SIGKILL and not self.config.owner:
            tell_stop(self.record, number, None if self.config.spec.pid == "private" else 0.0)
        else:
            _signal(status, number)
        self._note("kill", signal=str(number))

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended for good; return its exit code. Raises TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            status = self.record.status()
            if status.state not in RUNNING:
                if status.state == "created" and not status.error:
                    raise MachineError(f"machine {self.name!r} was never started")
                return self._code(status)
            left = None if end is None else max(0.0, end - time.monotonic())
            pid, start = status.monitor, status.monitor_start
            if not pid:
                pid, start = status.pid, status.start
            if not await_end(pid, start, left) and left is not None and left <= 0:
                raise TimeoutExpired(f"machine {self.name!r} still runs after {timeout} s")

    @staticmethod
    def _code(status: Status) -> int:
        return status.code if status.code >= 0 else UNKNOWN_CODE

    def remove(self, *, force: bool = False) -> None:
        """Remove it with its log and its writable layer; one that runs only with `force`."""
        with Locked(self.record):
            status = self.record.status()
            if status.state in RUNNING:
                if not force:
                    raise MachineError(
                        f"machine {self.name!r} is {status.state}",
                        hint=f"viscum stop {self.name}, or rm -f",
                    )
                self._end(status)
            self._clear_groups()
            name = self.name
            hidden = registry.hide(self.record)
        journal.note("remove", self.id, name)
        if hidden:
            from .wiping import wipe

            wipe(hidden)

    # Pausing, names, limits.

    def pause(self) -> None:
        """Freeze every process of it; returns once they stand still."""
        with Locked(self.record):
            self._require(self.record.status(), "running")
            self._freeze(frozen=True)
        self._note("pause")

    def unpause(self) -> None:
        """Let it go on."""
        with Locked(self.record):
            self._require(self.record.status(), "paused")
            self._freeze(frozen=False)
        self._note("unpause")

    def _freeze(self, *, frozen: bool) -> None:
        from .host import probe
        from .resources.groups import GroupSet

        groups, mark = GroupSet.of(self.config.group, probe().cgroups), self.record.path("paused")
        if frozen:
            groups.freeze()
            registry.write(self.record.folder, "paused", b"")
            return
        groups.thaw()
        if os.path.exists(mark):
            os.unlink(mark)

    def rename(self, name: str) -> None:
        """Give it another name; raises MachineError where it is taken."""
        with Locked(self.record):
            before = self.name
            registry.rename(self.record, name)
            self.record = Record(self.id)
            self._renew_settings()
        self._note("rename", before=before)

    def update(
        self,
        *,
        restart: str | None = None,
        reclaim: float | None = None,
        machine_class: str | None = None,
        **limits: Unpack[LimitOptions],
    ) -> Applied | None:
        """Change limits, live where it runs, all or none, and when it is started again.

        Bounds (`cpus="0.5..2"`) and the class are new ones for the governor; a plain limit where
        there were bounds ends them. Returns what the kernel made of the limits of a running
        machine. `reclaim` gives it so many seconds to take memory back, where more is in use than
        the new limit. Raises SpecError, HostError.
        """
        from . import launching
        from .creating import changed_spec, parse_restart
        from .resources.groups import GroupSet

        applied = None
        with Locked(self.record):
            config = self.config
            wanted, spec = changed_spec(config.spec, {**limits, "machine_class": machine_class})
            status = self.record.status()
            if status.state in RUNNING:
                groups = GroupSet.of(config.group, launching.this_host().cgroups)
                applied = groups.apply(wanted, reclaim=reclaim, hold_link=_hold_link(status))
            policy = config.restart if restart is None else parse_restart(restart)
            config = config.replace(spec=spec, restart=policy)
            registry.write(self.record.folder, "config.json", config.encode())
            self.record = Record(self.id)
            self._renew_settings()
        self._note("update")
        changed = {n: str(v) for n, v in wanted.__dict__.items() if v not in (None, ())}
        if changed:
            self._note("resized", **changed)
        return applied

    def _renew_settings(self) -> None:
        """Tell a running monitor what has changed of its orders."""
        if self.record.status().state not in RUNNING or self.monitor_is_lost:
            return
        if self.config.owner:
            return
        from . import launching, supervising

        compiled = launching.compile_machine(self.config.spec, launching.this_host())
        supervising.write_settings(self.record, self.config, compiled)
        tell_settings(self.record)

    # Its streams and its log.

    def attach(self) -> Attachment:
        """Return a connection to its streams; raises MachineError where it does not run."""
        status = self._require(self.record.status(), "running", "paused", "restarting")
        self._require_detached()
        if not status.monitor:
            self.take_over()
        return Attachment.to(self.record)

    def logs(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        until: float | None = None,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        """Yield what it wrote, between two times of the epoch in s; of that the last `tail` lines.

        With `follow` it goes on until the machine has ended, or was removed.
        """
        from .logs import entries

        return entries(
            self.record,
            since=since,
            until=until,
            tail=tail,
            follow=self._goes_on if follow else None,
        )

    def _goes_on(self) -> bool:
        return self.record.exists() and self.record.status().state in RUNNING

    # Commands in it.

    def exec(
        self,
        command: Sequence[str],
        *,
        stdin: object = None,
        stdout: object = None,
        stderr: object = None,
        env: dict[str, str] | None = None,
        user: str | int | None = None,
        workdir: str | None = None,
    ) -> Process:
        """Start `command` in it, under its limits and its guard; as `Machine.exec`.

        Streams are None (the caller's), PIPE, DEVNULL, STDOUT (stderr only), a descriptor or a
        file. Raises SpecError, LaunchError, MachineError.
        """
        from .commands import start_command

        return start_command(
            self.config,
            self.require_running(),
            command,
            (stdin, stdout, stderr),
            env,
            user,
            workdir,
        )

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
        """Run `command` in it to its end; as `Machine.run`."""
        from .process import DEVNULL, PIPE

        data = input.encode() if isinstance(input, str) else input
        stdin = DEVNULL if data is None else PIPE
        with self.exec(
            command, stdin=stdin, stdout=PIPE, stderr=PIPE, env=env, user=user, workdir=workdir
        ) as process:
            return process.finish(data, timeout, output_limit)


def _hold_link(status: Status) -> Callable[[Limits], None] | None:
    """Return what limits the machine's link; None between two of its lives, when it has none."""

    def hold(limits: Limits) -> None:
        from .resources.link import hold_link

        fd = open_machine(status)
        try:
            hold_link(status.pid, fd, limits)
        finally:
            os.close(fd)

    return hold if status.pid else None


def _signal(status: Status, number: int) -> None:
    """Send a signal to the machine's first process."""
    fd = open_machine(status)
    try:
        signals.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        raise MachineError("the machine has just ended") from None
    finally:
        os.close(fd)
