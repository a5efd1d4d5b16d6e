"""`viscum diff`: what a machine changed of its root."""

from __future__ import annotations

import os
import sys

from ...drivers.root import FRESH, OWNED
from ...errors import MachineError
from ...layer import Change, Pair, compare
from ..format import check_form, print_rows
from ..listing import Column, emit, printable
from ..machines.finding import one_machine
from .streams import receive

TYPE_CHECKING = False
if TYPE_CHECKING:
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


def pairs(layer: str, spec: Spec) -> list[Pair]:
    """Return what of a writable layer is to be compared with what: the whole root, or each folder
    at its top.
    """
    own = own_paths(spec)
    names = sorted(name for name in os.listdir(layer) if name.startswith("upper-"))
    if not names:
        return [Pair("upper", spec.rootfs or "/", "", tuple(own))]
    made = []
    for name in names:
        folder = name.removeprefix("upper-")
        inner = [path.removeprefix(folder + "/") for path in own if path.startswith(folder + "/")]
        made.append(Pair(name, f"/{folder}", f"/{folder}", tuple(inner)))
    return made


def _found(machine: DetachedMachine) -> list[Change]:
    spec = machine.config.spec
    if not spec.layers:
        return _of_layer(machine, spec)
    from ... import images
    from ...showing import shown

    with shown([images.one_folder(spec.layers)]) as (lower,):
        return _of_layer(machine, spec.replace(rootfs=lower, layers=()))


def _of_layer(machine: DetachedMachine, spec: Spec) -> list[Change]:
    if not spec.layer or spec.read_only:
        return []
    try:
        wanted = pairs(spec.layer, spec)
        try:
            return list(compare(spec.layer, wanted))
        except PermissionError:
            return _through_machine(spec, wanted)
    except FileNotFoundError:
        raise MachineError(f"machine {machine.name!r} was removed meanwhile") from None


def _through_machine(spec: Spec, wanted: list[Pair]) -> list[Change]:
    """Read a layer with files of other ids as root of a machine, who owns them."""
    from ...machine import Machine
    from ...spec import Mount

    mounts = [Mount(spec.layer, "/viscum-layer", read_only=True)]
    if spec.rootfs:
        mounts.append(Mount(spec.rootfs, "/viscum-lower", read_only=True))
    moved = [pair.replace(lower="/viscum-lower") if spec.rootfs else pair for pair in wanted]
    task: dict[str, object] = {
        "do": "read_layer",
        "layer": "/viscum-layer",
        "pairs": [[pair.upper, pair.lower, pair.prefix, list(pair.own)] for pair in moved],
    }
    found: list[Change] = []

    def use(fd: int) -> None:
        with open(fd, "rb", closefd=False) as stream:
            words = stream.read().decode("utf-8", "surrogateescape").split("\0")[:-1]
        found.extend(Change(word[0], word[1:]) for word in words)

    with Machine(mounts=mounts) as machine:
        receive(machine.pid, task, use)
    return found


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
