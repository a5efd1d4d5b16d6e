"""`exec`: one more process in a running container."""

from __future__ import annotations

import os

from ..bundle import Bundle
from ..drivers.container import compile_inside
from ..errors import HostError, MachineError, SpecError
from .create import INIT, Launch, check_preserved, connect, full_identity, states_of
from .document import check, parse, read_file
from .schema import PROCESS, USER
from .store import open_stored, start_time
from .words import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .main import Call
    from .store import Stored

__all__ = ["main"]

SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _read_user(text: str) -> dict[str, int]:
    uid, mark, gid = text.partition(":")
    if not is_number(uid) or (mark and not is_number(gid)):
        raise SpecError(f"user {text!r} is not made of numbers", hint="UID[:GID]")
    return {"uid": int(uid), **({"gid": int(gid)} if mark else {})}


def _from_words(call: Call, own: dict[str, Any]) -> dict[str, Any]:
    """Return the process that the command line asks for, based on the container's own."""
    given = call.given
    process = {**own, "args": call.words[1:], "terminal": given.on("tty")}
    if not process["args"]:
        raise SpecError("process args cannot be empty")
    process.pop("consoleSize", None)
    if given.text("cwd"):
        process["cwd"] = given.text("cwd")
    if given.text("user"):
        process["user"] = {**own.get("user", {}), **_read_user(given.text("user"))}
    groups = [word for text in given.many("additional-gids") for word in text.split(",")]
    if groups:
        if not all(map(is_number, groups)):
            raise SpecError(f"additional-gids {groups!r} are not numbers")
        user = process.get("user", {})
        have = user.get("additionalGids", [])
        process["user"] = {**user, "additionalGids": [*have, *map(int, groups)]}
    check(process.get("user", {}), USER, "process.user")
    process["env"] = [*own.get("env", []), *given.many("env")]
    if given.on("no-new-privs"):
        process["noNewPrivileges"] = True
    if given.text("apparmor"):
        process["apparmorProfile"] = given.text("apparmor")
    if given.text("process-label"):
        process["selinuxLabel"] = given.text("process-label")
    added = [word for text in given.many("cap") for word in text.split(",")]
    if added:
        have_caps = own.get("capabilities", {})
        wanted = ("bounding", "effective", "permitted")
        process["capabilities"] = {
            name: [*have_caps.get(name, []), *(added if name in wanted else [])] for name in SETS
        }
    return process


def _process_of(call: Call, own: dict[str, Any]) -> dict[str, Any]:
    path = call.given.text("process")
    if not path:
        return _from_words(call, own)
    data = read_file(path, "process")
    process: dict[str, Any] = check(parse(data, "process"), PROCESS, "process")
    for key in (
        "capabilities",
        "rlimits",
        "oomScoreAdj",
        "scheduler",
        "ioPriority",
        "execCPUAffinity",
        "apparmorProfile",
        "selinuxLabel",
    ):
        if key not in process and key in own:
            process[key] = own[key]
    if not process.get("args"):
        raise SpecError("process args cannot be empty")
    return process


def _open_first(stored: Stored) -> int:
    """Return a descriptor of the container's first process, known by its start time."""
    try:
        pidfd = os.pidfd_open(stored.pid)
    except OSError:
        pidfd = -1
    if pidfd < 0 or start_time(stored.pid) != stored.started:
        raise MachineError(f"cannot exec a container that has stopped: {stored.id}")
    return pidfd


def _groups(call: Call, stored: Stored) -> list[str]:
    """Return the folders of the groups to enter: the container's, or those below it asked for."""
    asked = call.given.many("cgroup")
    folders = []
    for folder in stored.cgroups:
        below = ""
        for each in asked:
            controllers, mark, path = each.rpartition(":")
            if not mark or os.path.basename(os.path.dirname(folder)) in controllers.split(","):
                below = os.path.normpath("/" + path).rstrip("/")
        if below and not os.path.isdir(folder + below):
            raise SpecError(f"cgroup {folder + below}: no such file or directory")
        folders.append(folder + below if below else _group_of_first(folder, stored.pid))
    return folders


def _group_of_first(folder: str, pid: int) -> str:
    """Return the group to enter: where the container hands controllers on to groups below
    its own, as systemd does in it, its own takes no process, and its first one is in one of those.
    """
    try:
        with open(f"{folder}/cgroup.subtree_control", "rb") as file:
            if not file.read().strip():
                return folder
    except OSError:  # version 1
        return folder
    for place, _, _ in os.walk(folder):
        with open(f"{place}/cgroup.procs", "rb") as file:
            if str(pid).encode() in file.read().split():
                return place
    return folder


def _classes(config: dict[str, Any], identity: str) -> tuple[str, ...]:
    """Return the folders of the container's classes of service."""
    given = config.get("linux", {}).get("intelRdt")
    if given is None:
        return ()
    from .intel_rdt import folders_of

    return folders_of(given, identity)


def _run_on(cpus: tuple[int, ...]) -> None:
    """Go on, and start the process, on these CPUs (sched_setaffinity(2))."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise HostError(
            f"process.execCPUAffinity.initial: {(error.strerror or '').lower()}",
            hint="name CPUs that the runtime may run on",
        ) from None


def main(call: Call) -> int:
    """Run a process in a container."""
    given = call.given
    preserve = check_preserved(given.text("preserve-fds"))
    stored = open_stored(call.root, call.words[0])
    status = stored.status()
    if status in ("stopped", "creating"):
        raise MachineError(f"cannot exec in a {status} container: container {stored.id}")
    if status == "paused" and not given.on("ignore-paused"):
        raise MachineError(f"cannot exec in a paused container (use --ignore-paused): {stored.id}")
    config = stored.config()
    process = _process_of(call, config.get("process", {}))
    pidfd = _open_first(stored)
    launch = Launch(call, "exec", stored.folder)
    launch.flags = "" if given.on("detach") else "f"
    console, socket = -1, given.text("console-socket")
    if process.get("terminal") and socket:
        console = connect(socket, "console socket")
    elif process.get("terminal") and given.on("detach"):
        raise SpecError("cannot allocate tty if the runtime will detach without console socket")
    elif socket:
        raise SpecError("cannot use console socket if the process has no terminal")
    path = config.get("linux", {}).get("seccomp", {}).get("listenerPath", "")
    listener = connect(path, "linux.seccomp.listenerPath") if path else -1
    bundle = Bundle(
        id=stored.id,
        folder=stored.text("bundle"),
        rootfs="/",
        config=config,
        process=process,
        init=INIT,
        console=console,
        terminal=bool(process.get("terminal")) and console < 0,
        listener=listener,
        preserve=preserve,
        classes=_classes(config, stored.id),
        states=states_of(config, stored.id, stored.text("bundle")),
    )
    compiled = compile_inside(
        bundle, _groups(call, stored), stored.pid, pidfd, full_identity=full_identity()
    )
    for lost in compiled.lost:
        call.warn(f"cannot give {lost}")
    launch.terminal = compiled.terminal
    if compiled.cpus:
        _run_on(compiled.cpus)
    launch.go(compiled.plan.encode(), [pidfd, console, listener])
    return 1
