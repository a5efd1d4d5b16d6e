"""The mount tree of a machine: a read-only lower layer, a writable layer in memory, the kernel's
file systems, masks, and what the user mounts.

Where the host's root is the lower layer, its files keep their owners, which do not exist in the
machine: the machine reads what any other user of the host could read, and no more. A given
rootfs is the machine's own, so its ids are mapped.
"""

from __future__ import annotations

import os
import stat

from ..errors import HostError, SpecError
from ..guard.paths import READ_ONLY
from ..host import mount_points, submounts
from ..plan import NETWORK_SLOT, NONE, nul_ended, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..host import Host
    from ..resources.limits import Groups
    from ..spec import Device, Mount, Spec
    from .process import Ids, Sections, Slots

__all__ = ["RootBuilder"]

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
O_DIRECTORY = os.O_DIRECTORY

CREATE_FOLDER = 1
CREATE_FILE = 2
NO_LINKS = 4

NODES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
FRESH = (("tmp", 0o1777), ("run", 0o755), ("root", 0o700), ("home", 0o755), ("var/tmp", 0o1777))
"""Folders of the host's root that a machine gets empty, and its own."""

OWNED = ("etc", "opt", "srv", "usr", "usr/local", "var")
"""Folders of the host's root that the machine's root may add to, in its writable layer."""

TTY_GID = 5
PARKING = "/tmp"  # noqa: S108 - a mount point, nothing is written there
"""Where, in its own mount namespace, a machine attaches what has to be attached somewhere."""


