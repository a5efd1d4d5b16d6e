"""A worker in a machine at one end of a pipe, this process at the other."""

from __future__ import annotations

import os
import sys

from ... import native
from ...inside import CLOSED, Worker
from ..listing import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...reaching import Files
    from ..progress import Progress

__all__ = ["copy_stream", "receive", "send", "warn"]


CHUNK = 1 << 18


def copy_stream(source: int, target: int, progress: Progress) -> None:
    """Copy from one descriptor to another up to the end."""
    while data := os.read(source, CHUNK):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
        progress.add(len(data))


def warn(text: object) -> None:
    """Say what was left out; names in it are the machine's."""
    print(f"viscum: warning: {printable(str(text))}", file=sys.stderr)


def _finish(worker: Worker, failed: BaseException | None) -> dict[str, object]:
    """Wait for a worker; what it failed with is the reason for what failed here."""
    try:
        told = worker.finish()
    except BaseException as error:
        if failed is None or str(error) != CLOSED:
            raise
        told = {}
    if failed is not None:
        raise failed
    warnings = told.get("warnings")
    for text in warnings if isinstance(warnings, list) else []:
        warn(text)
    return told


def receive(files: Files | int, task: dict[str, object], use: Callable[[int], object]) -> None:
    """Have a worker write a stream, and `use` the descriptor that it can be read from.

    It works in the machine of `files`, or of the process of that pid.
    """
    reader, writer = native.pipe()
    null = native.open_null()
    try:
        if isinstance(files, int):
            worker = Worker(task, files, stdin=null, stdout=writer)
        else:
            worker = files.work(task, stdin=null, stdout=writer)
    finally:
        os.close(writer)
        os.close(null)
    failed: BaseException | None = None
    try:
        use(reader)
    except Exception as error:
        failed = error
    finally:
        os.close(reader)
    _finish(worker, failed)


def send(files: Files, task: dict[str, object], make: Callable[[int], object]) -> dict[str, object]:
    """Have a worker read a stream, which `make` writes to a descriptor."""
    reader, writer = native.pipe()
    null = native.open_null()
    try:
        worker = files.work(task, stdin=reader, stdout=null)
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
        os.close(null)
    failed: BaseException | None = None
    try:
        make(writer)
    except BrokenPipeError:
        pass  # the worker has the reason
    except Exception as error:
        failed = error
    finally:
        os.close(writer)
    return _finish(worker, failed)
