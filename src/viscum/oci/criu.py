"""Talks to CRIU: `criu swrk`, whose requests and answers are protocol buffers on a socket.

The numbers of the fields are those of CRIU's rpc.proto. Only whole numbers, text and messages occur
in it, so what is needed of the encoding is a page of code: no library is.
"""

from __future__ import annotations

import os

from ..errors import HostError, LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket

    Field = int | str | bytes

__all__ = ["DUMP", "PRE_DUMP", "RESTORE", "Session", "find", "message", "pair"]

DUMP, RESTORE, PRE_DUMP, NOTIFY, VERSION = 1, 2, 4, 6, 10
MAX_ANSWER = 1 << 16
SHOWN_LINES = 3
OPTIONS = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "ext_unix_sk": 4,
    "tcp_established": 5,
    "evasive_devices": 6,
    "shell_job": 7,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "ps": 11,
    "notify_scripts": 12,
    "root": 13,
    "parent_img": 14,
    "track_mem": 15,
    "auto_dedup": 16,
    "work_dir_fd": 17,
    "link_remap": 18,
    "force_irmap": 21,
    "ext_mnt": 23,
    "manage_cgroups": 24,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "manage_cgroups_mode": 34,
    "external": 37,
    "empty_ns": 38,
    "freeze_cgroup": 44,
    "tcp_skip_in_flight": 46,
    "lazy_pages": 48,
    "status_fd": 49,
    "orphan_pts_master": 50,
    "lsm_profile": 53,
    "lsm_mount_context": 63,
}
"""Numbers of the options in a request, by their names in rpc.proto."""


def find(name: str) -> str:
    """Return the path of the CRIU program; raises HostError where there is none."""
    folders = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").split(":")
    paths = [name] if "/" in name else [f"{folder}/{name}" for folder in folders if folder]
    for path in paths:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return os.path.abspath(path)
    raise HostError(
        f"CRIU is needed, and {name!r} is not installed",
        hint="install criu, or give its path with --criu",
    )


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields: tuple[int, Field]) -> bytes:
    """Return a message of fields: whole numbers, text, or messages as bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
            continue
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def pair(first: Field, second: Field) -> bytes:
    """Return a message of two fields."""
    return message((1, first), (2, second))


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise LaunchError("criu: an answer is cut short")


def fields_of(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Return the fields of a message."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        if key & 7 != 2:
            raise LaunchError(f"criu: an answer has a field of kind {key & 7}")
        size, at = _read_varint(data, at)
        if at + size > len(data):
            raise LaunchError("criu: an answer is cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _number(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


class Session:
    """One request to CRIU at the other end of `peer`, with what it asks in between."""

    def __init__(self, peer: socket, log: str) -> None:
        self.peer = peer
        self.log = log
        self.notices: dict[str, Callable[[int, list[int]], None]] = {}
        """What to do at CRIU's notices, by name: with a process id and descriptors sent along."""

    def ask(self, kind: int, options: list[tuple[str, Field]]) -> int:
        """Send a request and return the restored process, 0 for another request.

        Raises LaunchError with what CRIU wrote to its log.
        """
        chosen = [(OPTIONS[name], value) for name, value in options]
        chosen.append((OPTIONS["notify_scripts"], 1))
        self._send(message((1, kind), (2, message(*chosen))))
        while True:
            answer, files = self._receive()
            found = dict(fields_of(answer))
            if _number(found.get(1, 0)) != NOTIFY:
                break
            self._notice(_bytes(found.get(5, b"")), files)
        if not _number(found.get(2, 0)):
            raise LaunchError(self._reason(_number(found.get(7, 0))), hint=f"see {self.log}")
        return _number(dict(fields_of(_bytes(found.get(4, b"")))).get(1, 0))

    def _send(self, data: bytes) -> None:
        try:
            self.peer.send(data)
        except OSError as error:
            raise LaunchError(f"criu does not listen: {(error.strerror or '').lower()}") from None

    def _receive(self) -> tuple[bytes, list[int]]:
        import socket

        try:
            data, files, _, _ = socket.recv_fds(self.peer, MAX_ANSWER, 4)
        except OSError as error:
            raise LaunchError(f"criu does not answer: {(error.strerror or '').lower()}") from None
        if not data:
            raise LaunchError(self._reason(0), hint=f"see {self.log}")
        return data, files

    def _notice(self, data: bytes, files: list[int]) -> None:
        found = dict(fields_of(data))
        act = self.notices.get(_bytes(found.get(1, b"")).decode("ascii", "replace"))
        good = 1
        try:
            if act:
                act(_number(found.get(2, 0)), files)
        except BaseException:
            good = 0
            raise
        finally:
            for file in files:
                os.close(file)
            self._send(message((1, NOTIFY), (3, good)))

    def _reason(self, errno: int) -> str:
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in file if "Error (" in line]
        except OSError:
            lines = []
        said = "; ".join(lines[:SHOWN_LINES])
        reason = os.strerror(errno).lower() if errno else "it failed"
        return f"criu: {said or reason}"
