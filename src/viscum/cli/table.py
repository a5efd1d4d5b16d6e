"""Every command of `viscum`, found by its name; only the area that has it is imported.

A command's name is one word, as in `run`, or two, as in `volume create`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Command

__all__ = ["commands", "find", "names"]

_AREAS = {
    "launching": ("run", "create", "plan"),
    "machines": (
        *("ps", "start", "stop", "restart", "kill", "rm", "wait", "exec", "attach", "logs"),
        *("pause", "unpause", "rename", "update", "inspect", "prune"),
    ),
    "watching": ("stats", "top", "events"),
    "copying": ("cp", "diff", "export"),
    "volumes": ("volume create", "volume ls", "volume inspect", "volume rm", "volume prune"),
    "generating": ("generate systemd",),
    "resources": ("metrics",),
    "images": (
        *("pull", "push", "images", "tag", "rmi", "save", "load", "import", "commit"),
        "history",
        *("login", "logout", "gc", "image inspect", "image prune", "image mount"),
        *("image unmount", "store check", "store show", "store set"),
    ),
    "oci": ("oci install", "oci uninstall", "oci runtimeclass"),
    "host": ("doctor", "version"),
    "trust": ("image sign", "image verify", "trust show", "trust set", "trust test"),
    "completing": ("completion", "__names"),
    "governor": ("governor", "governor why", "governor simulate"),
}
"""The modules of `viscum.cli.tables`, and the names of the commands that each declares. What
begins with two underscores is for programs, and is told of nowhere."""


def names() -> list[str]:
    """Return the name of every command, in the order of the help."""
    return [name for area in _AREAS.values() for name in area if name[:2] != "__"]


def _declared(area: str) -> dict[str, Command]:
    module = __import__(f"viscum.cli.tables.{area}", fromlist=["COMMANDS"])
    return {command.name: command for command in module.COMMANDS}


def commands() -> dict[str, Command]:
    """Return every command by its name."""
    declared = [pair for area in _AREAS for pair in _declared(area).items()]
    return {name: command for name, command in declared if name[:2] != "__"}


def find(words: list[str]) -> tuple[Command, list[str]] | None:
    """Return the command that `words` begin with and the words after its name, else None."""
    for count in (2, 1):
        name = " ".join(words[:count])
        for area, known in _AREAS.items():
            if name in known:
                return _declared(area)[name], words[count:]
    return None
