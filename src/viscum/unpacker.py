"""Work on unpacked layers: in this process, or as the machine's ids of an ordinary user.

Layers hold files of many owners. Root makes them as they are; a user with subordinate ids does
it in a process of a user namespace where these are ids 0 to 65535, as they will be in machines;
a user without has them all as his own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys

from . import folders, native
from .errors import ImageError
from .image import trees
from .image.incoming import Stored
from .image.room import OverQuota, Part, Room
from .image.unpacking import MAX_BYTES, MAX_ENTRIES, Hashed, unpack_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .host import Host
    from .image.incoming import Blob
    from .plan import Plan

__all__ = ["LocalWorker", "MappedWorker", "make_worker"]

OWNERS, DEVICES, TRUSTED = 1, 2, 4
RANGE = 65536
MAX_ANSWER = 8 << 20
CLONE_NEWUSER = 0x10000000
SIGKILL = 9

_REASONS = {
    2: "a header of its tar archive is damaged",
    3: "a number in its tar archive is malformed or out of range",
    4: "a name in its tar archive is empty, too long or leads out with '..'",
    5: "a pax header of its tar archive is malformed",
    6: "the map of a sparse file is malformed",
    7: "its tar archive has an entry of an unknown kind",
    8: f"it unpacks to more than {MAX_BYTES} bytes",
    9: f"it has more than {MAX_ENTRIES} entries",
    10: "its tar archive ends within an entry",
    11: "a file is where a folder is needed",
    12: "the host is out of memory",
}
_HINTS = {
    8: "set VISCUM_LAYER_BYTES higher, if this is meant",
    errno.ENOSPC: "the disk is full: viscum gc",
    errno.EDQUOT: "the quota is used up: viscum gc",
    errno.EMFILE: "raise ulimit -n",
}


def _explain(failure: BaseException) -> ImageError:
    reason, number, entry = failure.args
    where = f" at {entry.decode('utf-8', 'replace')[:300]!r}" if entry else ""
    if reason == 1:
        text = (os.strerror(number) or "").lower()
        hint = _HINTS.get(number, "")
        if number == errno.EINVAL and not _is_host_root():
            hint = "an owner that this user's subordinate ids do not cover?"
        return ImageError(f"it cannot be unpacked{where}: {text}", hint=hint)
    return ImageError(f"{_REASONS.get(reason, 'damaged')}{where}", hint=_HINTS.get(reason, ""))


def _is_host_root() -> bool:
    with open("/proc/self/uid_map", "rb") as file:
        return os.geteuid() == 0 and file.read().split() == [b"0", b"0", b"4294967295"]


def _flags() -> int:
    if _is_host_root():
        return OWNERS | DEVICES | TRUSTED
    return OWNERS if os.geteuid() == 0 else 0


class LocalWorker:
    """Works in this process."""

    def unpack(
        self,
        blob: Blob,
        diff_id: str,
        target: str,
        below: Sequence[str],
        wait: Callable[[], None],
        room: Part,
    ) -> int:
        """Unpack a layer; see `viscum.image.layers.Worker`."""
        try:
            with folders.opened(target) as folder, contextlib.closing(blob.open()) as file:
                untar = native.Untar(folder, _flags(), MAX_BYTES, MAX_ENTRIES)
                told = unpack_stream(file, untar, diff_id, room)
        except native.TarFailure as failure:
            raise _explain(failure) from None
        except OSError as error:
            raise ImageError(
                f"{error.filename or 'blob'}: {(error.strerror or '').lower()}"
            ) from None
        _, size, _, untold, missing = told
        room.settle(size)
        wait()
        lost = trees.complete(target, below, untold, missing, native.open_inside)
        if lost:
            name = lost[0].decode("utf-8", "replace")[:300]
            raise ImageError(f"a hard link leads to {name!r}, which no layer has")
        return size

    def flatten(self, target: str, layers: Sequence[str]) -> None:
        """Show layers as one; see `viscum.image.layers.Worker`."""
        trees.flatten(target, layers)

    def pack(self, upper: str, target: str, skip: Sequence[str]) -> None:
        """Write what a machine changed as a layer; see `viscum.image.packing`."""
        from .image.packing import pack_layer

        pack_layer(upper, target, skip)

    def write_image(self, folder: str, path: str, allow: Callable[[int], None]) -> str:
        """Write an EROFS image of a folder; see `viscum.image.layers.Worker`."""
        from .image.erofs import write_image

        if not _is_host_root():
            raise ImageError(
                "only root can keep images as EROFS: the kernel mounts them for nobody else",
                hint="--storage overlay",
            )
        with open(path, "xb", buffering=0) as file, folders.opened(folder) as root:
            with Hashed(file) as out:
                write_image(root, out.write, allow)
            file.flush()
            _try_mount(path)
        return out.digest

    def remove(self, path: str) -> None:
        """Remove a folder and what is in it, or a file."""
        folders.remove_tree(path)

    def sync(self, folder: str) -> None:
        """Have the file system of `folder` on disk."""
        with folders.opened(folder) as fd:
            native.sync_file_system(fd)


def _try_mount(path: str) -> None:
    """Have the kernel mount an image once; raises ImageError where it does not."""
    try:
        with open(path, "rb", buffering=0) as file:
            os.close(native.mount_erofs(file.fileno()))
    except OSError as error:
        raise ImageError(
            f"this kernel mounts no EROFS from a file: {(error.strerror or '').lower()}",
            hint="that takes Linux 6.15; --storage overlay",
        ) from None


_CHILD = "import sys; sys.path[:] = {path!r}; from viscum.unpacker import serve; serve()"


class MappedWorker(LocalWorker):
    """Works in a process of its own, where the subordinate ids of this user are 0 to 65535."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def _call(self, task: str, *values: object) -> object:
        from .host import own_id
        from .plan import NONE

        plan = _plan(self.host)
        _, _, output, complaint, _, _ = native.run(
            plan,
            native.load(plan),
            "viscum-" + own_id(),
            data=json.dumps([task, *values]).encode(),
            captures=True,
            limit=MAX_ANSWER,
            timeout_ns=-1,
            kill_slot=NONE,
            files=(),
            owner=(self.host.uid, self.host.gid),
        )
        try:
            answer = json.loads(output)
        except ValueError:
            text = complaint.decode("utf-8", "replace").strip()[-300:]
            raise ImageError(f"the process that unpacks ended early: {text}") from None
        if "error" in answer:
            raise ImageError(answer["error"], hint=answer["hint"])
        return answer["result"]

    def unpack(
        self,
        blob: Blob,
        diff_id: str,
        target: str,
        below: Sequence[str],
        wait: Callable[[], None],
        room: Part,
    ) -> int:
        """Unpack a layer once it is there, and those below it are ready."""
        path = blob.whole()
        wait()
        size = self._call("unpack", path, diff_id, target, list(below), room.room.rest())
        if not isinstance(size, int):
            return 0
        room.settle(abs(size))  # below 0: so much did not fit
        return size

    def flatten(self, target: str, layers: Sequence[str]) -> None:
        """Show layers as one."""
        self._call("flatten", target, list(layers))

    def pack(self, upper: str, target: str, skip: Sequence[str]) -> None:
        """Write what a machine changed as a layer."""
        self._call("pack", upper, target, list(skip))

    def remove(self, path: str) -> None:
        """Remove a folder and what is in it."""
        if os.path.lexists(path):
            self._call("remove", path)


