"""What every part of a machine's mount tree is built with."""

from __future__ import annotations

from ..plan import NONE, nul_ended, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..host import Host
    from ..spec import Spec
    from .parts import Sections, Slots
    from .process import Ids

__all__ = [
    "CREATE_FILE",
    "CREATE_FOLDER",
    "KEEP",
    "NODEV",
    "NOEXEC",
    "NOSUID",
    "NO_LINKS",
    "RDONLY",
    "MountTree",
]

# mount_setattr(2)
RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8

# How `attach` treats its target.
CREATE_FOLDER = 1
CREATE_FILE = 2
NO_LINKS = 4

KEEP = 0o200000
"""Beside the mode of what is made: what is there already stays, and no link leads to it."""


class MountTree:
    """Adds the operations of a machine's mount tree to `parts`.

    `scratch` is the slot of the file system in memory that the machine writes to, `layer` that of
    the folder with its writable layer, `root` the slot of its new root, `patches` what is mounted
    there folder by folder.
    """

    def __init__(self, spec: Spec, host: Host, ids: Ids, slots: Slots, parts: Sections) -> None:
        self.spec = spec
        self.host = host
        self.ids = ids
        self.slots = slots
        self.parts = parts
        self.scratch = slots()
        self.layer = self.scratch
        self.keep = 0
        self.root = slots()
        self.idmap = NONE
        self.patches: list[str] = []
        below_dev = any(mount.where.startswith("/dev/") for mount in spec.mounts)
        self.kept_dev = slots() if host.prepares_devices and not below_dev else NONE

    def _enter(self, name: str, *values: int | str | bytes | tuple[int, ...]) -> None:
        self.parts.enter.append(op(name, *values))

    def _own_tree(self, source: int, name: str, target: str, attributes: int) -> None:
        """Show the folder `name` of slot `source` at `target`."""
        tree = self.slots()
        self._enter("clone-tree", tree, source, name, 0, attributes)
        self._enter("attach", tree, self.root, target, CREATE_FOLDER | NO_LINKS)

    def _node(self, source: str, target: str, attributes: int) -> int:
        tree = self.slots()
        self._enter("clone-tree", tree, NONE, source, 0, attributes)
        self._enter("attach", tree, self.root, target, CREATE_FILE)
        return tree

    def _file_system(self, kind: str, target: str, options: Iterable[str], attributes: int) -> int:
        slot = self.slots()
        self._enter("fsmount", slot, kind, kind, nul_ended(options), attributes)
        self._enter("attach", slot, self.root, target, CREATE_FOLDER | NO_LINKS)
        return slot

    def _cover(self, path: str, source: str, attributes: int) -> None:
        """Lay a clone of `source`, a path in the machine, over `path`."""
        tree = self.slots()
        self._enter("clone-tree", tree, self.root, source, 0, attributes)
        self._enter("attach", tree, self.root, path, NO_LINKS)

    def _host_tree(self, path: str, target: str, attributes: int) -> None:
        slot = self.slots()
        attributes |= NOSUID | NODEV | NOEXEC
        self._enter("clone-tree", slot, NONE, path, 1, attributes)
        self._enter("attach", slot, self.root, target, CREATE_FOLDER | NO_LINKS)
