"""What is done in a machine by `viscum.inside`: packing and unpacking, and reading layers."""

from __future__ import annotations

import os

from .below import IN_ROOT
from .layer import Pair, compare
from .native import open_at
from .packing import Packer, open_source
from .unpacking import Target, Unpacker, find_target, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile

__all__ = ["import_all", "pack_tree", "read_layer", "unpack_tree"]

MAX_WARNINGS = 100


def import_all() -> None:
    """Import what is otherwise imported when it is first needed."""
    import bz2  # noqa: F401
    import encodings.idna
    import encodings.latin_1
    import gzip  # noqa: F401
    import lzma  # noqa: F401
    import shutil  # noqa: F401
    import zlib  # noqa: F401

    del encodings


def _root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def pack_tree(task: dict[str, object]) -> dict[str, object]:
    """Write the tar stream of `path`, named `name`, without what `skip` has, to stdout."""
    warnings: list[str] = []
    source = open_source(_root(), str(task["path"]), IN_ROOT, follow=bool(task["follow"]))
    packer = Packer(1, skip=list(task["skip"]), warn=warnings.append)  # type: ignore[call-overload]
    packer.add(source, str(task["name"]))
    packer.close()
    os.close(1)
    return {"warnings": warnings[:MAX_WARNINGS]}


def unpack_tree(task: dict[str, object]) -> dict[str, object]:
    """Read a tar stream from stdin and make of it what is to be at `path`.

    With `whole` it is unpacked in the folder `path` as it is; else its first name becomes what
    `find_target` says.
    """
    warnings: list[str] = []
    path, whole = str(task["path"]), bool(task["whole"])
    ids = None if task["archive"] or whole else (0, 0)

    def begin(first: tarfile.TarInfo) -> Unpacker:
        if whole:
            flags = os.O_RDONLY | os.O_DIRECTORY
            target = Target(open_at(_root(), path, flags, IN_ROOT))
        else:
            contents, name = bool(task["contents"]), str(task["name"])
            target = find_target(
                _root(), path, IN_ROOT, folder=first.isdir(), contents=contents, name=name
            )
        return Unpacker(target, ids=ids, plain=False, warn=warnings.append)

    with open(0, "rb") as stream:
        count = unpack(stream, begin, packed=whole)
    return {"warnings": warnings[:MAX_WARNINGS], "count": count}


def read_layer(task: dict[str, object]) -> dict[str, object]:
    """Write what `pairs` of the writable layer `layer` tell to stdout; see `viscum.layer`."""
    pairs = [
        Pair(upper, lower, prefix, tuple(own))
        for upper, lower, prefix, own in task["pairs"]  # type: ignore[attr-defined]
    ]
    with open(1, "wb") as stream:
        for change in compare(str(task["layer"]), pairs):
            text = f"{change.kind}{change.path}\0"
            stream.write(text.encode("utf-8", "surrogateescape"))
    return {}
