"""`viscum exec`."""

from __future__ import annotations

import _signal as signal  # `signal` imports enum, 6 ms
import os

from ... import journal, native
from ...commands import command_spec, launch_command, prepare
from ...errors import SpecError
from ..machine_options import environment
from ..run import FORWARDED, Foreground, Streams
from .finding import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ...launching import Ready
    from ...spec import Spec
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Run a command in a running machine and return its exit code."""
    if len(parsed.words) < 2:
        raise SpecError("there is no command to run", hint="viscum exec NAME COMMAND")
    machine = find(parsed.words[0])
    spec = command_spec(
        machine.config,
        parsed.words[1:],
        env=environment(parsed),
        user=parsed.text("user"),
        workdir=parsed.text("workdir"),
        tty=parsed.on("tty"),
    )
    if parsed.on("detach"):
        return _leave(machine, spec)
    return _follow(machine, spec, interactive=parsed.on("interactive"))


def _leave(machine: DetachedMachine, spec: Spec) -> int:
    """Start the command and go; what it writes goes nowhere."""
    if spec.tty:
        raise SpecError("a detached command has no terminal", hint="leave out -t or -d")
    null = native.open_null()
    launch_command(machine.config, machine.require_running(), spec, (null, null, null), leave=True)
    os.close(null)
    journal.note("exec_start", machine.id, machine.name, {"command": " ".join(spec.command)})
    return 0


def _follow(machine: DetachedMachine, spec: Spec, *, interactive: bool) -> int:
    status = machine.require_running()
    owner = prepare(machine.config, status, spec).compiled.owner
    streams = Streams(owner, interactive=interactive, tty=spec.tty)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until they can be forwarded
    stdin, stdout, stderr = streams.given
    try:
        core, made = launch_command(machine.config, status, spec, (stdin, stdout, stderr))
    finally:
        streams.hand_over()
    try:
        return _wait(core, made, spec, interactive=interactive)
    finally:
        core.release(native.NO_SLOT)
        streams.drain()


def _wait(core: native.CoreMachine, made: Ready, spec: Spec, *, interactive: bool) -> int:
    # It is not the first process of its pid namespace: the kernel drops no signals to it.
    foreground = Foreground(core, spec.replace(pid="host"))
    foreground.forward()
    if not spec.tty:
        return foreground.wait(None)[0]
    from ...terminal import Relay

    with Relay(core.descriptor(made.compiled.terminal_slot), interactive):
        return foreground.wait(None)[0]
