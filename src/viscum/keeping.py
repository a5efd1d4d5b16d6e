"""Files that only save time: what is kept of them may be lost, and is bounded."""

from __future__ import annotations

import os

__all__ = ["keep_file"]


def keep_file(path: str, data: bytes, most: int) -> None:
    """Write a new file, whole or not at all, into a folder of at most `most` files: from a full one
    the older half goes first. Raises OSError.
    """
    folder, temporary = os.path.dirname(path), f"{path}.{os.getpid()}"
    known = [os.path.join(folder, name) for name in os.listdir(folder)]
    if len(known) >= most:
        for each in sorted(known, key=os.path.getmtime)[: most // 2]:
            os.unlink(each)
    with open(temporary, "xb") as file:
        file.write(data)
    os.rename(temporary, path)
