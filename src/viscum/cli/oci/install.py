"""`viscum oci install` and `viscum oci uninstall`: engines are told of viscum-oci, or no longer."""

from __future__ import annotations

import os
import sys

from ...errors import SpecError
from . import handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed
    from .handlers import Change

__all__ = ["carry_out", "chosen", "main"]

RESTART = {
    "containerd": "systemctl restart containerd",
    "crio": "systemctl restart crio",
    "docker": "systemctl restart docker",
}


def chosen(parsed: Parsed) -> list[str]:
    """Return the engines that were named, or those that are configured here."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="engines are options: --podman")
    named = [engine for engine in handlers.ENGINES if parsed.on(engine)]
    found = named or handlers.present(parsed.text("root") or "")
    if not found:
        raise SpecError(
            "no engine is configured on this host",
            hint="name one: " + ", ".join(f"--{engine}" for engine in handlers.ENGINES),
        )
    return found


def _show(change: Change) -> None:
    import difflib

    old = (change.before or "").splitlines(keepends=True)
    new = (change.after or "").splitlines(keepends=True)
    names = change.path if change.before is not None else "/dev/null", change.path
    if change.after is None:
        names = change.path, "/dev/null"
    sys.stdout.writelines(difflib.unified_diff(old, new, *names))


def _agreed(parsed: Parsed) -> bool:
    if parsed.on("yes"):
        return True
    if not sys.stdin.isatty():
        raise SpecError("nothing was changed: this has to be agreed to", hint="add --yes")
    sys.stdout.flush()
    print("Write this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write(change: Change) -> None:
    """Put the new text in the place of the old by a rename, with the same mode."""
    if change.after is None:
        os.unlink(change.path)
        return
    os.makedirs(os.path.dirname(change.path), exist_ok=True)
    try:
        mode = os.stat(change.path).st_mode & 0o7777
    except FileNotFoundError:
        mode = 0o644
    beside = f"{change.path}.viscum-{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(change.after)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, change.path)
    except OSError:
        os.unlink(beside)
        raise


def carry_out(parsed: Parsed, engines: list[str], changes: list[Change]) -> int:
    """Show what changes, ask, and write it."""
    pairs = zip(engines, changes, strict=True)
    wanted = [(engine, change) for engine, change in pairs if change.before != change.after]
    if not wanted:
        print("viscum: there is nothing to change", file=sys.stderr)
        return 0
    for _, change in wanted:
        _show(change)
    if parsed.on("dry_run") or not _agreed(parsed):
        return 0
    for engine, change in wanted:
        _write(change)
        if engine in RESTART:
            print(f"viscum: to have it read that: {RESTART[engine]}", file=sys.stderr)
    return 0


def main(parsed: Parsed) -> int:
    """Tell engines of viscum-oci."""
    engines, root = chosen(parsed), parsed.text("root") or ""
    runtime = os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), "viscum-oci")
    if not os.access(runtime, os.X_OK):
        raise SpecError(f"{runtime!r} is not there", hint="is the installation whole?")
    return carry_out(
        parsed, engines, [handlers.plan_install(engine, runtime, root) for engine in engines]
    )
