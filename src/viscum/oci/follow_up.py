"""What the native program leaves to Python: why a launch failed, and hooks after it."""

from __future__ import annotations

import os
import sys

from ..errors import ViscumError
from .main import Call, _read_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from ..plan import Operation, Plan

__all__ = ["main"]

SIGKILL = 9
ENOENT, EACCES, EPERM, ECHILD, ETIMEDOUT, EEXIST = 2, 13, 1, 10, 110, 17
MAX_SHOWN = 2048
FIELDS = {
    "namespace": "linux.namespaces",
    "join": "linux.namespaces",
    "time-join": "linux.namespaces",
    "map": "linux.uidMappings or linux.gidMappings",
    "become": "linux.uidMappings or linux.gidMappings, which have no root",
    "cgroup-write": "linux.resources",
    "device-filter": "linux.resources.devices",
    "privileges": "process.user or process.capabilities",
    "groups": "process.user.additionalGids",
    "rlimit": "process.rlimits",
    "scheduler": "process.scheduler",
    "io-priority": "process.ioPriority",
    "affinity": "process.execCPUAffinity.final",
    "personality": "linux.personality",
    "seccomp": "linux.seccomp",
}
"""What operations come from."""


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
    message = _message(plan, index, call_number, error)
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


def _message(plan: Plan, index: int, number: int, error: int) -> str:
    reason = os.strerror(error).lower()
    if not 0 <= index < len(plan.operations):
        return f"cannot start: {reason}"
    operation = plan.operations[index]
    if operation.name == "find-program":
        return _no_program(str(operation["file"]), error, reason)
    if operation.name in ("hook", "hook-inside"):
        return _hook_failed(plan, operation, error, reason)
    if operation.name == "exec-boot":  # with arguments and environment, which may hold secrets
        name = str(operation["arguments"], "utf-8", "replace").partition("\0")[0]  # type: ignore[arg-type]
        return f'unable to start container process: exec: "{name}": {reason}'
    if operation.name == "inner-folder":
        return (
            f"unable to start container process: chdir to cwd ({str(operation['path'])!r}) set in "
            f"config.json failed: {reason}"
        )
    from ..native import explain

    field = _field_of(plan, operation)
    failed = explain(plan, _Failure(index, number, error))
    return f"unable to start container process: {field + ': ' if field else ''}{failed}"


def _field_of(plan: Plan, operation: Operation) -> str:
    """Return the part of the configuration that an operation does; empty where it is plain."""
    field = FIELDS.get(operation.name, "")
    if operation.name in ("join", "time-join"):
        for other in plan.operations:
            if other.name == "namespace" and other["slot"] == operation.values[0]:
                return f"{field}, {other['path']!r}"
    return field


class _Failure(Exception):
    """What the core reported, as `native.explain` takes it."""


def _no_program(file: str, error: int, reason: str) -> str:
    head = f'unable to start container process: exec: "{file}": '
    if error == ENOENT and "/" not in file:
        return head + "executable file not found in $PATH"
    if error == ENOENT:
        return head + f"stat {file}: no such file or directory"
    return head + reason


def _hook_failed(plan: Plan, hook: Operation, error: int, reason: str) -> str:
    text = ""
    for operation in plan.operations:
        if operation.name == "inherit" and operation["slot"] == hook["output"]:
            text = os.pread(int(str(operation["number"])), MAX_SHOWN, 0).decode("utf-8", "replace")
    output, _, status = text.rstrip("\n").rpartition("status ")
    if error == ETIMEDOUT:
        reason = f"it was not over after {int(str(hook['timeout']))} seconds"
    elif error == ECHILD and status.isdigit():
        code = int(status)
        reason = f"exit status {code >> 8}" if code >> 8 else f"signal {code & 0x7F}"
    said = f", it said: {output.strip()!r}" if output.strip() else ""
    return f"error running hook {hook['path']!r}: {reason}{said}"


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
