"""Tasks done by threads; `concurrent.futures` takes longer to import than a pull of nothing new."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Task = Callable[[], None]

__all__ = ["work_together"]


def work_together(*groups: tuple[int, Sequence[Task]], stop: Task = lambda: None) -> None:
    """Do the tasks of each group, in their order, by at most so many threads.

    After the first failure no more are begun, `stop` is called for those at work, and once all of
    them are over that failure is raised.
    """
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        stop()

    def work(tasks: Iterator[Task]) -> None:
        for task in tasks:
            if failures:
                return
            try:
                task()
            except BaseException as error:
                fail(error)

    threads = []
    for most, tasks in groups:
        rest = iter(tasks)
        threads += [threading.Thread(target=work, args=(rest,)) for _ in tasks[:most]]
    try:
        for thread in threads:
            thread.start()
        _join(threads)
    except BaseException as error:  # of the keyboard, or no thread could be started
        fail(error)
        _join(threads)
    if failures:
        raise failures[0]


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        if thread.ident is not None:
            thread.join()
