"""One command for several things: one that fails does not stop the others."""

from __future__ import annotations

import os
import sys

from ..errors import SpecError, ViscumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["confirm", "each"]


def each(words: Iterable[str], action: Callable[[str], object]) -> int:
    """Do `action` to each of `words`, complain of those it fails for, return the exit code."""
    code = 0
    for word in words:
        try:
            action(word)
        except ViscumError as error:
            sys.stdout.flush()
            print(f"viscum: {error.message}", file=sys.stderr)
            if error.hint:
                print(f"  hint: {error.hint}", file=sys.stderr)
            code = error.exit_code
    return code


def confirm(question: str) -> bool:
    """Ask at the terminal; raises SpecError where there is none."""
    if not os.isatty(0):
        raise SpecError("there is no terminal to ask at", hint="--force does it without asking")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
