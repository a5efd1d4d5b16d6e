from array import array
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
    def leave(self) -> None: ...
    def fileno(self) -> int: ...

@final
class Figures(tuple[float, ...]):
    cpu_seconds: float
    user_seconds: float
    system_seconds: float
    periods: int
    throttled_periods: int
    throttled_seconds: float
    memory_bytes: int
    peak_bytes: int
    working_set_bytes: int
    swap_bytes: int
    refaults: int
    oom_kills: int
    pids: int
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int
    cpu_some_avg10: float
    cpu_full_avg10: float
    cpu_some_seconds: float
    cpu_full_seconds: float
    memory_some_avg10: float
    memory_full_avg10: float
    memory_some_seconds: float
    memory_full_seconds: float
    io_some_avg10: float
    io_full_avg10: float
    io_some_seconds: float
    io_full_seconds: float

@final
class Meter:
    def __new__(cls) -> Meter: ...
    def add(self, machine_id: str, files: tuple[tuple[int, str], ...], most: int, /) -> None: ...
    def remove(self, machine_id: str, /) -> bool: ...
    def read(self, threads: int, /) -> dict[str, Figures]: ...
    def close(self) -> None: ...

def pipe() -> tuple[int, int]: ...
def open_null() -> int: ...
def open_below(folder: int, path: str, /) -> int: ...
def open_at(folder: int, path: str | bytes, flags: int, mode: int, resolve: int, /) -> int: ...
def enter(pidfd: int, user: bool, /) -> None: ...
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
def watch(descriptors: array[int], totals: array[int], least: int, /) -> list[int]: ...
def wait_pressure(pressure: int, stop: int, least: int, tick: int, most: int, /) -> int: ...

class TarFailure(Exception): ...

@final
class Untar:
    def __new__(cls, folder: int, flags: int, max_bytes: int, max_entries: int, /) -> Untar: ...
    def feed(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def finish(self) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]: ...

def open_inside(folder: int, path: bytes, flags: int, /) -> int: ...
def sync_file_system(folder: int, /) -> None: ...
def mount(source: str, target: str, kind: str, flags: int, options: str, /) -> None: ...
def unmount(target: str, /) -> None: ...
