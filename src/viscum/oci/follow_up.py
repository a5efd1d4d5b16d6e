"""What the native program leaves to Python: why a launch failed, and hooks after it."""

from __future__ import annotations

import os
import sys

from ..errors import ViscumError
from .main import Call, _read_globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan import Operation, Plan

__all__ = ["main"]

EPERM, ENOENT, ECHILD, EACCES, EINVAL, ETIMEDOUT = 1, 2, 10, 13, 22, 110
MAX_SHOWN = 2048
NEW_USER = 0x10000000
FIELDS = {
    ("oom-score", EACCES): (
        "process.oomScoreAdj {score}",
        "below the runtime's own takes CAP_SYS_RESOURCE on the host",
    ),
    ("rlimit", EPERM): (
        "process.rlimits {resource}",
        "raising a hard limit takes CAP_SYS_RESOURCE on the host",
    ),
    ("rlimit", EINVAL): ("process.rlimits {resource}", "is the soft limit above the hard one?"),
    ("scheduler", EPERM): (
        "process.scheduler",
        "a lower nice value, or a real-time policy, takes CAP_SYS_NICE on the host",
    ),
    ("io-priority", EPERM): (
        "process.ioPriority",
        "the real-time class takes CAP_SYS_NICE on the host",
    ),
    ("affinity", EINVAL): (
        "process.execCPUAffinity.final",
        "name CPUs that the container may run on",
    ),
    ("groups", EINVAL): ("process.user.additionalGids {list}", "map them by linux.gidMappings"),
    ("privileges", EINVAL): (
        "process.user {uid}:{gid}",
        "map both by linux.uidMappings and linux.gidMappings",
    ),
}
"""What config.json calls that which failed for its value, and what to do."""
OWNERS = {
    "proc": ("pid", 0x20000000),
    "sysfs": ("network", 0x40000000),
    "mqueue": ("ipc", 0x8000000),
}
"""File systems that only the owner of a namespace mounts."""


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
    if operation.name == "inner-folder":
        return (
            f"unable to start container process: chdir to cwd ({str(operation['path'])!r}) set in "
            f"config.json failed: {reason}"
        )
    cause = _of_field(operation, error) or _of_namespaces(plan, operation, error)
    if cause:
        return f"unable to start container process: {cause[0]}: {reason} ({cause[1]})"
    from ..native import explain

    return "unable to start container process: " + str(
        explain(plan, _Failure(index, number, error))
    )


def _of_field(operation: Operation, error: int) -> tuple[str, str] | None:
    """Return the field whose value the kernel refused, and what to do about it."""
    if (operation.name, error) not in FIELDS:
        return None
    from ..drivers.parts import RLIMITS

    field, hint = FIELDS[operation.name, error]
    values = dict(zip(operation.verb.names, operation.values, strict=True))
    if operation.name == "rlimit":
        values["resource"] = "RLIMIT_" + RLIMITS[int(str(operation["resource"]))].upper()
    return field.format(**values), hint


def _of_namespaces(plan: Plan, operation: Operation, error: int) -> tuple[str, str] | None:
    """Return what failed for lack of a namespace, and which one that is."""
    if error != EPERM:
        return None
    kinds = ("clone", "unshare", "join")
    flags = [int(str(each["flags"])) for each in plan.operations if each.name in kinds]
    if operation.name == "clone" and not any(each & NEW_USER for each in flags):
        return "linux.namespaces", "an ordinary user's container needs a user namespace"
    if operation.name == "fsmount" and operation["type"] in OWNERS:
        kind, flag = OWNERS[str(operation["type"])]
        if not any(each & flag for each in flags):
            hint = f"it takes the container's own {kind} namespace; else bind the host's"
            return f"a new {operation['type']}", hint
    return None


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
        problem = run_hook(hook, before + str(pid) + after)
        if problem:
            call.warn(f"error running {kind} hook {hook['path']!r}: {problem}")
    return 0


def run_hook(hook: dict[str, Any], state: str) -> str:
    """Run one hook with the state on its standard input; return what went wrong."""
    import subprocess

    path, timeout = hook["path"], hook.get("timeout")
    pairs = [pair.partition("=") for pair in hook.get("env", [])]
    try:
        done = subprocess.run(
            hook.get("args") or [path],
            executable=path,
            env={name: value for name, _, value in pairs},
            input=state.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it was not over after {timeout} seconds"
    except OSError as error:
        return (error.strerror or "").lower()
    if done.returncode == 0:
        return ""
    said = done.stdout.decode("utf-8", "replace").strip()[:MAX_SHOWN]
    return f"exit status {done.returncode}" + (f", it said: {said!r}" if said else "")
