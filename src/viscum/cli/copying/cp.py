"""`viscum cp`: files from the host into a machine, or out of it."""

from __future__ import annotations

import os
import sys

from ...below import ORDINARY
from ...errors import SpecError
from ...packing import Packer, open_source
from ...reaching import Files
from ...unpacking import Unpacker, find_target, unpack
from ..machines.finding import find
from ..progress import Counted, Progress
from .streams import copy_stream, receive, send, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile

    from ..parser import Parsed

__all__ = ["main"]

TOP = "top"
"""What the source is called in the stream; the target has its own name for it."""
USAGE = "viscum cp NAME:PATH PATH, or viscum cp PATH NAME:PATH"


class Place:
    """One end of a copy: a path, of the host or of the machine `name`; "-" is a stream."""

    def __init__(self, word: str) -> None:
        before, colon, path = word.partition(":")
        inside = bool(colon and before) and "/" not in before and word[0] != "."
        self.name = before if inside else ""
        self.path = path if inside else word
        if inside and not path:
            raise SpecError(f"{word!r} has no path", hint=USAGE)
        if not word:
            raise SpecError("a path is empty", hint=USAGE)

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input or output."""
        return not self.name and self.path == "-"

    @property
    def contents(self) -> bool:
        """Whether what is in a folder is meant, rather than the folder."""
        return self.path in (".", "/") or self.path.endswith(("/.", "/.."))

    @property
    def inner(self) -> str:
        """The path as an absolute one, as it is meant in a machine."""
        return self.path if self.path.startswith("/") else "/" + self.path

    @property
    def base(self) -> str:
        """The last name of the path; "." where it has none of its own."""
        last = self.path.rstrip("/").rpartition("/")[2]
        return "." if last in ("", ".", "..") else last


def _root() -> int:
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _absolute(path: str) -> str:
    """Return a path of the host from its root on, with what stands at its end left as it is."""
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"


def _out(files: Files, source: Place, target: Place, parsed: Parsed, progress: Progress) -> None:
    task: dict[str, object] = {
        "do": "pack_tree",
        "path": source.inner,
        "name": source.base if target.is_stream else TOP,
        "follow": parsed.on("follow_link"),
        "skip": [],
    }
    if target.is_stream:
        if os.isatty(1):
            raise SpecError("a tar stream is nothing for a terminal", hint="redirect it to a file")
        receive(files, task, lambda fd: copy_stream(fd, 1, progress))
        return
    ids = None if parsed.on("archive") and os.geteuid() == 0 else (-1, -1)

    def begin(first: tarfile.TarInfo) -> Unpacker:
        path, folder = _absolute(target.path), first.isdir()
        there = find_target(
            _root(), path, ORDINARY, folder=folder, contents=source.contents, name=source.base
        )
        return Unpacker(there, ids=ids, warn=warn)

    def use(fd: int) -> None:
        with open(fd, "rb", closefd=False) as stream:
            counted = Counted(stream, progress)
            unpack(counted, begin, packed=False)  # type: ignore[arg-type]  # it only reads

    receive(files, task, use)


def _in(files: Files, source: Place, target: Place, parsed: Parsed, progress: Progress) -> None:
    task: dict[str, object] = {
        "do": "unpack_tree",
        "path": target.inner,
        "name": source.base,
        "contents": source.contents,
        "archive": parsed.on("archive"),
        "whole": source.is_stream,
    }
    if source.is_stream:
        send(files, task, lambda fd: copy_stream(0, fd, progress))
        return
    links = parsed.on("follow_link")
    packed = open_source(_root(), _absolute(source.path), ORDINARY, follow=links)

    def make(fd: int) -> None:
        packer = Packer(fd, warn=warn, tell=progress.add)
        packer.add(packed, TOP)
        packer.close()

    send(files, task, make)


def main(parsed: Parsed) -> int:
    """Copy files and folders; a link is copied as such, and followed with -L."""
    if len(parsed.words) != 2:
        raise SpecError("a source and a target are needed", hint=USAGE)
    source, target = Place(parsed.words[0]), Place(parsed.words[1])
    if bool(source.name) == bool(target.name):
        hint = "copy by way of the host" if source.name else USAGE
        raise SpecError("one of both, and one only, is in a machine", hint=hint)
    if source.is_stream and os.isatty(0):
        raise SpecError("a tar stream is nothing to type", hint="redirect one to stdin")
    with Files(find(source.name or target.name)) as files, Progress("copied") as progress:
        (_out if source.name else _in)(files, source, target, parsed, progress)
    sys.stdout.flush()
    return 0
