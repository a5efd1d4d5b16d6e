"""What the native program leaves to Python: why a launch failed, and hooks after it."""

from __future__ import annotations

import os
import sys

from ..errors import ViscumError
from .explaining import MAX_SHOWN, message_of
from .main import Call, _read_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["main"]

SIGKILL = 9


def main(bin_: str, words: list[str]) -> int:
    """Do what the native program asked for; returns its exit code."""
    try:
        if words[0] == "--hooks":
            return _run_hooks(bin_, words)
        if words[0] == "--end-scope":
            from .systemd import end_scope

            end_scope(words[1])
            return 0
        return _explain(bin_, words)
    except ViscumError as error:
        print(f"viscum-oci: {error}", file=sys.stderr)
        return 1


def _explain(bin_: str, words: list[str]) -> int:
    from ..plan import Plan
    from .store import remove_files

    plan_fd, index, call_number, error = (int(word) for word in words[1:5])
    kind, folder = words[5:7]
    call = Call(bin_, words[7:])
    _read_globals(call)
    os.lseek(plan_fd, 0, 0)
    data = b""
    while part := os.read(plan_fd, 1 << 20):
        data += part
    plan = Plan.decode(data)
    message = message_of(plan, index, call_number, error)
    if kind != "exec":
        _give_back(folder)
        remove_files(folder)
    call.say("error", message)
    return 255 if kind == "exec" else 1


def _give_back(folder: str) -> None:
    """Give back what a launch that failed was given before it."""
    from .store import Stored

    stored = Stored(folder)
    if stored.classes:
        from .intel_rdt import remove

        remove(stored.classes)
    if stored.fields.get("scope"):
        from .systemd import abandon

        abandon(stored.fields["scope"], tuple(stored.leave))


def _run_hooks(bin_: str, words: list[str]) -> int:
    """Run the poststart or poststop hooks of the container at a folder."""
    from .create import state_halves
    from .store import Stored

    kind, folder = words[1:3]
    call = Call(bin_, words[3:])
    stored = Stored(folder)
    config = stored.config()
    status = "running" if kind == "poststart" else "stopped"
    before, after = state_halves(config, stored.id, stored.text("bundle"), status)
    pid = stored.pid if kind == "poststart" else 0
    for hook in config.get("hooks", {}).get(kind, []):
        problem = run_hook(bin_, hook, before + str(pid) + after)
        if problem:
            call.warn(f"error running {kind} hook {hook['path']!r}: {problem}")
    return 0


def run_hook(bin_: str, hook: dict[str, Any], state: str) -> str:
    """Run one hook with the state on its standard input; return what went wrong.

    It ends with this process; once its time is over, with whatever it started. What it leaves
    running may keep its output: that is a file, whose end nobody waits for.
    """
    import subprocess

    path, timeout = hook["path"], hook.get("timeout")
    pairs = [pair.partition("=") for pair in hook.get("env", [])]
    with _in_memory(state.encode()) as given, _in_memory(b"") as output:
        process = subprocess.Popen(
            ["viscum-oci-hook", path, *(hook.get("args") or [path])],
            executable=f"{bin_}/viscum-oci",
            env={name: value for name, _, value in pairs},
            stdin=given,
            stdout=output,
            stderr=output,
            process_group=0,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, SIGKILL)
            process.wait()
            return f"it was not over after {timeout} seconds"
        said = os.pread(output.fileno(), MAX_SHOWN, 0).decode("utf-8", "replace").strip()
    if code == 0:
        return ""
    ended = f"exit status {code}" if code > 0 else f"signal {-code}"
    return ended + (f", it said: {said!r}" if said else "")


def _in_memory(data: bytes) -> BinaryIO:
    file = open(os.memfd_create("viscum-hook"), "w+b", buffering=0)
    file.write(data)
    file.seek(0)
    return file