def _plan(host: Host) -> Plan:
    from .plan import NONE, nul_ended, op
    from .plan import Plan as Made

    (uid, _), (gid, _) = host.subordinate  # type: ignore[misc]
    operations = [op("expect-host", host.machine, host.release), op("clone", CLONE_NEWUSER, NONE)]
    for helper, own, first in (("uid", host.uid, uid), ("gid", host.gid, gid)):
        words = ["{pid}", "0", str(own), "1", "1", str(first), str(RANGE - 1)]
        operations.append(op("helper", f"/usr/bin/new{helper}map", nul_ended(words)))
    operations += [op("await"), op("become", 0, 0), op("parent-death", SIGKILL)]
    operations += [op("umask", 0o22), op("stdio"), op("close")]
    words = [sys.executable, "-I", "-S", "-c", _CHILD.format(path=sys.path)]
    environment = nul_ended(["PATH=/usr/bin:/bin"])
    return Made([*operations, op("exec", words[0], nul_ended(words), environment, "/usr/bin:/bin")])


def serve() -> None:
    """Do the one task that standard input says; print the answer."""
    task, *values = json.load(sys.stdin)
    worker = LocalWorker()

    def _unpack(path: str, diff_id: str, target: str, below: list[str], left: int | None) -> int:
        room = Part(Room(left))
        try:
            return worker.unpack(Stored(path), diff_id, target, below, lambda: None, room)
        except OverQuota as error:
            return -error.wanted

    tasks: dict[str, Callable[..., object]] = {
        "unpack": _unpack,
        "flatten": worker.flatten,
        "remove": worker.remove,
        "pack": worker.pack,
    }
    try:
        answer: dict[str, object] = {"result": tasks[task](*values)}
    except ImageError as error:
        answer = {"error": error.message, "hint": error.hint}
    except OSError as error:
        answer = {"error": f"{error.filename}: {(error.strerror or '').lower()}", "hint": ""}
    json.dump(answer, sys.stdout)
    sys.stdout.flush()


def make_worker() -> LocalWorker:
    """Return the worker for this user."""
    if os.geteuid() == 0:
        return LocalWorker()
    from .host import probe

    host = probe()
    return MappedWorker(host) if host.subordinate else LocalWorker()
