"""The mount tree of an OCI container: its root, what the configuration mounts, devices, masks.

A path of the host is opened once and passed on as a descriptor. A path of the container is looked
up by the kernel inside of the new root, so that no link of an image leads out of it.
"""

from __future__ import annotations

import os
import stat

from ..errors import HostError, SpecError
from ..host import status_field
from ..plan import NONE, nul_ended, op
from .mount_options import PROPAGATION, MountOptions, read_options
from .parts import LINKS, NODES, kernel_number
from .tree import CREATE_FILE, CREATE_FOLDER, NO_LINKS, NODEV, NOEXEC, NOSUID, RDONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..bundle import Bundle
    from ..plan import Operation
    from .container_groups import GroupBuilder
    from .parts import Sections, Slots

__all__ = ["ContainerMounts", "id_map", "is_release"]

MS_PRIVATE, MS_SLAVE = 1 << 18, 1 << 19
MS_REC = 0x4000
CAP_SYS_ADMIN = 21
GUARDED = NOSUID | NODEV | NOEXEC
KERNEL_TYPES = ("proc", "sysfs")
UNLABELED_TYPES = (*KERNEL_TYPES, "mqueue")
"""Those that take no `context`: mqueue is the IPC namespace's, made before it is mounted."""
BIND_TYPES = ("bind", "none", "")
PROC_FILES = (
    "/proc/cpuinfo /proc/diskstats /proc/loadavg /proc/meminfo /proc/net/dev /proc/slabinfo "
    "/proc/stat /proc/swaps /proc/uptime /proc/sys/crypto/fips_enabled "
    "/proc/sys/kernel/ns_last_pid"
).split()
"""What programs such as lxcfs show otherwise."""
S_IFCHR, S_IFBLK, S_IFIFO, S_IFREG = 0o020000, 0o060000, 0o010000, 0o100000
DEVICE_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}


def id_map(mappings: list[dict[str, int]]) -> str:
    """Return the text of an id map, as user_namespaces(7) has it."""
    lines = [f"{each['containerID']} {each['hostID']} {each['size']}" for each in mappings]
    return "\n".join(lines) + "\n"


def is_release(release: str, *wanted: int) -> bool:
    """Return whether a kernel's release, such as 6.18.5-cloud, is that version or a later one."""
    major, minor = (int(part.partition("-")[0]) for part in release.split(".")[:2])
    return (major, minor) >= wanted


def clean(path: str) -> str:
    """Return an absolute path below the root, with no dots in it; two slashes in front, which
    normpath(3) would keep, are one.
    """
    return os.path.normpath("/" + path.lstrip("/"))


