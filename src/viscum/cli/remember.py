"""Compiled plans of `viscum run`, kept for the next time the same is asked for.

The native command gathers a key: the command line and everything that the host's probe and the
compiler look at. It launches a plan remembered under the same key without Python; here plans are
only written. What a key cannot hold is never remembered.
"""

from __future__ import annotations

import os
import struct

from ..errors import ViscumError
from ..keeping import keep_file
from ..places import data_folder, make_folder, run_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..drivers.process import Compiled
    from ..record import Config
    from ..spec import Spec
    from .parser import Parsed

__all__ = ["remember", "remember_living"]

MAX_REMEMBERED = 64
NEVER = (
    "oom_policy",
    "volumes_from",
    "sdnotify",
    "tty",
    "name",
    "label",
    "env_file",
    "timeout",
    "stop_signal",
    "stop_timeout",
)
NEVER_LIVING = (
    "volumes_from",
    "sdnotify",
    "name",
    "env_file",
    "health_cmd",
    "cidfile",
    "rm",
)
OOM_PLACE = 1
"""Where `resources.usage.usage_files` has the file that counts kills for memory."""

key_descriptor = -1
plan_path = ""


def _can_be_remembered(
    parsed: Parsed, spec: Spec, compiled: Compiled, never: tuple[str, ...] = NEVER
) -> bool:
    passed_on = any("=" not in word for word in parsed.texts("env"))
    named = not spec.user.replace(":", "").isdigit() and spec.user != "" and not spec.layers
    return not (
        compiled.lost
        or passed_on
        or named
        or parsed.on("image_may_change")
        or spec.network == "private"
        or any(mount.volume for mount in spec.mounts)  # held while in use
        or spec.pid == "host"
        or spec.shares
        or spec.bounded  # the governor finds it by its entry
        or spec.seccomp not in ("default", "unconfined")
        or any(parsed.options.get(option) for option in never)
    )


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def remember(parsed: Parsed, spec: Spec, compiled: Compiled) -> None:
    """Keep a plan under the key that the native command passed, if it can be kept."""
    if key_descriptor < 0 or not _can_be_remembered(parsed, spec, compiled):
        return
    slot, name = compiled.files[OOM_PLACE]
    uid, gid = compiled.owner
    notes = f"{int(parsed.on('interactive'))} {slot} {name} {uid} {gid}".encode()
    _keep(spec, compiled.plan.encode(), notes)


def remember_living(parsed: Parsed, config: Config, compiled: Compiled) -> None:
    """Keep what `run -d` wrote, for the native command to write again with another id."""
    if key_descriptor < 0:
        return
    if not _can_be_remembered(parsed, config.spec, compiled, NEVER_LIVING):
        return
    from ..creating import FIRST, SECOND
    from ..supervising import MONITOR, settings_text

    notes = {
        "id": config.id,
        "name": config.name,
        "data": data_folder(),
        "run": run_folder(),
        "monitor": MONITOR,
        "first": " ".join(FIRST),
        "second": " ".join(SECOND),
    }
    lines = "".join(f"{key} {value}\n" for key, value in notes.items())
    settings = settings_text(config, compiled).encode()
    _keep(config.spec, compiled.plan.encode(), lines.encode(), config.encode(), settings)


def _conditions(spec: Spec) -> bytes | None:
    """Return what must be as it is for the policy's verdict on the image to hold: from when until
    when, and files with their identities. None where that cannot be told.
    """
    if not spec.image_digest:
        return b""
    from ..admission import verdict_of

    verdict = verdict_of(spec.image_digest)
    if verdict is None or verdict.until <= verdict.made:
        return None
    parts = [struct.pack("<2Q", verdict.made, verdict.until)]
    for path, identity in verdict.files:
        parts += [os.fsencode(path), struct.pack("<6Q", *identity)]
    return b"".join(map(_part, parts))


def _keep(spec: Spec, *parts: bytes) -> None:
    conditions = _conditions(spec)
    if conditions is None:
        return
    with open(key_descriptor, "rb") as file:
        file.seek(0)
        key = file.read()
    try:
        make_folder(run_folder())
        folder = os.path.dirname(plan_path)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        keep_file(plan_path, b"".join(map(_part, (key, conditions, *parts))), MAX_REMEMBERED)
    except (OSError, ViscumError):
        return  # only the next start would have been faster
