"""`viscum run`: a machine in the foreground."""

from __future__ import annotations

import _signal as signal  # `signal` imports enum, 6 ms
import os
import stat
import sys
import time

from .. import launching, native
from ..errors import HostError, SpecError
from ..foreground import entry
from ..request import make_spec
from ..resources.usage import oom_kills
from ..result import exit_code
from ..spec import SHARED
from . import remember
from .filters import parse_labels
from .living_options import reject_living, shared
from .machine_options import machine_options, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ..drivers.process import Compiled
    from ..resources.oom import Keeper, KernelLog
    from ..spec import Spec
    from .parser import Parsed

__all__ = ["main"]

FORWARDED = tuple(
    getattr(signal, "SIG" + name)
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "WINCH")
)
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def _complain(text: str) -> None:
    print(f"viscum: {text}", file=sys.stderr)


class Foreground:
    """A running machine, the signals forwarded to it, and its end."""

    def __init__(self, core: native.CoreMachine, spec: Spec) -> None:
        self.core = core
        self.spec = spec
        self.ended_by = 0
        self.stopping = False  # asked to end as --stop-signal and --stop-timeout say
        self.stop_at: float | None = None

    def forward(self) -> None:
        """Forward the signals of this process from now on, and those that came before."""
        for number in FORWARDED:
            if not (self.spec.tty and number == signal.SIGWINCH):
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGTERM and self.stopping:
            number = self.spec.stop_signal
            self.stop_at = time.monotonic() + self.spec.stop_timeout
        try:
            self.core.signal(number)
        except ProcessLookupError:
            return
        if number in ENDING and self.spec.pid == "private" and not self._handles(number):
            # The kernel drops signals that the first process of a pid namespace does not
            # handle; what the user means is that it should end.
            self.ended_by = number
            self.core.signal(signal.SIGKILL)

    def _handles(self, number: int) -> bool:
        try:
            with open(f"/proc/{self.core.pid}/status", encoding="ascii") as file:
                fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        except OSError:
            return True
        masks = (int(fields[name], 16) for name in ("SigCgt", "SigIgn", "SigBlk"))
        return any(mask >> number - 1 & 1 for mask in masks)

    def wait(self, timeout: float | None) -> tuple[int, bool]:
        """Return the exit code, and whether the time ran out."""
        end = None if timeout is None else time.monotonic() + timeout
        timed_out = False
        while True:
            ends = [moment for moment in (end, self.stop_at) if moment is not None]
            left = max(0, int((min(ends) - time.monotonic()) * 1e9)) if ends else -1
            stat = self.core.wait(left)
            if stat is not None:
                return (128 + self.ended_by if self.ended_by else exit_code(stat)), timed_out
            if end is not None and time.monotonic() >= end:
                timed_out, end = True, None
                self.core.signal(signal.SIGKILL)
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.stop_at = None
                self.core.signal(signal.SIGKILL)


def _kernel_log(spec: Spec) -> KernelLog | None:
    """Open the kernel's log before the launch: what is told later must not be missed."""
    if spec.limits.memory is None:
        return None
    from ..resources.oom import KernelLog

    return KernelLog()


def _watch_memory(
    core: native.CoreMachine, machine_id: str, spec: Spec, log: KernelLog | None
) -> Keeper | None:
    """Have lack of memory told at once, and handled as --oom-policy says."""
    if log is None:
        return None
    from ..resources.groups import GroupSet
    from ..resources.oom import Keeper, OomWatch, parse_policy

    policy, most = parse_policy(spec.oom_policy)
    groups = GroupSet.of(machine_id, launching.this_host().cgroups)
    try:
        watch = OomWatch(groups, policy, most, log=log)
    except HostError:  # it has no memory group here, or has ended
        log.close()
        return None
    return Keeper(watch, core.fileno(), lambda report: _complain(report.describe()))


def _finish(
    foreground: Foreground, compiled: Compiled, timeout: float | None, keeper: Keeper | None
) -> int:
    code, timed_out = foreground.wait(timeout)
    if keeper is not None:
        keeper.join()
    files = tuple(foreground.core.read(slot, file) for slot, file in compiled.files)
    if timed_out:
        _complain(f"the machine was killed after {timeout:g} s")
    elif keeper is None and oom_kills(files):
        _complain("a process was killed: the machine ran out of memory (see --memory)")
    return code


