"""`viscum generate systemd`: a unit that starts a machine at boot, and keeps it running."""

from __future__ import annotations

import os
import shutil
import sys

from ...errors import SpecError, ViscumError
from ..machines.finding import one_machine
from .words import create_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["main", "quote", "unit"]

POLICIES = "no always on-success on-failure on-abnormal on-watchdog on-abort".split()
GRACE_SECONDS = 30
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%", "$": "$$"}


def quote(word: str) -> str:
    """Return `word` as one argument of ExecStart= (systemd.service(5), systemd.syntax(7))."""
    made = "".join(
        _ESCAPES.get(character)
        or (character if character.isprintable() else "".join(
            f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")
        ))
        for character in word
    )  # fmt: skip
    bare = made == word and word and not set(word) & set(" ';`#")
    return word if bare and word != ":" else f'"{made}"'


def _program() -> str:
    """Return the path of the command, which a unit needs in full."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "viscum")
    found = beside if os.access(beside, os.X_OK) else shutil.which("viscum")
    if not found:
        raise ViscumError("the command viscum is not in PATH", hint="set PATH to where it is")
    return found


def _environment() -> list[str]:
    names = ("VISCUM_DATA", "VISCUM_RUN")
    given = [
        f"{name}={os.path.abspath(os.environ[name])}" for name in names if os.environ.get(name)
    ]
    return [f"Environment={quote(word)}" for word in given]


def _commands(machine: DetachedMachine, *, new: bool) -> list[str]:
    program, name = quote(_program()), quote(machine.name)
    stop = f"ExecStop=-{program} stop {name}"
    if not new:
        return [f"ExecStart={program} start --sdnotify monitor {name}", stop]
    words = " ".join(quote(word) for word in create_words(machine.config))
    remove = f"{program} rm -f {name}"
    return [
        f"ExecStartPre=-{remove}",
        f"ExecStart={program} run -d --sdnotify monitor --name {name} {words}",
        stop,
        f"ExecStopPost=-{remove}",
    ]


def unit(machine: DetachedMachine, *, new: bool, policy: str, patience: float) -> str:
    """Return the unit of a machine; with `new` it makes the machine when it starts."""
    wanted = "multi-user.target" if os.geteuid() == 0 else "default.target"
    lines = [
        f"# From: viscum generate systemd{' --new' if new else ''} {machine.name}",
        "[Unit]",
        f"Description=Viscum machine {machine.name}",
        "Documentation=man:systemd.service(5)",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=all",
        *_environment(),
        f"Restart={policy}",
        f"TimeoutStopSec={round(patience) + GRACE_SECONDS}",
        # What a machine ends with when it is asked to, or has to be made to.
        "SuccessExitStatus=137 143",
        *_commands(machine, new=new),
        "",
        "[Install]",
        f"WantedBy={wanted}",
    ]
    return "\n".join(lines) + "\n"


def _write(name: str, text: str) -> str:
    path = os.path.abspath(f"viscum-{name}.service")
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.rename(temporary, path)
    except OSError as error:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise ViscumError(f"cannot write {path!r}: {(error.strerror or '').lower()}") from None
    return path


def main(parsed: Parsed) -> int:
    """Print the unit of a machine, or write it to a file of the working folder."""
    policy = parsed.text("restart_policy") or "on-failure"
    if policy not in POLICIES:
        hint = f"one of: {', '.join(POLICIES)}"
        raise SpecError(f"--restart-policy {policy!r} is unknown", hint=hint)
    machine = one_machine(parsed, "viscum generate systemd [OPTIONS] NAME")
    patience = machine.config.spec.stop_timeout
    text = unit(machine, new=parsed.on("new"), policy=policy, patience=patience)
    print(_write(machine.name, text) if parsed.on("files") else text, end="")
    if parsed.on("files"):
        print()
    return 0
