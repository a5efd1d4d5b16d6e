"""Why a launch failed, in the words of config.json: `viscum-oci` says it as runc and crun do."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan import Operation, Plan

__all__ = ["message_of"]

EPERM, ENOENT, ECHILD, EACCES, EINVAL, ETIMEDOUT = 1, 2, 10, 13, 22, 110
MAX_SHOWN = 2048
NEW_USER = 0x10000000
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
"""The part of the configuration that an operation comes from."""
REFUSED = {
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
"""What the kernel refuses for its value, by operation and errno: the field, and what to do."""
OWNERS = {
    "proc": ("pid", 0x20000000),
    "sysfs": ("network", 0x40000000),
    "mqueue": ("ipc", 0x8000000),
}
"""File systems that only the owner of a namespace mounts."""


def message_of(plan: Plan, index: int, number: int, error: int) -> str:
    """Return what a caller is told of an operation of a plan that failed, in which system call
    (its number) and with which errno.
    """
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
    cause = _refused_value(operation, error) or _lacking_namespace(plan, operation, error)
    if cause:
        return f"unable to start container process: {cause[0]}: {reason} ({cause[1]})"
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


def _refused_value(operation: Operation, error: int) -> tuple[str, str] | None:
    """Return the field whose value the kernel refused, and what to do about it."""
    if (operation.name, error) not in REFUSED:
        return None
    from ..drivers.parts import RLIMITS

    field, hint = REFUSED[operation.name, error]
    values = dict(zip(operation.verb.names, operation.values, strict=True))
    if operation.name == "rlimit":
        values["resource"] = "RLIMIT_" + RLIMITS[int(str(operation["resource"]))].upper()
    return field.format(**values), hint


def _lacking_namespace(plan: Plan, operation: Operation, error: int) -> tuple[str, str] | None:
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
