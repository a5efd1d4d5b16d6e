"""`--sdnotify`: who tells the service manager that a machine is ready, and when."""

from __future__ import annotations

import os

from ..errors import MachineError, SpecError
from ..notifying import INSIDE, Listener, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..detached import DetachedMachine
    from .parser import Parsed

__all__ = ["Notifier"]

MODES = {
    "ignore": "ignore",
    "monitor": "monitor",
    "conmon": "monitor",
    "machine": "machine",
    "container": "machine",
}


class Notifier:
    """What `--sdnotify` asks for, where a service manager listens at all."""

    def __init__(self, parsed: Parsed) -> None:
        word = parsed.text("sdnotify") or "ignore"
        if word not in MODES:
            raise SpecError(f"--sdnotify {word!r} is unknown", hint="machine, monitor or ignore")
        self.address = os.environ.get("NOTIFY_SOCKET", "")
        self.mode = MODES[word] if self.address else "ignore"
        self.listener: Listener | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.listener is not None:
            self.listener.close()

    def prepare(self, parsed: Parsed) -> None:
        """Give a new machine a socket of its own to tell its readiness to."""
        if self.mode != "machine":
            return
        self.listener = Listener()
        mount = f"type=bind,source={self.listener.folder},target={INSIDE}"
        for key, value in (("mount", mount), ("env", f"NOTIFY_SOCKET={INSIDE}/socket")):
            parsed.options[key] = [*parsed.texts(key), value]

    def tell(self, machine: DetachedMachine) -> None:
        """Tell of a machine that was started: its monitor, and that it is ready once it is."""
        if self.mode == "ignore":
            return
        notify(self.address, f"MAINPID={machine.status.monitor}")
        if self.listener is not None:
            ready = self.listener.wait(
                lambda: machine.state in ("running", "paused", "restarting"),
                lambda line: notify(self.address, line),
            )
            if not ready:
                hint = f"viscum logs {machine.name}"
                raise MachineError(f"machine {machine.name!r} ended unready", hint=hint)
        notify(self.address, "READY=1")
