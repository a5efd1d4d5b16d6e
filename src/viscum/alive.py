"""Processes by pid and start time, which no other process of this boot shares."""

from __future__ import annotations

import os
import select

from .host import DEAD

__all__ = ["await_end", "is_alive", "open_process", "start_time"]

BLOCK = 4096


def _stat(pid: int) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the third on, none where there is no process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(fd, BLOCK).rpartition(b")")[2].split()
    except OSError:
        return []
    finally:
        os.close(fd)


def start_time(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot; 0 where there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def is_alive(pid: int, start: int) -> bool:
    """Return whether the process of that pid and start time still runs."""
    fields = _stat(pid) if pid > 0 else []
    return bool(fields) and int(fields[19]) == start and fields[0].decode() not in DEAD


def open_process(pid: int, start: int) -> int:
    """Return a pidfd of the process of that pid and start time.

    Raises ProcessLookupError where it has ended, whoever may have its pid by now.
    """
    fd = os.pidfd_open(pid)
    if not is_alive(pid, start):
        os.close(fd)
        raise ProcessLookupError
    return fd


def await_end(pid: int, start: int, timeout: float | None) -> bool:
    """Wait `timeout` s, None for ever, until that process has ended; False where it has not."""
    try:
        fd = open_process(pid, start)
    except OSError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(fd)
