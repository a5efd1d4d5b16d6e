"""`viscum export`: the root of a machine as a tar stream."""

from __future__ import annotations

import os

from ...errors import SpecError, ViscumError
from ...reaching import Files
from ..machines.finding import one_machine
from ..progress import Progress
from .streams import copy_stream, receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...spec import Spec
    from ..parser import Parsed

__all__ = ["main"]


def left_out(spec: Spec) -> list[str]:
    """Return what is not the machine's root: file systems of the kernel, and what is mounted."""
    return ["proc", "sys", "dev", *(mount.where.strip("/") for mount in spec.mounts)]


def main(parsed: Parsed) -> int:
    """Write the stream to stdout or to a file."""
    machine = one_machine(parsed, "viscum export [-o FILE] NAME")
    path = parsed.text("output")
    if path is None and os.isatty(1):
        raise SpecError("a tar stream is nothing for a terminal", hint="viscum export -o FILE NAME")
    task: dict[str, object] = {
        "do": "pack_tree",
        "path": "/",
        "name": ".",
        "follow": False,
        "skip": left_out(machine.config.spec),
    }
    with Files(machine) as files, Progress("exported") as progress:
        if path is None:
            receive(files, task, lambda fd: copy_stream(fd, 1, progress))
        else:
            _to_file(files, task, path, progress)
    return 0


def _to_file(files: Files, task: dict[str, object], path: str, progress: Progress) -> None:
    """Write the stream to a file, which appears once it is whole."""
    temporary = f"{path}.{os.getpid()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        out = os.open(temporary, flags, 0o600)
        try:
            receive(files, task, lambda fd: copy_stream(fd, out, progress))
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(out)
    except OSError as error:
        raise ViscumError(f"cannot write {path!r}: {(error.strerror or '').lower()}") from None
