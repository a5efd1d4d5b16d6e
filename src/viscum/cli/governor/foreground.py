"""`viscum governor`: the governor in the foreground."""

from __future__ import annotations

import os
import shlex
import signal
import sys

from ...errors import SpecError
from ...governor.budget import cpu_budget, memory_budget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main", "unit_text"]

UNIT = """\
# Written by `viscum governor --print-unit`: {path}
[Unit]
Description=Viscum governor: moves the limits of machines within their bounds

[Service]
ExecStart={command}
Restart=always
RestartSec=200ms
KillMode=process
Nice=-5
{environment}
[Install]
WantedBy={target}
"""


def unit_text(arguments: list[str]) -> str:
    """Return a systemd unit that runs the governor with these arguments."""
    root = os.geteuid() == 0
    command = shlex.join([os.path.abspath(sys.argv[0]), "governor", *arguments])
    kept = [name for name in ("VISCUM_RUN", "VISCUM_DATA") if os.environ.get(name)]
    lines = [f"Environment={shlex.quote(f'{name}={os.environ[name]}')}\n" for name in kept]
    return UNIT.format(
        path="/etc/systemd/system/viscum-governor.service"
        if root
        else "~/.config/systemd/user/viscum-governor.service",
        command=command.replace("%", "%%"),
        environment="".join(lines).replace("%", "%%"),
        target="multi-user.target" if root else "default.target",
    )


def main(parsed: Parsed) -> int:
    """Govern until a signal ends it; return 0."""
    if parsed.words:
        raise SpecError(
            f"governor {parsed.words[0]!r} is no command",
            hint="governor [why NAME|simulate TRACE…]",
        )
    cpus = parsed.text("cpus")
    memory = parsed.text("memory")
    cpu_budget(cpus)
    memory_budget(memory)
    if parsed.on("print_unit"):
        given = [("--cpus", cpus), ("--memory", memory)]
        print(unit_text([word for pair in given if pair[1] is not None for word in pair if word]))
        return 0
    from ...governor.loop import Governor

    governor = Governor(cpus, memory)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: governor.stop())
    text = f"governing {governor.fleet.cpus:g} CPUs and {int(governor.fleet.memory) >> 20} MiB"
    governor.run(lambda: print(text, file=sys.stderr, flush=True), _warn)
    return 0


def _warn(name: str, reason: str) -> None:
    text = f"viscum: warning: {name} is not governed, its limits stay: {reason}"
    print(text, file=sys.stderr, flush=True)
