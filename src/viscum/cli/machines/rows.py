"""What `ps` and `inspect` tell of a machine."""

from __future__ import annotations

import time

from ...errors import MachineError
from ...host import probe
from ...resources.limits import lost_limits
from ..listing import ago, duration
from ..moments import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...record import Config, Status
    from ...registry import Record

__all__ = ["details", "row", "status_text"]

BILLION = 1_000_000_000


def root_of(config: Config) -> str:
    """Return what the machine's root is made of, for people."""
    return config.spec.image or config.spec.rootfs or "host"


def status_text(status: Status, now: float) -> str:
    """Return a status as people read it: "Up 3 minutes (healthy)"."""
    since = max(0.0, now - status.started / BILLION)
    if status.state in ("running", "paused"):
        notes = [status.health] if status.health else []
        notes += ["paused"] if status.state == "paused" else []
        notes += ["monitor lost"] if not status.monitor else []
        return f"Up {duration(since)}" + (f" ({', '.join(notes)})" if notes else "")
    if status.state == "exited":
        code = status.code if status.code >= 0 else "?"
        when = ago(status.finished / BILLION, now) if status.finished else status.error
        oom = ", out of memory" if status.oom else ""
        return f"Exited ({code}{oom}) {when}"
    if status.state == "restarting":
        return f"Restarting ({status.code}) {ago(status.finished / BILLION, now)}"
    return status.state.capitalize()


def row(record: Record, now: float) -> dict[str, Any]:
    """Return a line of `ps`."""
    try:
        brief, status = record.brief, record.status()
    except MachineError as error:
        damaged = dict.fromkeys(("Image", "Command", "CreatedAt", "RunningFor", "Networks"), "")
        return {
            **damaged,
            "ID": record.id,
            "Names": record.name,
            "Status": f"Damaged: {error.message}",
            "State": "damaged",
            "Labels": {},
            "ExitCode": -1,
            "Pid": 0,
            "Created": 0,
        }
    return {
        "ID": record.id,
        "Image": brief.root,
        "Command": brief.command,
        "CreatedAt": timestamp(brief.created),
        "Created": brief.created // BILLION,
        "RunningFor": ago(brief.created / BILLION, now),
        "Status": status_text(status, now),
        "State": status.state,
        "Names": brief.name,
        "Labels": brief.labels,
        "Networks": brief.network,
        "ExitCode": status.code,
        "Pid": status.pid,
    }


def _state(status: Status, health: dict[str, Any] | None) -> dict[str, Any]:
    state = {
        "Status": status.state,
        "Running": status.state in ("running", "paused"),
        "Paused": status.state == "paused",
        "Restarting": status.state == "restarting",
        "OOMKilled": bool(status.oom),
        "Pid": status.pid,
        "ExitCode": status.code,
        "Error": status.error,
        "StartedAt": timestamp(status.started),
        "FinishedAt": timestamp(status.finished),
        "MonitorPid": status.monitor,
        "MonitorLost": status.state in ("running", "paused") and not status.monitor,
    }
    return {**state, "Health": health} if health else state


def _health(record: Record, status: Status) -> dict[str, Any] | None:
    if record.config.health is None:
        return None
    import json

    log = []
    try:
        with open(record.path("health.json"), "rb") as file:
            last = json.load(file)
        output = bytes.fromhex(last["output"]).decode("utf-8", "replace")
        begun, ended = timestamp(last["begun"]), timestamp(last["ended"])
        log.append({"Start": begun, "End": ended, "ExitCode": last["code"], "Output": output})
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none was made yet
    return {"Status": status.health, "FailingStreak": status.failing, "Log": log}


def _plain(value: object) -> Any:
    from ...frozen import Frozen

    if isinstance(value, Frozen):
        return {name: _plain(field) for name, field in value.__dict__.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def details(record: Record) -> dict[str, Any]:
    """Return what `inspect` tells; where Docker has the same thing, under the same name."""
    config, status = record.config, record.status()
    spec = config.spec
    restart = {"Name": config.restart.policy, "MaximumRetryCount": config.restart.maximum}
    return {
        "Id": record.id,
        "Name": config.name,
        "Created": timestamp(config.created),
        "Path": spec.command[0] if spec.command else "",
        "Args": list(spec.command[1:]),
        "State": _state(status, _health(record, status)),
        "RestartCount": status.restarts,
        "Image": root_of(config),
        "Isolation": "process",
        "LogPath": record.path("log"),
        "Layer": spec.layer,
        "Config": {
            "Cmd": list(spec.command),
            "Env": [f"{name}={value}" for name, value in spec.env],
            "Hostname": spec.hostname or "viscum",
            "Labels": dict(config.labels),
            "OpenStdin": config.interactive,
            "StopSignal": spec.stop_signal,
            "StopTimeout": spec.stop_timeout,
            "Tty": spec.tty,
            "User": spec.user,
            "WorkingDir": spec.workdir or "/",
            "Healthcheck": _plain(config.health),
        },
        "HostConfig": {
            **_plain(spec.limits),
            "RestartPolicy": restart,
            "LogConfig": _plain(config.log),
            "AutoRemove": config.remove,
            "OnMonitorLoss": "end" if spec.ends_with_monitor else "keep",
        },
        "Mounts": [_plain(mount) for mount in spec.mounts],
        "Namespaces": {
            "network": spec.network,
            "pid": spec.pid,
            "ipc": spec.ipc,
            "uts": spec.uts,
            "user": spec.userns,
            "of": config.target,
        },
        "Loosened": list(spec.loosened),
        "Lost": list(lost_limits(spec.limits, probe().cgroups)),
        "Spec": _plain(spec),
        "Now": timestamp(time.time_ns()),
    }
