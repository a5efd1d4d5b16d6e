"""Files of a store that are replaced: whoever reads one sees all of the old or all of the new."""

from __future__ import annotations

import os

__all__ = ["replace_file"]


def replace_file(path: str, data: bytes) -> None:
    """Put a file with `data` in the place of `path`. Raises OSError."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(data)
    os.rename(temporary, path)
