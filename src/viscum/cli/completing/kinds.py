"""What stands at each place of a command line, as far as the table of commands tells."""

from __future__ import annotations

import re

from ...frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Command, Option

__all__ = ["NAMES", "Kind", "groups", "kind_of_value", "kind_of_words"]

NAMES = ("machines", "volumes", "images", "paths")
"""What `viscum __names` prints; "paths" are machines with a colon after them, for `cp`."""

SIGNALS = tuple("HUP INT QUIT KILL TERM USR1 USR2 STOP CONT WINCH".split())


class Kind(Frozen):
    """What may stand at a place: fixed words, files of the host, and names that are asked for."""

    words: tuple[str, ...] = ()
    files: bool = False
    names: str = ""


def kind_of_value(option: Option) -> Kind:
    """Return what the value of an option may be."""
    value = option.value
    if value.startswith("[SOURCE:]TARGET"):
        return Kind(files=True, names="volumes")
    if value == "IMAGE":
        return Kind(names="images")
    if value.startswith("MACHINE"):
        return Kind(names="machines")
    if value == "SIGNAL":
        return Kind(words=SIGNALS)
    fixed = tuple(word for word in value.split("|") if re.fullmatch("[a-z][a-z0-9-]*", word))
    return Kind(words=fixed, files=value.startswith(("FILE", "FOLDER", "PATH")))


def kind_of_words(command: Command) -> Kind:
    """Return what the words of a command that are no options may be."""
    usage = command.usage
    if "NAME:PATH" in usage or "MACHINE:PATH" in usage:
        return Kind(files=True, names="paths")
    if re.search(r"(?<!\[)\bIMAGE\b", usage) and not command.passes:
        return Kind(names="images")
    if re.search(r"(?<!\[)\b(NAME|MACHINE|VOLUME)\b", usage) or "[NAME] [" in usage:
        return Kind(names="volumes" if command.name.startswith("volume ") else "machines")
    fixed = tuple(re.findall(r"\b[a-z]+(?=\||$)", usage))
    return Kind(words=fixed, files=command.passes or "FILE" in usage)


def groups(names: list[str]) -> dict[str, list[str]]:
    """Return the second words of commands by their first; "" has those of one word."""
    found: dict[str, list[str]] = {"": []}
    for name in names:
        first, _, second = name.partition(" ")
        if second:
            found.setdefault(first, []).append(second)
        else:
            found[""].append(first)
    return found
