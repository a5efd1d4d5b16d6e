"""`viscum wait`."""

from __future__ import annotations

from ...errors import SpecError
from ..several import each
from .finding import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Wait until machines have ended and print their exit codes."""
    if not parsed.words:
        raise SpecError("there is no machine named", hint="viscum ps lists them")
    return each(parsed.words, lambda word: print(find(word).wait(), flush=True))
