"""`viscum completion`: a script that makes a shell complete command lines of Viscum."""

from __future__ import annotations

import sys

from ...errors import SpecError
from ..table import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

SHELLS = ("bash", "zsh", "fish")


def main(parsed: Parsed) -> int:
    """Print the script for a shell."""
    if len(parsed.words) != 1 or parsed.words[0] not in SHELLS:
        given = " ".join(parsed.words)
        raise SpecError(f"shell {given!r} is unknown", hint=f"one of: {', '.join(SHELLS)}")
    module = __import__(f"viscum.cli.completing.{parsed.words[0]}", fromlist=["script"])
    sys.stdout.write(module.script(list(commands().values())))
    return 0
