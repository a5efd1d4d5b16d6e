"""The mount tree of a machine: a read-only lower layer, a writable layer in memory or in a folder
of the host, the kernel's file systems, masks, and what the user mounts.

Where the host's root is the lower layer, its files keep their owners, which do not exist in the
machine: the machine reads what any other user of the host could read, and no more. A given
rootfs is the machine's own, so its ids are mapped.
"""

from __future__ import annotations

import os
import stat

from ..errors import SpecError
from ..host import mount_points, submounts
from ..plan import NONE, nul_ended, op
from ..showing import is_image, shown
from .kernel import KernelTree
from .tree import CREATE_FILE, CREATE_FOLDER, KEEP, NO_LINKS, NODEV, NOEXEC, NOSUID, RDONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..resources.limits import Groups
    from ..spec import Mount

__all__ = ["RootBuilder"]

O_DIRECTORY = os.O_DIRECTORY


FRESH = (("tmp", 0o1777), ("run", 0o755), ("root", 0o700), ("home", 0o755), ("var/tmp", 0o1777))
"""Folders of the host's root that a machine gets empty, and its own."""

OWNED = ("etc", "opt", "srv", "usr", "usr/local", "var")
"""Folders of the host's root that the machine's root may add to, in its writable layer."""

NOT_OWNED = ("dev", "proc", "sys", "tmp", "run", "root", "home")