class RootBuilder:
    """Adds the operations of a machine's mount tree to `parts`."""

    def __init__(self, spec: Spec, host: Host, ids: Ids, slots: Slots, parts: Sections) -> None:
        self.spec = spec
        self.host = host
        self.ids = ids
        self.slots = slots
        self.parts = parts
        self.scratch = slots()
        self.root = slots()
        self.idmap = NONE
        below_dev = any(mount.where.startswith("/dev/") for mount in spec.mounts)
        self.kept_dev = slots() if host.prepares_devices and not below_dev else NONE

    def build(self, groups: Groups) -> None:
        """Add everything from the scratch file system to the pivot."""
        self._scratch()
        if self.spec.rootfs is None and (not self.host.capable or _has_separate_folders()):
            self._patchwork()
        else:
            self._overlay()
        self._kernel_file_systems(groups)
        for mount in sorted(self.spec.mounts, key=lambda mount: mount.where.count("/")):
            self._mount(mount)
        for device in self.spec.devices:
            self._device(device)
        for name, value in self.spec.sysctls:
            self._sysctl(name, value)
        if not self.spec.unmask:
            self._mask()
        if self.kept_dev == NONE:
            self._enter("seal", self.root, "dev", RDONLY, 0)
        if self.spec.read_only:
            self._enter("seal", self.root, "", RDONLY, 0)
        self._enter("pivot", self.root)

    def _enter(self, name: str, *values: int | str | bytes | tuple[int, ...]) -> None:
        self.parts.enter.append(op(name, *values))

    # The layers.

    def _scratch(self) -> None:
        """Everything the machine writes outside of its mounts lives on this tmpfs, and is
        counted against its memory; it goes away with the last process.
        """
        self._enter("fsmount", self.scratch, "tmpfs", "viscum", nul_ended(["mode", "0755"]), NODEV)
        if not self.host.uses_detached:
            self._enter("attach", self.scratch, NONE, PARKING, 0)

    def _overlay(self) -> None:
        source, lower = self.slots(), self.slots()
        path = self.spec.rootfs or "/"
        self._open_folder(source, path, "rootfs")
        for name in ("upper", "work"):
            self._enter("mkdir", self.scratch, name, 0o755)
        self._bring(lower, source, path, RDONLY, recursive=False, mapped=bool(self.spec.rootfs))
        self._enter("attach", lower, NONE, PARKING, 0)
        hides = self.host.uses_detached and self.ids.namespace and not self.spec.read_only
        if self.spec.rootfs is None:
            self._own_folders()
            if hides:
                self._hidden_folders()
        if self._own_etc():
            self._etc_files("upper/etc")
        self._make_overlay(self.root, lower, "upper", "work")
        self._enter("attach", self.root, NONE, "/", 0)
        if self.spec.rootfs is None and not hides:
            self._fresh_folders()

    def _make_overlay(
        self, slot: int, lower: int, upper: str, work: str, attributes: int = 0
    ) -> None:
        options = nul_ended(["userxattr", ""] if self.ids.namespace else [])
        layers = (lower,), self.scratch, upper, work
        self._enter("overlay", slot, *layers, options, NODEV | attributes)

    def _own_folders(self) -> None:
        """A folder in the upper layer takes over the owner of the one below: the machine's root
        can add to it. Never one that others may not read: that would show what is in it.
        """
        for name in OWNED:
            mode = _shown_mode("/" + name)
            if mode is not None:
                self._enter("mkdir", self.scratch, f"upper/{name}", mode)

    def _hidden_folders(self) -> None:
        """The fresh folders as opaque ones of the upper layer, a fifth of the cost of mounts."""
        for name, mode in FRESH:
            if _shown_mode("/" + name) is not None or name == "root":
                self._enter("opaque", self.scratch, f"upper/{name}", mode)

    def _fresh_folders(self) -> None:
        for name, mode in FRESH:
            if _shown_mode("/" + name) is None and name != "root":
                continue
            own = "fresh-" + name.replace("/", "-")
            self._enter("mkdir", self.scratch, own, mode)
            self._own_tree(own, self.root, name, 0)

    def _own_etc(self) -> bool:
        """Have `upper/etc` in the writable layer; False where the root's /etc is elsewhere."""
        if self.spec.rootfs is None:
            return _shown_mode("/etc") is not None
        etc = os.path.join(self.spec.rootfs, "etc")
        if os.path.lexists(etc) and (os.path.islink(etc) or not os.path.isdir(etc)):
            return False
        self._enter("mkdir", self.scratch, "upper/etc", 0o755)
        return True

    def _etc_files(self, folder: str) -> None:
        """hostname, hosts and resolv.conf, laid into the writable layer at `folder`."""
        spec, files = self.spec, {}
        name = spec.hostname or "viscum"
        if spec.uts == "private":
            files["hostname"] = name + "\n"
        if spec.hosts or spec.uts == "private":
            own = f" {name}" if spec.uts == "private" else ""
            lines = [f"127.0.0.1\tlocalhost{own}", "::1\tlocalhost ip6-localhost ip6-loopback"]
            lines += [f"{address}\t{host}" for host, address in spec.hosts]
            files["hosts"] = "\n".join(lines) + "\n"
        if spec.dns:
            files["resolv.conf"] = "".join(f"nameserver {server}\n" for server in spec.dns)
        for file, text in files.items():
            self._enter("file", self.scratch, f"{folder}/{file}", 0o644, text.encode())

    def _patchwork(self) -> None:
        """The host's root for a user who may not clone it whole, because mounts below it are
        locked together: each folder at the top gets an overlay, or stands read-only.
        """
        options = nul_ended(["mode", "0755"])
        self._enter("fsmount", self.root, "tmpfs", "viscum", options, NODEV)
        self._enter("attach", self.root, NONE, "/", 0)
        folders = [name for name in sorted(os.listdir("/")) if _is_patch("/" + name)]
        mounted = submounts("/" + name for name in folders)
        for name in folders:
            self._patch(name, whole="/" + name in mounted)
        for name in ("proc", "sys", "dev"):
            self._enter("mkdir", self.root, name, 0o755)
        self._fresh_folders()
        home = self.host.home.strip("/")
        if home.partition("/")[0] in folders and "/" in home:
            self._enter("mkdir", self.scratch, "fresh-own-home", 0o700)
            self._own_tree("fresh-own-home", self.root, home, 0)

    def _patch(self, name: str, *, whole: bool) -> None:
        path, layer = "/" + name, self.slots()
        if os.path.islink(path):
            self._enter("symlink", self.root, name, os.readlink(path))
            return
        self._enter("mkdir", self.root, name, 0o755)
        if whole:
            self._enter("clone-tree", layer, NONE, path, 1, RDONLY | NOSUID | NODEV)
        else:
            lower = self.slots()
            upper, work = f"upper-{name}", f"work-{name}"
            self._enter("mkdir", self.scratch, upper, _shown_mode(path) or 0o755)
            self._enter("mkdir", self.scratch, work, 0o755)
            if name == "etc":
                self._etc_files(upper)
            self._enter("lookup", lower, NONE, path, os.O_PATH | O_DIRECTORY)
            self._make_overlay(layer, lower, upper, work, RDONLY if self.spec.read_only else 0)
        self._enter("attach", layer, self.root, name, NO_LINKS)

    # What comes from the host.

    def _open_folder(self, slot: int, path: str, what: str) -> None:
        try:
            is_ = os.stat(path)
        except OSError as error:
            raise SpecError(f"{what} {path!r}: {(error.strerror or '').lower()}") from None
        if not stat.S_ISDIR(is_.st_mode):
            raise SpecError(f"{what} {path!r} is not a folder")
        self._open(slot, path, is_)

    def _open(self, slot: int, path: str, is_: os.stat_result) -> None:
        self.parts.load.append(op("open", slot, path, 0))
        self.parts.load.append(op("expect-file", slot, is_.st_dev, is_.st_ino))

    def _bring(
        self, slot: int, source: int, path: str, attributes: int, *, recursive: bool, mapped: bool
    ) -> None:
        """Clone what slot `source` was opened on into `slot`. A user without privileges clones it
        in the machine's own mount namespace, by its path, where it is his all the same.
        """
        if not self.host.capable:
            self._enter("clone-tree", slot, NONE, path, int(recursive), attributes)
            return
        idmap = self._idmap() if mapped and self.ids.namespace else NONE
        self.parts.prepare.append(op("tree", slot, source, idmap, attributes, 0, int(recursive)))

    def _idmap(self) -> int:
        if self.idmap == NONE:
            self.idmap = self.slots()
            self.parts.load.append(op("userns", self.idmap, self.ids.uid_map, self.ids.gid_map))
        return self.idmap

    def _mount(self, mount: Mount) -> None:
        if mount.kind == "tmpfs":
            self._tmpfs(mount)
            return
        try:
            is_ = os.stat(mount.source)
        except OSError as error:
            raise SpecError(
                f"mount source {mount.source!r}: {(error.strerror or '').lower()}",
                hint="make it first",
            ) from None
        source, tree = self.slots(), self.slots()
        attributes = NODEV | NOSUID | (RDONLY if mount.read_only else 0)
        attributes |= 0 if mount.exec else NOEXEC
        self._open(source, mount.source, is_)
        folder = stat.S_ISDIR(is_.st_mode)
        self._bring(
            tree,
            source,
            mount.source,
            attributes,
            recursive=not self.host.capable or (mount.recursive and self._has_submounts(mount)),
            mapped=True,
        )
        self._enter(
            "attach", tree, self.root, mount.where, CREATE_FOLDER if folder else CREATE_FILE
        )

    def _has_submounts(self, mount: Mount) -> bool:
        return bool(submounts([os.path.realpath(mount.source).rstrip("/")]))

    def _tmpfs(self, mount: Mount) -> None:
        slot = self.slots()
        options = ["mode", f"{mount.mode:04o}"]
        if mount.size is not None:
            options += ["size", str(mount.size)]
        attributes = NODEV | NOSUID | (RDONLY if mount.read_only else 0)
        attributes |= 0 if mount.exec else NOEXEC
        self._enter("fsmount", slot, "tmpfs", "tmpfs", nul_ended(options), attributes)
        self._enter("attach", slot, self.root, mount.where, CREATE_FOLDER)

    def _device(self, device: Device) -> None:
        try:
            is_ = os.stat(device.source)
        except OSError as error:
            raise SpecError(f"device {device.source!r}: {(error.strerror or '').lower()}") from None
        if not (stat.S_ISCHR(is_.st_mode) or stat.S_ISBLK(is_.st_mode)):
            raise SpecError(f"device {device.source!r} is not a device node")
        if not {"r", "w"} <= set(device.access):
            raise HostError(
                f"device {device.source!r} with access {device.access!r}: nothing here can hold a "
                "machine to reading or to writing alone",
                hint="give it with rw, or not at all",
            )
        target = (device.target or device.source).removeprefix("/dev/")
        if self.kept_dev == NONE or target.startswith("/"):
            self._node(device.source, device.target or device.source, NOSUID | NOEXEC)
            return
        if ".." in target.split("/"):
            raise SpecError(f"device target {device.target!r} is refused", hint="no ..")
        owner = self.ids.base_uid, self.ids.base_gid
        mode = stat.S_IFMT(is_.st_mode) | 0o660
        self.parts.load.append(
            op("device", self.kept_dev, target, mode, _kernel_number(is_.st_rdev), *owner)
        )

    # The kernel's own.

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

    def _kernel_file_systems(self, groups: Groups) -> None:
        guarded = NOSUID | NODEV | NOEXEC
        if self.spec.pid == "private":
            self._file_system("proc", "proc", (), guarded)
        else:
            self._host_tree("/proc", "proc", 0)
        if self.spec.network == "host" and self.ids.namespace:
            self._host_tree("/sys", "sys", RDONLY)
        else:
            if self.spec.network == "none":
                self._enter("network-join", NETWORK_SLOT)  # sysfs shows the links of its mounter
            self._file_system("sysfs", "sys", (), guarded | RDONLY)
            self._control_groups(groups, guarded | RDONLY)
        self._devices()

    def _host_tree(self, path: str, target: str, attributes: int) -> None:
        slot = self.slots()
        attributes |= NOSUID | NODEV | NOEXEC
        self._enter("clone-tree", slot, NONE, path, 1, attributes)
        self._enter("attach", slot, self.root, target, CREATE_FOLDER | NO_LINKS)

    def _control_groups(self, groups: Groups, attributes: int) -> None:
        """What the machine's programs read to learn their limits, of its own groups only."""
        v1 = [(controller, slot) for controller, slot in groups.slots if controller]
        if v1 and self.host.capable:
            self._enter("mkdir", self.scratch, "cgroup", 0o755)
            for controller, _ in v1:
                self._enter("mkdir", self.scratch, f"cgroup/{controller}", 0o755)
            self._own_tree("cgroup", self.root, "sys/fs/cgroup", RDONLY)
            for controller, group in v1:
                tree = self.slots()
                self.parts.prepare.append(op("tree", tree, group, NONE, attributes, 0, 0))
                self._enter("attach", tree, self.root, f"sys/fs/cgroup/{controller}", 0)
        elif groups.into != NONE and not self.host.cgroups.v1:
            self._file_system("cgroup2", "sys/fs/cgroup", (), attributes)

    def _own_tree(self, name: str, target_dir: int, target: str, attributes: int) -> None:
        """Show a folder of the scratch file system at `target`."""
        tree = self.slots()
        self._enter("clone-tree", tree, self.scratch, name, 0, attributes)
        self._enter("attach", tree, target_dir, target, CREATE_FOLDER | NO_LINKS)

    def _devices(self) -> None:
        if self.kept_dev != NONE:
            kept, tree = self.kept_dev, self.slots()
            owner = self.ids.base_uid, self.ids.base_gid
            self.parts.load.append(op("devices", kept, *owner))
            attributes = RDONLY | NOSUID | NOEXEC
            self.parts.prepare.append(op("tree", tree, kept, NONE, attributes, 0, 0))
            self._enter("attach", tree, self.root, "dev", CREATE_FOLDER | NO_LINKS)
        else:
            self._device_nodes()
        gid = ["gid", str(TTY_GID)] if self.ids.count > TTY_GID else []
        options = ["newinstance", "", "ptmxmode", "0666", "mode", "0620", *gid]
        self._file_system("devpts", "dev/pts", options, NOSUID | NOEXEC)
        if self.spec.ipc == "private":
            self._file_system("mqueue", "dev/mqueue", (), NOSUID | NODEV | NOEXEC)
        self._enter("mkdir", self.scratch, "shm", 0o1777)
        self._own_tree("shm", self.root, "dev/shm", NOSUID | NODEV)

    def _device_nodes(self) -> None:
        """The nodes of the host's /dev one by one, for users and kernels that can do no better."""
        dev = self._file_system("tmpfs", "dev", ["mode", "0755", "size", "64k"], NOSUID | NOEXEC)
        for name in NODES:
            tree = self.slots()
            self._enter("clone-tree", tree, NONE, f"/dev/{name}", 0, NOSUID | NOEXEC)
            self._enter("attach", tree, dev, name, CREATE_FILE)
        for name, target in LINKS:
            self._enter("symlink", dev, name, target)
        for name in ("pts", "mqueue", "shm"):
            self._enter("mkdir", dev, name, 0o755)
        self._enter("file", dev, "console", 0o600, b"")

    # The guard of the tree.

    def _mask(self) -> None:
        """A machine whose root is not the host's cannot open what only root may; it needs masks
        for the rest. In a sysfs of its own the mount points of other file systems are empty.
        """
        foreign = self.ids.namespace
        own_sysfs = not (self.spec.network == "host" and foreign)
        empty = ""
        for known in self.host.kernel_paths:
            path = known.path
            if path == "/proc/sys" or (known.path in READ_ONLY and (known.writable or not foreign)):
                attributes = RDONLY | NOSUID | NODEV | NOEXEC
                self._cover(path, path, attributes)
            elif (
                path in READ_ONLY
                or (foreign and not known.readable)
                or (path.startswith(("/sys/fs/", "/sys/kernel/")) and own_sysfs)
            ):
                continue
            elif not known.folder:
                self._cover(path, "dev/null", 0)
            elif empty:
                self._cover(path, empty, 0)
            else:
                empty = path
                slot = self.slots()
                options = nul_ended(["nr_inodes", "2"])
                self._enter("fsmount", slot, "tmpfs", "tmpfs", options, RDONLY)
                self._enter("attach", slot, self.root, path, NO_LINKS)

    def _cover(self, path: str, source: str, attributes: int) -> None:
        """Lay a clone of `source`, a path in the machine, over `path`."""
        tree = self.slots()
        self._enter("clone-tree", tree, self.root, source, 0, attributes)
        self._enter("attach", tree, self.root, path, NO_LINKS)

    def _sysctl(self, name: str, value: str) -> None:
        allowed = {
            "net.": self.spec.network != "host",
            "kernel.msg": self.spec.ipc == "private",
            "kernel.sem": self.spec.ipc == "private",
            "kernel.shm": self.spec.ipc == "private",
            "fs.mqueue.": self.spec.ipc == "private",
        }
        if not any(name.startswith(prefix) and own for prefix, own in allowed.items()):
            raise SpecError(
                f"sysctl {name!r} is not of a namespace of this machine",
                hint="net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*",
            )
        path = name.replace(".", "/")
        if ".." in path.split("/") or "\0" in path:
            raise SpecError(f"sysctl {name!r} is malformed")
        self._enter("write", self.root, f"proc/sys/{path}", value)


def _shown_mode(path: str) -> int | None:
    """Return the mode of a folder that any user of the host may look into, else None."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISDIR(mode) and mode & 0o5 == 0o5 else None


def _kernel_number(device: int) -> int:
    """Return a device number as mknod(2) takes it from 32-bit-clean callers."""
    major, minor = os.major(device), os.minor(device)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _has_separate_folders() -> bool:
    """Whether parts of the host's root, such as /usr or /var, are file systems of their own."""
    points = set(mount_points())
    return any("/" + name in points for name in os.listdir("/") if _is_patch("/" + name))


def _is_patch(path: str) -> bool:
    if path[1:] in ("proc", "sys", "dev") or path[1:] in (name for name, _ in FRESH):
        return False
    return os.path.islink(path) or _shown_mode(path) is not None
