"""From a machine's config to its monitor, which reads its orders in the machine's folder.

What it reads: `plan` and `health.plan`, compiled here, and `settings`, lines of `key value`
(`native/settings.c`).
"""

from __future__ import annotations

import os

from . import launching, native, volumes
from .errors import HostError, MachineError
from .journal import events_path
from .places import data_folder, make_folder, run_folder
from .record import Config, Status, boot_id, pid_namespace
from .registry import Record, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .drivers.process import Compiled
    from .host import Host

__all__ = ["adopt", "settings_text", "start", "write_settings"]

MONITOR = os.path.join(os.path.dirname(__file__), "bin", "viscum-monitor")
POLICIES = {"no": 0, "on-failure": 1, "always": 2, "unless-stopped": 2}
REPORT, CLIENT = 3, 4
"""Descriptors of a monitor when it starts."""
REPORT_SIZE = 16
OOM_POLICIES = ("kill", "pause", "grow")
"""As `enum vs_oom_policy` of the monitor counts them."""
OOM_PLACE = 1
"""Where `resources.usage.usage_files` has the file that counts kills for memory."""


def start(record: Record, client: int = -1) -> Compiled:
    """Launch the machine of a record under a monitor of its own; return what was compiled.

    `client` is the monitor's end of a connection that is there from the begin, or -1. Raises
    SpecError, HostError, LaunchError; what the host cannot give is said once, as a warning.
    Under the machine's lock.
    """
    host = launching.this_host()
    config = record.config
    if not os.access(MONITOR, os.X_OK):
        raise HostError(f"{MONITOR!r} is missing", hint="install viscum again")
    if config.spec.image_digest:
        from .admission import admit_spec

        admit_spec(config.spec)
    held = volumes.prepare(config.spec.mounts, config.spec.identity[:2])
    try:
        return _launch(record, config, host, client)
    finally:
        for fd in held:
            os.close(fd)


def _launch(record: Record, config: Config, host: Host, client: int) -> Compiled:
    launching.hold_io(config.spec)
    compiled = launching.compile_machine(config.spec, host)
    launching.warn_of_lost(compiled)
    write(record.folder, "plan", compiled.plan.encode())
    _write_health(record, config, host, compiled)
    write_settings(record, config, compiled)
    words = _run_monitor(record, client=client)
    if not words[0]:
        error = native.explain_report(compiled.plan, words[1], words[2], words[3])
        _note_failure(record, str(error))
        raise error
    return compiled


def _write_health(record: Record, config: Config, host: Host, compiled: Compiled) -> None:
    if config.health is None:
        return
    spec = config.spec.replace(command=config.health.command, tty=False, detached=False)
    folders, into = compiled.groups.folders(host.cgroups, config.group)
    check = launching.compile_command(spec, host, folders, into)
    write(record.folder, "health.plan", check.plan.encode())


def _oom_policy(text: str) -> tuple[str, int | None]:
    if text == "kill":
        return text, None
    from .resources.oom import parse_policy

    return parse_policy(text)


def settings_text(config: Config, compiled: Compiled) -> str:
    """Return the orders of a monitor."""
    slot, file = compiled.files[OOM_PLACE]
    spec, health = config.spec, config.health
    policy, most = _oom_policy(spec.oom_policy)
    settings: dict[str, object] = {
        "id": config.id,
        "name": config.name,
        "group": config.group,
        "events": events_path(),
        "oom-slot": slot,
        "oom-file": file,
        "oom-policy": OOM_POLICIES.index(policy),
        "oom-most": most or 0,
        "freezer": compiled.groups.slot("freezer"),
        "terminal": compiled.terminal_slot,
        "kill": compiled.groups.slot(""),
        "uid": compiled.owner[0],
        "gid": compiled.owner[1],
        "interactive": int(config.interactive),
        "restart": POLICIES[config.restart.policy],
        "restart-max": config.restart.maximum,
        "stop-signal": spec.stop_signal,
        "stop-timeout-ms": round(min(spec.stop_timeout, 1e6) * 1000),
        "timeout-ms": round(min(config.timeout or 0.0, 2e6) * 1000),
        "log-size": config.log.max_size,
        "log-files": config.log.max_files,
        "log-rate": config.log.max_rate,
        "target": Record(config.target).folder if config.target else "",
    }
    if health is not None:
        settings["health-interval-ms"] = max(1, round(health.interval * 1000))
        settings["health-timeout-ms"] = max(1, round(health.timeout * 1000))
        settings["health-start-ms"] = round(health.start_period * 1000)
        settings["health-retries"] = health.retries
    if config.remove:
        settings["cleaner"] = launching.python_path()
        settings["data"] = data_folder()
        settings["run"] = run_folder()
    return "".join(f"{key} {value}\n" for key, value in settings.items())


def write_settings(record: Record, config: Config, compiled: Compiled) -> None:
    """Write the orders of a machine's monitor."""
    write(record.folder, "settings", settings_text(config, compiled).encode())


def _run_monitor(record: Record, *options: str, client: int = -1) -> tuple[int, int, int, int]:
    """Start the monitor, which leaves this process at once, and return its report."""
    make_folder(run_folder(), hint="make it writable, or set VISCUM_RUN")
    reader, writer = native.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, writer, REPORT)]
        if client >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, client, CLIENT))
            options = ("--client", *options)
        words = ["viscum-monitor", *options, record.folder]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        pid = os.posix_spawn(MONITOR, words, environment, file_actions=actions)
        os.close(writer)
        writer = -1
        try:
            os.waitpid(pid, 0)  # it has forked
        except ChildProcessError:
            pass
        data = _read_report(reader)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if len(data) < REPORT_SIZE:
        return 0, -1, 0, 0
    parts = [data[at : at + 4] for at in range(0, REPORT_SIZE, 4)]
    ok, index, call, number = (int.from_bytes(part, "little", signed=True) for part in parts)
    return ok, index, call, number


def _read_report(fd: int) -> bytes:
    data = b""
    while len(data) < REPORT_SIZE:
        chunk = os.read(fd, REPORT_SIZE - len(data))
        if not chunk:
            break
        data += chunk
    return data


def _note_failure(record: Record, text: str) -> None:
    """Leave a machine that could not start as one that has ended, with the reason."""
    status = Status(
        state="created" if not os.path.exists(record.path("status.json")) else "exited",
        boot=boot_id(),
        pidns=pid_namespace(),
        code=125,
        error=text,
    )
    write(record.folder, "status.json", status.encode())


def adopt(record: Record) -> None:
    """Give a machine whose monitor was lost a new one. Under the machine's lock."""
    words = _run_monitor(record, "--adopt")
    if not words[0]:
        reason = os.strerror(words[3]).lower()
        raise MachineError(f"{record.name!r} cannot be taken over: {reason}")
