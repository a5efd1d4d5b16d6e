"""The folders that Viscum keeps things in: what a boot forgets, and what it does not.

| folder | root | an ordinary user | to have another one |
|---|---|---|---|
| run | `/run/viscum` | `$XDG_RUNTIME_DIR/viscum`, else `/tmp/viscum-UID` | `VISCUM_RUN` |
| data | `/var/lib/viscum` | `$XDG_DATA_HOME/viscum`, else `~/.local/share/viscum` | `VISCUM_DATA` |
"""

from __future__ import annotations

import os

from .errors import ViscumError

__all__ = ["data_folder", "make_folder", "run_folder", "volumes_folder"]


def run_folder() -> str:
    """Return the path of the folder for what ends with this boot."""
    given = os.environ.get("VISCUM_RUN")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/run/viscum"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime, "viscum") if runtime else f"/tmp/viscum-{os.geteuid()}"  # noqa: S108


def data_folder() -> str:
    """Return the path of the folder for what stays: machines, volumes, images."""
    given = os.environ.get("VISCUM_DATA")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return "/var/lib/viscum"
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "viscum")


def volumes_folder() -> str:
    """Return the path of the folder of named volumes."""
    return os.path.join(data_folder(), "volumes")


def make_folder(top: str, *below: str, hint: str = "make it writable") -> str:
    """Make the folder `top` and folders below it where they are missing; return `top`.

    Raises ViscumError where that fails, and where `top` could be written to by somebody else.
    """
    try:
        os.makedirs(os.path.dirname(top), exist_ok=True)
        for path in (top, *(f"{top}/{name}" for name in below)):
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                continue
        is_ = os.lstat(top)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise ViscumError(f"state folder {top!r}: {reason}", hint=hint) from None
    if is_.st_uid != os.geteuid() or is_.st_mode & 0o22:
        raise ViscumError(f"state folder {top!r} belongs to somebody else", hint="remove it")
    return top
