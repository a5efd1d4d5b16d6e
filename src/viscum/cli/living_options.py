"""From the options of machines that live on to those of `DetachedMachine.create`."""

from __future__ import annotations

from ..errors import SpecError
from ..limits import parse_size
from ..record import Health, LogOptions
from .filters import parse_labels
from .machine_options import machine_options, seconds
from .moments import parse_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .parser import Parsed

__all__ = ["create", "reject_living", "shared"]

LIVING = ("sdnotify", "restart", "health_cmd", "log_opt", "cidfile", "on_monitor_loss")
LARGEST_COUNT = 1000


def reject_living(parsed: Parsed) -> None:
    """Refuse, for a foreground machine, what only one that lives on can have."""
    for key in LIVING:
        if parsed.options.get(key):
            flag = "--" + key.replace("_", "-")
            raise SpecError(f"{flag} needs a machine that lives on", hint="add -d")


def shared(options: dict[str, object]) -> dict[str, str]:
    """Take `container:NAME` and `machine:NAME` out of `options`; return NAME by namespace."""
    found = {}
    for kind in ("network", "pid", "ipc"):
        prefix, colon, name = str(options.get(kind) or "").partition(":")
        if colon and prefix in ("container", "machine"):
            found[kind] = name
            del options[kind]
    return found


def _log_options(words: list[str]) -> LogOptions:
    sizes: dict[str, int] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key in ("max-size", "max-rate"):
            sizes[key.replace("-", "_")] = 0 if value == "0" else parse_size(value, key)
        elif key == "max-file" and value.isascii() and value.isdecimal():
            sizes["max_files"] = int(value)
        else:
            raise SpecError(
                f"--log-opt {word!r} is unknown", hint="max-size=64m, max-file=2, max-rate=1m"
            )
    if not 1 <= sizes.get("max_files", 1) <= LARGEST_COUNT:
        raise SpecError(f"max-file {sizes['max_files']} is out of range", hint="1 to 1000")
    return LogOptions(**sizes)


def _health(parsed: Parsed) -> Health | None:
    text = parsed.text("health_cmd")
    times = ("interval", "timeout", "start_period")
    if text is None or text == "none":
        if text is None and any(parsed.text(f"health_{key}") for key in (*times, "retries")):
            raise SpecError("there is no health check to set times of", hint="--health-cmd COMMAND")
        return None
    given: dict[str, Any] = {}
    for key in times:
        value = parsed.text(f"health_{key}")
        if value is not None:
            given[key] = parse_duration(value, f"--health-{key.replace('_', '-')}")
    retries = parsed.text("health_retries")
    if retries is not None:
        if not (retries.isascii() and retries.isdecimal()) or not 1 <= int(retries) <= 1000:
            raise SpecError(f"--health-retries {retries!r} is out of range", hint="1 to 1000")
        given["retries"] = int(retries)
    health = Health(("sh", "-c", text), **given)
    if health.interval < 0.001 or health.timeout < 0.001:
        raise SpecError("a health check's interval and timeout must be above 0")
    return health


def _monitor_loss(parsed: Parsed) -> bool:
    word = parsed.text("on_monitor_loss") or "keep"
    if word not in ("keep", "end"):
        raise SpecError(f"--on-monitor-loss {word!r} is unknown", hint="keep or end")
    return word == "end"


def create(parsed: Parsed) -> dict[str, Any]:
    """Return the arguments of `DetachedMachine.create`; raises SpecError."""
    command, options, fixed = machine_options(parsed)
    timeout = parsed.text("timeout")
    fixed["ends_with_monitor"] = _monitor_loss(parsed)
    return {
        "command": command,
        "name": parsed.text("name"),
        "labels": parse_labels(parsed.texts("label")),
        "restart": parsed.text("restart") or "no",
        "health": _health(parsed),
        "log": _log_options(parsed.texts("log_opt")),
        "interactive": parsed.on("interactive"),
        "remove": parsed.on("rm"),
        "timeout": None if timeout is None else seconds(timeout, "--timeout"),
        "share": shared(options),
        "fixed": fixed,
        **options,
    }
