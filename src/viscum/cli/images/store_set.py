"""`viscum store set`."""

from __future__ import annotations

from .store import change as main

__all__ = ["main"]
