"""The kernel's own file systems in a machine, its devices, and what it does not see of them."""

from __future__ import annotations

import os
import stat

from ..errors import HostError, SpecError
from ..guard.paths import READ_ONLY
from ..plan import NETWORK_SLOT, NONE, nul_ended, op
from .parts import LINKS, NODES, kernel_number
from .tree import CREATE_FILE, CREATE_FOLDER, NO_LINKS, NODEV, NOEXEC, NOSUID, RDONLY, MountTree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..resources.limits import Groups
    from ..spec import Device

__all__ = ["KernelTree"]

TTY_GID = 5


class KernelTree(MountTree):
    """Adds proc, sysfs, cgroups, /dev and the masks over them."""

    def _kernel_file_systems(self, groups: Groups) -> None:
        guarded = NOSUID | NODEV | NOEXEC
        if self.spec.pid != "host":
            self._file_system("proc", "proc", (), guarded)
        else:
            self._host_tree("/proc", "proc", 0)
        if self.spec.network == "host" and self.ids.namespace:
            self._host_tree("/sys", "sys", RDONLY)
        else:
            if self.spec.network == "none" and not self.spec.shares:
                self._enter("network-join", NETWORK_SLOT)  # sysfs shows the links of its mounter
            self._file_system("sysfs", "sys", (), guarded | RDONLY)
            self._control_groups(groups, guarded | RDONLY)
        self._devices()

    def _control_groups(self, groups: Groups, attributes: int) -> None:
        """What the machine's programs read to learn their limits, of its own groups only."""
        v1 = [(controller, slot) for controller, slot in groups.slots if controller]
        if v1 and self.host.capable:
            self._enter("mkdir", self.scratch, "cgroup", 0o755)
            for controller, _ in v1:
                self._enter("mkdir", self.scratch, f"cgroup/{controller}", 0o755)
            self._own_tree(self.scratch, "cgroup", "sys/fs/cgroup", RDONLY)
            for controller, group in v1:
                tree = self.slots()
                self.parts.prepare.append(op("tree", tree, group, NONE, attributes, 0, 0))
                self._enter("attach", tree, self.root, f"sys/fs/cgroup/{controller}", 0)
        elif groups.into != NONE and not self.host.cgroups.v1:
            self._file_system("cgroup2", "sys/fs/cgroup", (), attributes)

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
        if self.spec.ipc != "host":
            self._file_system("mqueue", "dev/mqueue", (), NOSUID | NODEV | NOEXEC)
        self._enter("mkdir", self.scratch, "shm", 0o1777)
        self._own_tree(self.scratch, "shm", "dev/shm", NOSUID | NODEV)

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
            op("device", self.kept_dev, target, mode, kernel_number(is_.st_rdev), *owner)
        )

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

    def _sysctl(self, name: str, value: str) -> None:
        allowed = {
            "net.": self.spec.network != "host",
            "kernel.msg": self.spec.ipc != "host",
            "kernel.sem": self.spec.ipc != "host",
            "kernel.shm": self.spec.ipc != "host",
            "fs.mqueue.": self.spec.ipc != "host",
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
