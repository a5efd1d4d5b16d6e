from typing import final

class Failure(Exception): ...

@final
class Plan:
    def __new__(cls, encoded: bytes, /) -> Plan: ...

@final
class Machine:
    pid: int
    def wait(self, timeout_ns: int, /) -> tuple[int, ...] | None: ...
    def signal(self, number: int, /) -> None: ...
    def read(self, slot: int, name: str, /) -> bytes | None: ...
    def descriptor(self, slot: int, /) -> int: ...
    def release(self, kill_slot: int, /) -> None: ...
    def fileno(self) -> int: ...

def pipe() -> tuple[int, int]: ...
def open_null() -> int: ...
def open_below(folder: int, path: str, /) -> int: ...
def launch(
    plan: Plan,
    machine_id: str,
    stdin: int,
    stdout: int,
    stderr: int,
    target: int,
    fail_at: int,
    /,
) -> Machine: ...
def run(
    plan: Plan,
    machine_id: str,
    data: bytes | None,
    captures: bool,
    limit: int,
    timeout_ns: int,
    kill_slot: int,
    files: tuple[tuple[int, str], ...],
    uid: int,
    gid: int,
    fail_at: int,
    /,
) -> tuple[tuple[int, ...], bool, bytes, bytes, int, tuple[bytes | None, ...]]: ...
