"""Compiled plans of `viscum run`, kept for the next time the same is asked for.

The native command gathers a key: the command line and everything that the host's probe and the
compiler look at. It launches a plan remembered under the same key without Python; here plans are
only written. What a key cannot hold is never remembered.
"""

from __future__ import annotations

import os

from .. import state
from ..errors import ViscumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..drivers.process import Compiled
    from ..spec import Spec
    from .parser import Parsed

__all__ = ["remember"]

MAX_REMEMBERED = 64
NEVER = ("tty", "name", "label", "env_file", "timeout", "stop_signal", "stop_timeout")
OOM_PLACE = 1
"""Where `resources.usage.usage_files` has the file that counts kills for memory."""

key_descriptor = -1
plan_path = ""


def _can_be_remembered(parsed: Parsed, spec: Spec, compiled: Compiled) -> bool:
    passed_on = any("=" not in word for word in parsed.texts("env"))
    named = not spec.user.replace(":", "").isdigit() and spec.user != ""
    return not (
        compiled.lost
        or passed_on
        or named
        or spec.network == "private"
        or any(mount.volume for mount in spec.mounts)  # held while in use
        or spec.pid == "host"
        or spec.seccomp not in ("default", "unconfined")
        or any(parsed.options.get(option) for option in NEVER)
    )


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def remember(parsed: Parsed, spec: Spec, compiled: Compiled) -> None:
    """Keep a plan under the key that the native command passed, if it can be kept."""
    if key_descriptor < 0:
        return
    with open(key_descriptor, "rb") as file:
        file.seek(0)
        key = file.read()
    if not _can_be_remembered(parsed, spec, compiled):
        return
    slot, name = compiled.files[OOM_PLACE]
    uid, gid = compiled.owner
    notes = f"{int(parsed.on('interactive'))} {slot} {name} {uid} {gid}".encode()
    try:
        state.make_base()
        folder = os.path.dirname(plan_path)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
        _forget_oldest(folder)
        temporary = f"{plan_path}.{os.getpid()}"
        with open(temporary, "xb") as file:
            file.write(_part(key) + _part(compiled.plan.encode()) + _part(notes))
        os.rename(temporary, plan_path)
    except (OSError, ViscumError):
        return  # only the next start would have been faster


def _forget_oldest(folder: str) -> None:
    paths = [os.path.join(folder, name) for name in os.listdir(folder)]
    if len(paths) >= MAX_REMEMBERED:
        for path in sorted(paths, key=os.path.getmtime)[: MAX_REMEMBERED // 2]:
            os.unlink(path)
