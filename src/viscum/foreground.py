"""A machine in the foreground, written down while it runs: who has which name, and what to find.

It ends with its caller, which is named in its config: an entry whose caller is gone is removed by
whoever comes upon it. One without a name and without a label is not written down at all.
"""

from __future__ import annotations

import os
import time

from . import registry
from .alive import start_time
from .creating import random_name
from .errors import ViscumError
from .host import owner_prefix
from .record import Config, Status, boot_id, pid_namespace
from .spec import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .registry import Record
    from .spec import Spec

__all__ = ["entry"]


class entry:  # noqa: N801 - a context manager, used as a function
    """Keep the entry of a machine while it runs; `group` names its control groups."""

    def __init__(
        self, group: str, name: str | None, spec: Spec, labels: tuple[tuple[str, str], ...]
    ) -> None:
        self.record: Record | None = None
        self.config: Config | None = None
        if name is None and not labels and not spec.bounded:
            return
        machine_id = registry.new_machine_id()
        self.config = Config(
            id=machine_id,
            name=random_name(machine_id) if name is None else check_name(name),
            created=time.time_ns(),
            spec=spec,
            group=group,
            owner=owner_prefix(),
            labels=labels,
        )

    def __enter__(self) -> Self:
        if self.config is not None:
            self.record = registry.create(self.config)
        return self

    def started(self, pid: int) -> None:
        """Write down that the machine runs, with its first process."""
        if self.record is None:
            return
        me = os.getpid()
        status = Status(
            state="running",
            boot=boot_id(),
            pidns=pid_namespace(),
            pid=pid,
            start=start_time(pid),
            monitor=me,
            monitor_start=start_time(me),
            started=time.time_ns(),
        )
        try:
            registry.write(self.record.folder, "status.json", status.encode())
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise ViscumError(f"cannot write {self.record.folder!r}: {reason}") from None

    def __exit__(self, *_exception: object) -> None:
        if self.record is not None:
            registry.remove_entry(self.record)