class RootBuilder(KernelTree):
    """Adds the layers of the root, and what the user mounts."""

    def build(self, groups: Groups) -> None:
        """Add everything from the scratch file system to the pivot."""
        self._scratch()
        if self.spec.layer:
            self._kept_layer(self.spec.layer)
        own = self.spec.own_root
        if not own and (not self.host.capable or _has_separate_folders()):
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
            for path in ("", *self.patches):
                self._enter("seal", self.root, path, RDONLY, 0)
        self._enter("pivot", self.root)

    # The layers.

    def _scratch(self) -> None:
        """Everything the machine writes outside of its mounts lives on this tmpfs, and is
        counted against its memory; it goes away with the last process.
        """
        self._enter("fsmount", self.scratch, "tmpfs", "viscum", nul_ended(["mode", "0755"]), NODEV)
        if not self.host.uses_detached:
            self._enter("attach", self.scratch, NONE, self._parking(), 0)

    def _kept_layer(self, path: str) -> None:
        """The writable layer is a folder of the host, with `upper` and `work` in it: it outlives
        the machine's processes. What a machine left there before is kept, and no link in it is
        followed.
        """
        self.keep = KEEP
        if not self.host.capable:
            self.layer = self.slots()
            self._enter("lookup", self.layer, NONE, path, os.O_PATH | O_DIRECTORY)
            return
        source, self.layer = self.slots(), self.slots()
        self.parts.load.append(op("open", source, path, 0))
        mapped = self.host.full_identity
        self._bring(self.layer, source, path, 0, recursive=False, mapped=mapped)
        self._enter("attach", self.layer, NONE, self._parking(), 0)

    def _parking(self) -> str:
        """Return where, in its own mount namespace, a machine attaches what has to be attached
        somewhere. On the root it hides nothing that is still to be cloned by its path, but costs
        an unmount more.
        """
        return "/tmp" if self.host.capable else "/"  # noqa: S108 - nothing is written there

    def _overlay(self) -> None:
        for name in ("upper", "work"):
            self._enter("mkdir", self.layer, name, self.keep | 0o755)
        lower = self._lower_layers() if self.spec.layers else (self._lower(),)
        hides = self.host.uses_detached or bool(self.spec.layer)
        hides = hides and self.ids.namespace and not self.spec.read_only
        if not self.spec.own_root:
            self._own_folders()
            if hides:
                self._hidden_folders()
        own_etc = self._own_etc()
        if self.spec.own_root and not self.host.capable:
            self._own_folders(*(["etc"] if own_etc else []))
        if own_etc:
            self._etc_files("upper/etc")
        self._make_overlay(self.root, lower, "upper", "work")
        self._enter("attach", self.root, NONE, "/", 0)
        for path in self.spec.folders:
            self._enter("mkdir", self.root, path, KEEP | 0o755)
        if not self.spec.own_root and not hides:
            self._fresh_folders()

    def _lower(self) -> int:
        """Bring the one folder that the root is made of."""
        source, lower = self.slots(), self.slots()
        path = self.spec.rootfs or "/"
        self._open_folder(source, path, "rootfs")
        self._bring(lower, source, path, RDONLY, recursive=False, mapped=bool(self.spec.rootfs))
        self._enter("attach", lower, NONE, self._parking(), 0)
        return lower

    def _lower_layers(self) -> tuple[int, ...]:
        """Bring the layers of an image, which lie in one folder: that is cloned and mapped once.
        The highest is held, against whoever removes what no image needs.
        """
        if is_image(self.spec.layers[0]):
            return (self._lower_image(self.spec.layers[0]),)
        parents = {os.path.dirname(path) for path in self.spec.layers}
        if len(parents) > 1:
            raise SpecError("the layers of a root lie in different folders")
        parent, source, tree = parents.pop(), self.slots(), self.slots()
        self._open_folder(source, parent, "folder of layers")
        for path in self.spec.layers:
            self._open_folder(self.slots(), path, "layer")
        self.parts.prepare.append(op("hold", self.slots(), self.spec.layers[0]))
        self._bring(tree, source, parent, RDONLY, recursive=False, mapped=True)
        self._enter("attach", tree, NONE, self._parking(), 0)
        slots = tuple(self.slots() for _ in self.spec.layers)
        for slot, path in zip(slots, self.spec.layers, strict=True):
            name = os.path.basename(path)
            self._enter("lookup", slot, tree, name, os.O_PATH | O_DIRECTORY | os.O_NOFOLLOW)
        return slots

    def _lower_image(self, path: str) -> int:
        """Bring the image file that the root is made of: mounted once, cloned for each machine."""
        if not (self.host.capable and self.host.full_identity and self.host.uses_detached):
            raise SpecError(
                f"image file {path!r} cannot be mounted here: that takes root and Linux 6.15",
                hint="--storage overlay",
            )
        file, mounted, tree = self.slots(), self.slots(), self.slots()
        self._open(file, path, os.stat(path))
        self.parts.load.append(op("erofs", mounted, file))
        self.parts.prepare.append(op("hold", self.slots(), path))
        self._bring(tree, mounted, path, RDONLY, recursive=False, mapped=True)
        self._enter("attach", tree, NONE, self._parking(), 0)
        return tree

    def _mode_below(self, name: str) -> int | None:
        """Return the mode of a folder of the root that anybody may look into, else None."""
        with shown(self.spec.layers or (self.spec.rootfs or "/",)) as roots:
            modes = (_shown_mode(os.path.join(root, name)) for root in roots)
            return next((mode for mode in modes if mode is not None), None)

    def _make_overlay(self, slot: int, lower: tuple[int, ...], upper: str, work: str) -> None:
        options = nul_ended(["userxattr", ""] if self.ids.namespace else [])
        layers = lower, self.layer, upper, work
        self._enter("overlay", slot, *layers, options, NODEV)

    def _own_folders(self, *have: str) -> None:
        """A folder in the upper layer takes over the owner of the one below: the machine's root
        can add to it. Never one that others may not read: that would show what is in it.
        """
        given = self.spec.own_root
        names = dict.fromkeys(() if given else OWNED)
        for mount in self.spec.mounts:
            parts = mount.where.strip("/").split("/")[:-1]
            names.update(dict.fromkeys("/".join(parts[:n]) for n in range(1, len(parts) + 1)))
        made = {"", *have}
        for name in sorted(names):
            if not given and name.partition("/")[0] in NOT_OWNED:
                continue
            mode = self._mode_below(name)
            if mode is not None and name.rpartition("/")[0] in made and name not in made:
                self._enter("mkdir", self.layer, f"upper/{name}", self.keep | mode)
                made.add(name)

    def _hidden_folders(self) -> None:
        """The fresh folders as opaque ones of the upper layer, a fifth of the cost of mounts."""
        for name, mode in FRESH:
            if _shown_mode("/" + name) is not None or name == "root":
                self._enter("opaque", self.layer, f"upper/{name}", self.keep | mode)

    def _fresh_folders(self) -> None:
        for name, mode in FRESH:
            if _shown_mode("/" + name) is None and name != "root":
                continue
            own = "fresh-" + name.replace("/", "-")
            self._enter("mkdir", self.layer, own, self.keep | mode)
            self._own_tree(self.layer, own, name, 0)

    def _own_etc(self) -> bool:
        """Have `upper/etc` in the writable layer; False where the root's /etc is elsewhere."""
        if not self.spec.own_root:
            return _shown_mode("/etc") is not None
        with shown(self.spec.layers or (self.spec.rootfs or "/",)) as roots:
            paths = (os.path.join(root, "etc") for root in roots)
            etc = next((path for path in paths if os.path.lexists(path)), None)
            if etc and (os.path.islink(etc) or not os.path.isdir(etc)):
                return False
        self._enter("mkdir", self.layer, "upper/etc", self.keep | 0o755)
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
            self._enter("file", self.layer, f"{folder}/{file}", self.keep | 0o644, text.encode())

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
            self._enter("mkdir", self.layer, "fresh-own-home", self.keep | 0o700)
            self._own_tree(self.layer, "fresh-own-home", home, 0)

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
            self._enter("mkdir", self.layer, upper, self.keep | (_shown_mode(path) or 0o755))
            self._enter("mkdir", self.layer, work, self.keep | 0o755)
            if name == "etc":
                self._etc_files(upper)
            self._enter("lookup", lower, NONE, path, os.O_PATH | O_DIRECTORY)
            self._make_overlay(layer, (lower,), upper, work)
        self._enter("attach", layer, self.root, name, NO_LINKS)
        self.patches.append(name)

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


def _shown_mode(path: str) -> int | None:
    """Return the mode of a folder that any user of the host may look into, else None."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISDIR(mode) and mode & 0o5 == 0o5 else None


def _has_separate_folders() -> bool:
    """Whether parts of the host's root, such as /usr or /var, are file systems of their own."""
    points = set(mount_points())
    return any("/" + name in points for name in os.listdir("/") if _is_patch("/" + name))


def _is_patch(path: str) -> bool:
    if path[1:] in ("proc", "sys", "dev") or path[1:] in (name for name, _ in FRESH):
        return False
    return os.path.islink(path) or _shown_mode(path) is not None