class ContainerMounts:
    """Adds the operations of a container's mount tree to `parts`."""

    def __init__(
        self,
        bundle: Bundle,
        groups: GroupBuilder,
        slots: Slots,
        parts: Sections,
        *,
        binds: bool,
        shared: bool,
    ) -> None:
        self.bundle = bundle
        self.groups = groups
        self.slots = slots
        self.parts = parts
        self.binds = binds
        """Whether device nodes are the host's, since none can be made in this user namespace."""
        self.capable = bool(int(status_field("CapEff") or "0", 16) >> CAP_SYS_ADMIN & 1)
        """Whether this process may clone mounts; else the child does, in its own namespace."""
        self.shared = shared
        """Whether the container stays in the runtime's mount namespace: then its tree hangs
        nowhere. The host sees none of it, and it is gone with the container's last process.
        """
        self.label: str = bundle.linux.get("mountLabel", "")
        if self.label:
            from .labels import mount_label

            self.label = mount_label(self.label, parts)
        self.context = ["context", self.label] if self.label else []
        """The option by which all files of a file system have the label of SELinux."""
        self.root = slots()
        self.mounts: list[dict[str, Any]] = bundle.config.get("mounts", [])
        self.shelf = slots()
        """A file system below the root, for trees that the parent cloned, until the container
        clones them anew in the order of its configuration.
        """
        self.shelved: list[Operation] = []

    def _enter(self, name: str, *values: int | str | bytes) -> None:
        self.parts.enter.append(op(name, *values))

    def build(self) -> None:
        """Add everything up to the masks; the pivot follows once hooks have run."""
        propagation = self.bundle.linux.get("rootfsPropagation", "")
        if propagation and propagation not in PROPAGATION:
            raise SpecError(
                f"linux.rootfsPropagation {propagation!r} is unknown",
                hint=f"one of {', '.join(PROPAGATION)}",
            )
        private = propagation in ("private", "rprivate")
        if self.shared:
            self._check_shared()
        else:
            self._enter("propagation", MS_REC | (MS_PRIVATE if private else MS_SLAVE))
        place = self._root()
        inside = len(self.parts.enter)
        for at, mount in enumerate(self.mounts):
            self._mount(mount, f"mounts[{at}]")
        if not self.shared:
            self.parts.enter[inside:inside] = self._lay_root(place)
        self._devices()
        self._masks()
        if self.bundle.config["root"].get("readonly"):
            self._enter("seal", self.root, "", RDONLY, 0)

    def finish(self) -> None:
        """Add the change of the root."""
        if self.bundle.no_pivot and not self.shared:  # who enters the namespace starts there
            self._enter("attach", self.root, NONE, "/", 0)
        keeps = self.bundle.no_pivot or self.shared
        self._enter("move-root" if keeps else "pivot", self.root)
        propagation = self.bundle.linux.get("rootfsPropagation", "")
        if propagation and not self.shared:
            flag, deep = PROPAGATION[propagation]
            self._enter("propagation", flag | (MS_REC if deep else 0))

    def _check_shared(self) -> None:
        if not (self.capable and is_release(os.uname().release, 6, 15)):
            raise HostError(
                "a container without a mount namespace needs CAP_SYS_ADMIN and Linux 6.15",
                hint="add it to linux.namespaces",
            )

    def _open(self, path: str, what: str, flags: int = 0) -> tuple[int, os.stat_result]:
        """Have the plan open `path`, and refuse it where it was replaced meanwhile."""
        try:
            is_ = os.stat(path) if not flags & os.O_NOFOLLOW else os.lstat(path)
        except OSError as error:
            raise SpecError(f"{what} {path!r}: {(error.strerror or '').lower()}") from None
        slot = self.slots()
        self.parts.load.append(op("open", slot, path, flags))
        self.parts.load.append(op("expect-file", slot, is_.st_dev, is_.st_ino))
        return slot, is_

    def _root(self) -> int:
        """Add the root, attached nowhere; returns the slot of the folder that it is a clone of."""
        source, is_ = self._open(self.bundle.rootfs, "root.path", os.O_NOFOLLOW)
        if stat.S_ISLNK(is_.st_mode):
            raise SpecError(f"root.path {self.bundle.rootfs!r} is a symbolic link")
        if not stat.S_ISDIR(is_.st_mode):
            raise SpecError(f"root.path {self.bundle.rootfs!r} is not a folder")
        tree = self.root
        self._bring(tree, source, self.bundle.rootfs, deep=True)
        self._enter("set-attributes", tree, 0, 0, MS_PRIVATE, 1)
        return source

    def _lay_root(self, place: int) -> list[Operation]:
        """Return what attaches the root, over the shelf where something is on that."""
        if not self.shelved:
            return [op("cover", self.root, self.bundle.rootfs, place)]
        shelf = self.shelf
        return [
            op("fsmount", shelf, "tmpfs", "tmpfs", b"", GUARDED),
            op("cover", shelf, self.bundle.rootfs, place),
            *self.shelved,
            op("attach", self.root, shelf, "", 0),
        ]

    # What the configuration mounts.

    def _mount(self, mount: dict[str, Any], where: str) -> None:
        options = read_options(mount.get("options", []))
        target = clean(mount["destination"])
        if target == "/":
            raise SpecError(f"{where}.destination {mount['destination']!r} is the root")
        kind = mount.get("type", "")
        self._check_proc(mount, target, where)
        if options.bind or kind == "bind":
            self._bind(mount, options, target, where)
        elif kind in ("cgroup", "cgroup2"):
            self._control_groups(options, target)
        elif not kind or kind == "none":
            raise SpecError(f"{where}.type is missing, and it is no bind mount")
        else:
            self._file_system(mount, options, target)

    def _check_proc(self, mount: dict[str, Any], target: str, where: str) -> None:
        """Nothing may stand in for /proc, by which the kernel is told and asked about processes,
        but files that tell of the machine's load and sizes.
        """
        if target == "/proc":
            bound = mount.get("source") == "/proc" and mount.get("type", "") in BIND_TYPES
            if mount.get("type") != "proc" and not bound:
                raise SpecError(
                    f"{where}.destination {mount['destination']!r} is for proc alone",
                    hint="give type proc",
                )
        elif target.startswith("/proc/") and target not in PROC_FILES:
            raise SpecError(
                f"{where}.destination {mount['destination']!r} is inside /proc",
                hint=f"only {', '.join(PROC_FILES)} may be covered",
            )

    def _settle(self, slot: int, options: MountOptions, *, deep: bool) -> None:
        """Add what is changed on a mount before it is attached."""
        if options.set or options.clear:
            self._enter("set-attributes", slot, options.set, options.clear, 0, 0)
        if options.deep_set or options.deep_clear:
            values = options.deep_set, options.deep_clear
            self._enter("set-attributes", slot, *values, 0, 1)
        if deep and not options.propagation:
            self._enter("set-attributes", slot, 0, 0, MS_SLAVE, 1)
        for flag, recursive in options.propagation:
            self._enter("set-attributes", slot, 0, 0, flag, int(recursive))

    def _bind(self, mount: dict[str, Any], options: MountOptions, target: str, where: str) -> None:
        path = mount.get("source", "")
        if not path:
            raise SpecError(f"{where}.source is missing")
        path = os.path.normpath(os.path.join(self.bundle.folder, path))
        source, is_ = self._open(path, f"{where}.source")
        idmap = self._idmap(mount, options, where)
        tree = self.slots()
        self._bring(tree, source, path, deep=options.bind != "bind")
        if idmap != NONE:
            self.parts.prepare.append(op("idmap", tree, idmap, int(options.idmap == "ridmap")))
        create = CREATE_FOLDER if stat.S_ISDIR(is_.st_mode) else CREATE_FILE
        if self.capable:
            self._in_turn(tree, create, deep=options.bind != "bind")
        self._settle(tree, options, deep=True)
        self._enter("attach", tree, self.root, target, create)

    def _bring(self, tree: int, source: int, path: str, *, deep: bool) -> None:
        """Clone what is at `path`, opened as `source`. Who may not do that here has it done in the
        container's mount namespace, where mounts below it cannot be left out.
        """
        if self.capable:
            self.parts.prepare.append(op("tree", tree, source, NONE, 0, 0, int(deep)))
        else:
            self._enter("clone-tree", tree, NONE, path, 1, 0)

    def _in_turn(self, tree: int, create: int, *, deep: bool) -> None:
        """Give a tree that the parent cloned its place in the order of mounts."""
        if self.shared:
            return  # its tree hangs nowhere, so no list has an order
        self.shelved.append(op("attach", tree, self.shelf, str(len(self.shelved)), create))
        self._enter("clone-anew", tree, int(deep))

    def _idmap(self, mount: dict[str, Any], options: MountOptions, where: str) -> int:
        uids, gids = mount.get("uidMappings"), mount.get("gidMappings")
        if not (uids or gids or options.idmap):
            return NONE
        if not (uids and gids):
            uids = self.bundle.linux.get("uidMappings")
            gids = self.bundle.linux.get("gidMappings")
        if not (uids and gids):
            raise SpecError(
                f"{where} asks for mapped ids, but there is no map",
                hint="give uidMappings and gidMappings, of the mount or in linux",
            )
        slot = self.slots()
        self.parts.load.append(op("userns", slot, id_map(uids), id_map(gids)))
        return slot

    def _file_system(self, mount: dict[str, Any], options: MountOptions, target: str) -> None:
        kind, slot = mount["type"], self.slots()
        data = list(options.data)
        if kind not in ("proc", "sysfs", "tmpfs", "mqueue", "devpts") and options.set & RDONLY:
            data += ["ro", ""]
        if kind not in UNLABELED_TYPES:
            data += self.context
        source = mount.get("source") or kind
        self._enter("fsmount", slot, kind, source, nul_ended(data), options.set)
        if kind == "mqueue" and self.label:
            self._enter("set-xattr", slot, "security.selinux", self.label)
        if options.copies and kind == "tmpfs":
            self._enter("cover-copy", slot, self.root, target)
        cleared = options.replace(set=0, clear=0)
        self._settle(slot, cleared, deep=False)
        create = CREATE_FOLDER | (NO_LINKS if kind in KERNEL_TYPES else 0)
        self._enter("attach", slot, self.root, target, create)

    def _control_groups(self, options: MountOptions, target: str) -> None:
        """The container's own groups, and nothing above them; nothing where it has none."""
        attributes = GUARDED | (options.set & RDONLY)
        groups = self.groups.found.groups if self.capable else ()
        if groups and self.groups.found.unified:
            self._group_tree(groups[0].point, self.root, target, attributes, CREATE_FOLDER)
            return
        top = self.slots()
        data = nul_ended(["mode", "755", *self.context])
        self._enter("fsmount", top, "tmpfs", "tmpfs", data, GUARDED)
        self._enter("attach", top, self.root, target, CREATE_FOLDER)
        for group in groups:
            name = os.path.basename(group.point)
            self._enter("mkdir", top, name, 0o755)
            self._group_tree(group.point, top, name, attributes, 0)
            if "," in name:
                for each in name.split(","):
                    self._enter("symlink", top, each, name)
        if attributes & RDONLY:
            self._enter("seal", top, "", RDONLY, 0)

    def _group_tree(self, point: str, dir_: int, path: str, attributes: int, create: int) -> None:
        tree = self.slots()
        made = self.groups.made[point]
        self.parts.prepare.append(op("tree", tree, made, NONE, attributes, 0, 0))
        self._in_turn(tree, CREATE_FOLDER, deep=False)
        self._enter("set-attributes", tree, 0, 0, MS_PRIVATE, 0)
        self._enter("attach", tree, dir_, path, create)

    # Devices.

    def _has_own_dev(self) -> bool:
        """Whether /dev is ours to fill, not a folder that was bound there."""
        for mount in self.mounts:
            if clean(mount["destination"]) == "/dev":
                options = mount.get("options", [])
                if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
                    return False
        return True

    def _devices(self) -> None:
        own = self._has_own_dev()
        if own:
            for name in NODES:
                number = os.stat(f"/dev/{name}").st_rdev
                self._node(f"dev/{name}", S_IFCHR | 0o666, number, (0, 0))
        for at, device in enumerate(self.bundle.linux.get("devices", [])):
            self._device(device, f"linux.devices[{at}]")
        if own:
            for name, target in LINKS:
                self._enter("device-link", self.root, f"dev/{name}", target)
            if self.bundle.process.get("terminal"):
                self._enter("device-node", self.root, "dev/console", S_IFREG | 0o600, 0, 0, 0)

    def _device(self, device: dict[str, Any], where: str) -> None:
        kind = device["type"]
        if kind not in DEVICE_TYPES:
            raise SpecError(f"{where}.type {kind!r} is unknown", hint="c, b, u or p")
        path = clean(device["path"]).strip("/")
        if not path:
            raise SpecError(f"{where}.path {device['path']!r} is the root")
        if kind != "p" and not ("major" in device and "minor" in device):
            raise SpecError(f"{where} has no major and minor number")
        major, minor = device.get("major", 0), device.get("minor", 0)
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise SpecError(f"{where}: {major}:{minor} is no device number")
        number = os.makedev(major, minor) if kind != "p" else 0
        mode = DEVICE_TYPES[kind] | (device.get("fileMode", 0o666) & 0o7777)
        self._node(path, mode, number, (device.get("uid", 0), device.get("gid", 0)))

    def _node(self, path: str, mode: int, number: int, owner: tuple[int, int]) -> None:
        if not self.binds or stat.S_ISFIFO(mode):
            device = kernel_number(number)
            self._enter("device-node", self.root, path, mode, device, *owner)
            return
        tree = self.slots()
        self._enter("clone-tree", tree, NONE, "/" + path, 0, NOSUID | NOEXEC)
        self._enter("attach", tree, self.root, "/" + path, CREATE_FILE)

    # What is hidden, and what is read-only.

    def _masks(self) -> None:
        masked = self.bundle.linux.get("maskedPaths", [])
        if masked:
            null, empty = self.slots(), self.slots()
            self._enter("clone-tree", null, NONE, "/dev/null", 0, 0)
            options = nul_ended(["nr_inodes", "2", *self.context])
            self._enter("fsmount", empty, "tmpfs", "tmpfs", options, RDONLY | GUARDED)
            for path in masked:
                self._enter("mask", self.root, path, null, empty)
        for path in self.bundle.linux.get("readonlyPaths", []):
            self._enter("read-only", self.root, path)
