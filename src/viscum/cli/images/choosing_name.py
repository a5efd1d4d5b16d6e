"""Asking which registry a short name is of."""

from __future__ import annotations

import os
import sys

from ...errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...image.reference import Reference

__all__ = ["ask"]

ATTEMPTS = 3


def ask() -> Callable[[str, Sequence[Reference]], Reference] | None:
    """Return what asks at the terminal; None where there is none."""
    return _ask if os.isatty(0) and os.isatty(2) else None


def _ask(text: str, choices: Sequence[Reference]) -> Reference:
    print(f"{text!r} could be one of:", file=sys.stderr)
    for number, choice in enumerate(choices, 1):
        print(f"  {number}  {choice}", file=sys.stderr)
    for _ in range(ATTEMPTS):
        print(f"which one? [1-{len(choices)}] ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            break
        word = line.strip()
        if word.isascii() and word.isdigit() and 1 <= int(word) <= len(choices):
            return choices[int(word) - 1]
    raise ImageError(f"no registry was chosen for {text!r}", hint="write the registry too")
