"""What a decision rests on: files of this host, and moments at which something ends.

While `watch` is open, everything here that reads a file of the host's configuration, or believes
a key, a certificate or a signature that ends some day, says so. Who keeps a decision knows by that
for how long.
"""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

__all__ = ["Basis", "identify", "note_end", "note_file", "watch"]


class Basis:
    """Files by their paths, as they were before they were read, and the earliest end in seconds
    since 1970.
    """

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, ...]] = {}
        self.ends = float("inf")


_basis: ContextVar[Basis | None] = ContextVar("basis", default=None)


def identify(path: str) -> tuple[int, ...]:
    """Return what changes whenever a file or a folder does; zeros for what is not there."""
    try:
        is_ = os.stat(path)
    except (OSError, ValueError):
        return (0,) * 6
    second, nanosecond = divmod(is_.st_ctime_ns, 1_000_000_000)
    return is_.st_dev, is_.st_ino, is_.st_mode, is_.st_size, second, nanosecond


@contextlib.contextmanager
def watch() -> Iterator[Basis]:
    """Yield what the decisions in this block, of this thread, rest on."""
    basis = Basis()
    token = _basis.set(basis)
    try:
        yield basis
    finally:
        _basis.reset(token)


def note_file(path: str) -> None:
    """Say that a file or folder is about to be looked at, there or not."""
    basis = _basis.get()
    if basis is not None:
        path = os.path.abspath(path)
        basis.files.setdefault(path, identify(path))


def note_end(moment: dt.datetime | None) -> None:
    """Say that what is believed holds until a moment; None for no end."""
    basis = _basis.get()
    if basis is not None and moment is not None:
        basis.ends = min(basis.ends, moment.timestamp())
