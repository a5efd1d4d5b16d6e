"""Writing the files of groups."""

from __future__ import annotations

__all__ = ["write_text"]


def write_text(path: str, text: str) -> None:
    """Write a file of a group in one call; raises OSError."""
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())
