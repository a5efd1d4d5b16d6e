"""What the runtime says of itself: its version and the help of its verbs."""

from __future__ import annotations

import os

from .words import GLOBAL, VERBS

__all__ = ["show"]


def _option(text: str) -> str:
    name, value, _ = text.partition("=")
    long, _, short = name.partition(",")
    return f"  --{long}{', -' + short if short else ''}{' VALUE' if value else ''}"


def show(what: str, words: list[str]) -> int:
    """Print the version, the help of a verb, or that of all."""
    from .. import __version__
    from .main import VERSION

    if what == "version":
        print(f"viscum-oci version {__version__}\nspec: {VERSION}\nkernel: {os.uname().release}")
    elif words and words[0] in VERBS:
        verb = VERBS[words[0]]
        print(f"usage: viscum-oci {words[0]} [OPTION...] {verb.usage}\n\n{verb.doc}\n\noptions:")
        print("\n".join(_option(text) for text in verb.options))
    else:
        print("usage: viscum-oci [OPTION...] COMMAND [OPTION...]\n\ncommands:")
        print("\n".join(f"  {name:12}{verb.doc}" for name, verb in VERBS.items()))
        print("\noptions:\n" + "\n".join(_option(text) for text in GLOBAL))
    return 0
