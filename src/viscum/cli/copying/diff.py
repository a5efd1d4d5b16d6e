"""`viscum diff`: what a machine changed of its root."""

from __future__ import annotations

import os
import sys

from ...drivers.root import FRESH, OWNED
from ...errors import MachineError
from ...layer import Change, changes
from ..format import check_form, print_rows
from ..listing import Column, emit, printable
from ..machines.finding import one_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...detached import DetachedMachine
    from ...spec import Spec
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (Column("Kind", "KIND"), Column("Path", "PATH"))
ETC = ("etc", "etc/hostname", "etc/hosts", "etc/resolv.conf")


def own_paths(spec: Spec) -> set[str]:
    """Return the paths of a machine's root that Viscum makes in its writable layer."""
    own = {*ETC, "dev", "proc", "sys"}
    if spec.rootfs is None:
        own |= {*OWNED, *(name for name, _ in FRESH)}
    for mount in spec.mounts:
        parts = mount.where.strip("/").split("/")
        own |= {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return own


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _between(upper: str, lower: str, own: set[str]) -> Iterator[Change]:
    above = _open(upper)
    try:
        below = os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from changes(above, below, own)
        finally:
            os.close(below)
    finally:
        os.close(above)


def layer_changes(layer: str, spec: Spec) -> Iterator[Change]:
    """Yield what is in a writable layer: of the whole root, or of each folder at its top."""
    own = own_paths(spec)
    names = sorted(name for name in os.listdir(layer) if name.startswith("upper-"))
    if not names:
        yield from _between(f"{layer}/upper", spec.rootfs or "/", own)
        return
    for name in names:
        folder = name.removeprefix("upper-")
        inner = {path.removeprefix(folder + "/") for path in own if path.startswith(folder + "/")}
        found = list(_between(f"{layer}/{name}", f"/{folder}", inner))
        if found:
            yield Change("C", f"/{folder}")
        yield from (change.replace(path=f"/{folder}{change.path}") for change in found)


def _found(machine: DetachedMachine) -> list[Change]:
    spec = machine.config.spec
    if not spec.layer or spec.read_only:
        return []
    try:
        return list(layer_changes(spec.layer, spec))
    except PermissionError:
        return _through_machine(spec)
    except FileNotFoundError:
        raise MachineError(f"machine {machine.name!r} was removed meanwhile") from None


def _through_machine(spec: Spec) -> list[Change]:
    """Read a layer with files of other ids as root of a machine, who owns them."""
    raise PermissionError(spec.layer)


def main(parsed: Parsed) -> int:
    """Print the changes, a line each."""
    machine = one_machine(parsed, "viscum diff NAME")
    form = parsed.text("format")
    check_form(form)
    found = _found(machine)
    if form is not None:
        rows = [{"Kind": change.kind, "Path": change.path} for change in found]
        print_rows(rows, COLUMNS, form)
        return 0
    shown = printable if os.isatty(1) else str
    emit("".join(f"{change.kind} {shown(change.path)}\n" for change in found))
    sys.stdout.flush()
    return 0
