"""Processes that measure on request, and how to talk to them.

A worker answers each line "JOB COUNT THREADS" on its input with one line of JSON: the nanoseconds
of each of COUNT repetitions, or with several THREADS of all of them together.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from viscum import host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = ["Worker", "WorkerDied", "bare_worker", "python_worker"]

HERE = os.path.dirname(os.path.abspath(__file__))
ANSWER_SECONDS = 600
END_SECONDS = 30


class WorkerDied(Exception):
    """A measuring process ended, or does not answer."""


class Worker:
    """A measuring process; ends with its `with` block, and by itself when this process is gone.

    It has a session of its own, so that a Ctrl-C reaches it as the end of its input, and what
    it has under way it finishes and removes.
    """

    def __init__(self, argv: Sequence[str], greeting: Callable[[int], str] | None = None) -> None:
        self.name = os.path.basename(argv[0])
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise WorkerDied(f"{self.name} has no pipes")
        self.requests, self.answers = self.process.stdin, self.process.stdout
        if greeting is not None:
            self._say(greeting(self.process.pid))

    def _say(self, line: str) -> None:
        try:
            self.requests.write(line + "\n")
            self.requests.flush()
        except BrokenPipeError:
            raise WorkerDied(f"{self.name} ended with {self.process.wait()}") from None

    def measure(self, job: str, count: int, threads: int = 1) -> list[int]:
        """Have `count` repetitions of a job done; return their nanoseconds."""
        self._say(f"{job} {count} {threads}")
        ready, _, _ = select.select([self.answers], [], [], ANSWER_SECONDS)
        line = self.answers.readline() if ready else ""
        if not line:
            status = "no answer" if not ready else f"ended with {self.process.wait()}"
            raise WorkerDied(f"{self.name}, {job}: {status}")
        answer: list[int] = json.loads(line)
        return answer

    def side(self, job: str) -> Callable[[int], list[int]]:
        """Return what measures a number of repetitions of `job`."""
        return lambda count: self.measure(job, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.requests.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()


def bare_worker(program: str, *, before: Sequence[str] = ()) -> Callable[[], Worker]:
    """Return what starts a bare program.

    Its machines are named as those of this engine, so that what a crash leaves is swept with
    them.
    """
    return lambda: Worker([*before, program], lambda pid: f"viscum-{host.owner_prefix(pid)}")


def python_worker(
    jobs: Mapping[str, Mapping[str, object]],
    *,
    before: Sequence[str] = (),
    ballast: int = 0,
) -> Callable[[], Worker]:
    """Return what starts worker.py with these jobs; `before` is a command that executes it."""
    config = json.dumps({"jobs": jobs, "ballast": ballast})
    script = os.path.join(HERE, "worker.py")
    return lambda: Worker([*before, sys.executable, script, config])
