"""Commands in machines that live on: a join compiled once for each machine and command."""

from __future__ import annotations

import os

from . import launching, native
from .process import Process, Streams
from .registry import open_machine
from .resources.groups import GroupSet
from .resources.reading import read_bytes
from .resources.usage import oom_kills
from .rootfs import look_up_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .record import Config, Status
    from .spec import Spec

__all__ = ["command_spec", "launch_command", "prepare", "start_command"]


def command_spec(
    config: Config,
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    user: str | int | None = None,
    workdir: str | None = None,
    tty: bool = False,
) -> Spec:
    """Return the spec of a command that runs in the machine of `config`; raises SpecError."""
    spec = config.spec
    merged = {**dict(spec.env), **(env or {})}
    changes: dict[str, object] = {
        "command": tuple(os.fspath(word) for word in command),
        "env": tuple(merged.items()),
        "mounts": (),
        "devices": (),
        "idle": False,
        "init": False,
        "tty": tty,
        "detached": False,
    }
    if workdir is not None:
        changes["workdir"] = workdir
    if user is not None:
        who = look_up_user(spec.layers or spec.rootfs, str(user), spec.groups)
        changes.update(user=str(user), identity=(who.uid, who.gid, who.groups), home=who.home)
    return spec.replace(**changes).check()


def prepare(config: Config, status: Status, spec: Spec) -> launching.Ready:
    """Return the loaded plan of a command; the second time in a machine's life, the first's."""
    host = launching.this_host()
    key = (config.id, status.pid, status.start, spec)  # another life has other groups
    known = launching.recall(key)
    if known is not None:
        return known
    groups = GroupSet.of(config.group, host.cgroups)
    v1 = tuple(path for _, path in groups.v1)
    compiled = launching.compile_command(spec, host, v1, groups.v2)
    made = launching.load(compiled)
    launching.keep(key, made)
    return made


def launch_command(
    config: Config,
    status: Status,
    spec: Spec,
    streams: tuple[int, int, int],
    *,
    leave: bool = False,
) -> tuple[native.CoreMachine, launching.Ready]:
    """Start the command of `spec` in a running machine; raises LaunchError, MachineError.

    With `leave` it lives on when this process ends.
    """
    made = prepare(config, status, spec)
    target = open_machine(status)
    try:
        plan = made.compiled.plan
        core = native.launch(plan, made.loaded, config.group, streams, target=target)
    finally:
        os.close(target)
    if leave:
        core.leave()
    return core, made


class _Home:
    """The machine that a command runs in, as `Process` sees it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lost: tuple[str, ...] = ()

    def oom_kills(self) -> int:
        """Return how many processes of the machine were killed for its memory limit so far."""
        groups = GroupSet.of(self.config.group, launching.this_host().cgroups)
        file = "memory.events" if groups.version("memory") == 2 else "memory.oom_control"
        return oom_kills((None, read_bytes(f"{groups.folder('memory')}/{file}"), None))

    def thaw(self) -> None:
        """Nothing: whoever paused the machine lets it go on."""

    def forget(self, command: native.CoreMachine) -> None:
        """Nothing: the machine does not end with this process."""


def start_command(
    config: Config,
    status: Status,
    command: Sequence[str],
    streams: tuple[object, object, object],
    env: dict[str, str] | None,
    user: str | int | None,
    workdir: str | None,
) -> Process:
    """Start `command` in a running machine, with the streams of `Machine.exec`."""
    spec = command_spec(config, command, env=env, user=user, workdir=workdir)
    made = prepare(config, status, spec)
    opened = Streams(*streams, made.compiled.owner)
    try:
        core, _ = launch_command(config, status, spec, opened.theirs)
    except BaseException:
        opened.close()
        raise
    opened.hand_over()
    return Process(core, opened, spec.command, _Home(config))