class Streams:
    """What the machine gets as stdin, stdout and stderr."""

    def __init__(self, owner: tuple[int, int], *, interactive: bool, tty: bool) -> None:
        self.pipes = None
        self.null = -1 if interactive else native.open_null()
        given = [0 if interactive else self.null, 1, 2]
        if not tty and any(os.isatty(fd) for fd in given):
            from ..terminal import Pipes

            self.pipes = Pipes()
            given = [self.pipes.between(fd) if os.isatty(fd) else fd for fd in given]
        for fd in given[1:]:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                native.give_away(fd, owner)
        self.given = given

    def hand_over(self) -> None:
        """Close what only the machine needs."""
        if self.null >= 0:
            os.close(self.null)
        if self.pipes is not None:
            self.pipes.hand_over()

    def drain(self) -> None:
        """Wait for output that is still on its way."""
        if self.pipes is not None:
            self.pipes.drain()


class Target:
    """The machine whose namespaces are shared, held while another one is launched into them."""

    def __init__(self, share: dict[str, str]) -> None:
        self.share = share
        self.fd = -1

    def __enter__(self) -> Self:
        if self.share:
            from ..creating import target_of
            from ..detached import DetachedMachine
            from ..registry import open_machine

            machine = DetachedMachine(target_of(self.share))
            self.fd = open_machine(machine.require_running())
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _launch(
    ready: launching.Ready, machine_id: str, streams: Streams, target: int
) -> native.CoreMachine:
    stdin, stdout, stderr = streams.given
    try:
        plan, loaded = ready.compiled.plan, ready.loaded
        return native.launch(plan, loaded, machine_id, (stdin, stdout, stderr), target=target)
    finally:
        streams.hand_over()


def _detached(parsed: Parsed) -> int:
    from .machines.create import create, start
    from .sdnotify import Notifier

    with Notifier(parsed) as notifier:
        notifier.prepare(parsed)
        machine = create(parsed)
        compiled = start(machine)
        remember.remember_living(parsed, machine.config, compiled)
        notifier.tell(machine)
    print(machine.id)
    return 0


def main(parsed: Parsed) -> int:
    """Run a machine and return its exit code; with --detach leave it running."""
    if parsed.on("detach"):
        return _detached(parsed)
    reject_living(parsed)
    command, options, fixed = machine_options(parsed)
    text = parsed.text("timeout")
    timeout = None if text is None else seconds(text, "--timeout")
    if not command and "image" not in options:
        raise SpecError("there is no command to run", hint="viscum run [OPTIONS] -- COMMAND")
    labels = tuple(parse_labels(parsed.texts("label")).items())
    share = shared(options)
    options.update(dict.fromkeys(share, SHARED))
    spec = make_spec(command, options, **fixed)
    if not any(mount.volume for mount in spec.mounts):
        return _foreground(parsed, spec, share, labels, timeout)
    from .. import volumes
    from ..wiping import wipe
    from .volumes.rows import users

    held = volumes.prepare(spec.mounts, spec.identity[:2])
    try:
        return _foreground(parsed, spec, share, labels, timeout)
    finally:
        for fd in held:
            os.close(fd)
        volumes.remove_anonymous(spec.mounts, users, wipe)


def _foreground(
    parsed: Parsed,
    spec: Spec,
    share: dict[str, str],
    labels: tuple[tuple[str, str], ...],
    timeout: float | None,
) -> int:
    """Run a machine to its end and return its exit code."""
    host = launching.this_host()
    compiled = launching.compile_machine(spec, host)
    for lost in compiled.lost:
        _complain(f"warning: this host cannot give {lost}")
    remember.remember(parsed, spec, compiled)
    launching.hold_io(spec)
    ready = launching.load_quietly(compiled)
    machine_id = launching.new_id()
    with entry(machine_id, parsed.text("name"), spec, labels) as written, Target(share) as target:
        streams = Streams(compiled.owner, interactive=parsed.on("interactive"), tty=spec.tty)
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until they can be forwarded
        log = _kernel_log(spec)
        core = _launch(ready, machine_id, streams, target.fd)
        try:
            written.started(core.pid)
            foreground = Foreground(core, spec)
            foreground.stopping = bool(parsed.text("stop_signal") or parsed.text("stop_timeout"))
            keeper = _watch_memory(core, machine_id, spec, log)  # its thread takes no signals
            foreground.forward()
            if not spec.tty:
                return _finish(foreground, compiled, timeout, keeper)
            from ..terminal import Relay

            with Relay(core.descriptor(compiled.terminal_slot), parsed.on("interactive")):
                return _finish(foreground, compiled, timeout, keeper)
        finally:
            core.release(compiled.kill_slot)
            streams.drain()
