"""The files of a machine that lives on, whether it runs or not, for `viscum.inside`.

One that does not run is started with nothing but a first process that waits, in the same root and
with the same mounts, and ended afterwards; its lock is held meanwhile.
"""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os

from . import launching, native
from .detached import RUNNING
from .errors import MachineError
from .inside import Worker
from .registry import Locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .detached import DetachedMachine
    from .record import Status
    from .spec import Spec

__all__ = ["Files", "idle_spec"]

FOREVER = -1


def idle_spec(spec: Spec) -> Spec:
    """Return the spec of a machine with the same files, in which nothing runs."""
    alone = {"network": "none", "pid": "private", "ipc": "private", "uts": "private"}
    return spec.replace(
        command=(), idle=True, lives=True, detached=False, ends_with_monitor=False, tty=False,
        init=False, workdir=None, identity=(0, 0, ()), user="", sysctls=(), **alone,
    )  # fmt: skip


class Files:
    """Holds a machine so that work can be done on its files."""

    def __init__(self, machine: DetachedMachine) -> None:
        self.machine = machine
        self.lock: Locked | None = None
        self.core: native.CoreMachine | None = None
        self.made: launching.Ready | None = None
        self.pid = 0
        self.started = 0

    def __enter__(self) -> Self:
        status = self.machine.status
        if status.state in ("running", "paused"):
            return self._running(status)
        lock = Locked(self.machine.record)
        lock.__enter__()
        self.lock = lock
        try:
            self._alone()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _alone(self) -> None:
        """Start the machine without its command, where it still does not run."""
        status = self.machine.status
        if status.state in RUNNING:  # it was started while we waited
            self._running(status)
        elif status.state in ("created", "exited"):
            self._start()
        else:  # two machines must never share one layer
            raise MachineError(f"machine {self.machine.name!r}: {status.error}")

    def _running(self, status: Status) -> Self:
        if not status.pid:
            raise MachineError(f"machine {self.machine.name!r} is {status.state}", hint="try again")
        self.pid, self.started = status.pid, status.start
        return self

    def _start(self) -> None:
        spec = idle_spec(self.machine.config.spec)
        made = launching.load_quietly(launching.compile_machine(spec, launching.this_host()))
        null = native.open_null()
        try:
            streams = (null, null, null)
            plan = made.compiled.plan
            self.core = native.launch(plan, made.loaded, launching.new_id(), streams)
        finally:
            os.close(null)
        self.made, self.pid = made, self.core.pid

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.core is not None and self.made is not None:
            self.core.signal(signals.SIGKILL)
            self.core.wait(FOREVER)
            self.core.release(self.made.compiled.kill_slot)
            self.core = None
        if self.lock is not None:
            self.lock.__exit__(kind, value, traceback)
            self.lock = None

    def work(self, task: dict[str, object], *, stdin: int, stdout: int) -> Worker:
        """Start a worker with `task` in the machine; see `viscum.working` for the tasks."""
        started = self.started or None
        return Worker(task, self.pid, started=started, stdin=stdin, stdout=stdout)
