"""`create` and `run`: config.json to a plan, which the native program launches in our place."""

from __future__ import annotations

import os
import time

from ..bundle import Bundle
from ..drivers.container import compile_container
from ..errors import SpecError
from .document import check, dump, parse, read_file
from .schema import CONFIG
from .store import make, remove_files, write_file, write_record
from .words import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .intel_rdt import ClassOfService
    from .main import Call
    from .systemd import Scope

__all__ = [
    "INIT",
    "Launch",
    "class_of_service",
    "console_of",
    "full_identity",
    "main",
    "read_config",
    "scope_of",
]

INIT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin", "viscum-oci-init")


def check_version(version: str) -> None:
    """Refuse a version of the specification that is not compatible: another major one."""
    parts = version.partition("-")[0].partition("+")[0].split(".")
    if len(parts) != 3 or not all(map(is_number, parts)):
        raise SpecError(f"ociVersion {version!r} is no version", hint="such as 1.2.0")
    if int(parts[0]) != 1:
        raise SpecError(f"ociVersion {version!r} is not supported", hint="1.x.y is")


def read_config(folder: str) -> tuple[bytes, Any]:
    """Return the bytes and the checked value of a bundle's config.json."""
    data = read_file(f"{folder}/config.json", "configuration")
    config = check(parse(data, "config.json"), CONFIG, "")
    check_version(config["ociVersion"])
    if not config["root"]["path"]:
        raise SpecError("root.path is empty")
    return data, config


def full_identity() -> bool:
    """Return whether this is the initial user namespace, or one that maps every id."""
    with open("/proc/self/uid_map", "rb", buffering=0) as file:
        words = file.read().split()
    return len(words) == 3 and words[2] == b"4294967295"


def state_halves(
    config: dict[str, Any], identity: str, folder: str, status: str
) -> tuple[str, str]:
    """Return the state as JSON in two parts, between which a process id belongs."""
    head = {"ociVersion": config["ociVersion"], "id": identity, "status": status}
    tail = {"bundle": folder}
    if config.get("annotations"):
        tail["annotations"] = config["annotations"]
    return dump(head)[:-1] + ', "pid": ', ", " + dump(tail)[1:]


def _listener_parts(config: dict[str, Any], state: tuple[str, ...]) -> tuple[str, str, str]:
    """Return what is sent along with a seccomp listener (runtime-linux, containerProcessState)."""
    metadata = config["linux"]["seccomp"].get("listenerMetadata", "")
    head = {"ociVersion": config["ociVersion"], "fds": ["seccompFd"]}
    if metadata:
        head["metadata"] = metadata
    return dump(head)[:-1] + ', "pid": ', f', "state": {state[0]}', state[1] + "}"


def states_of(config: dict[str, Any], identity: str, folder: str) -> tuple[Any, ...]:
    """Return the states that hooks and a seccomp listener will get, where there are any."""
    found: list[tuple[str, tuple[str, ...]]] = [
        (status, state_halves(config, identity, folder, status))
        for status in ("creating", "created")
    ]
    if config.get("linux", {}).get("seccomp", {}).get("listenerPath"):
        found.append(("listener", _listener_parts(config, found[0][1])))
    return tuple(found)


def connect(path: str, what: str) -> int:
    """Return a descriptor that is connected to the unix socket at `path`."""
    import _socket

    try:
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        socket.settimeout(5.0)
        socket.connect(path)
        socket.setblocking(True)
        return int(socket.detach())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"{what} {path!r}: {reason.lower()}") from None


def check_preserved(text: str, listening: int = 0) -> int:
    """Return how many descriptors are to be preserved, after those of sockets that are passed on;
    each must be open.
    """
    if text and (not is_number(text) or int(text) > 1024):
        raise SpecError(f"preserve-fds {text!r} is not a small number")
    count = listening + int(text or 0)
    for number in range(3, 3 + count):
        try:
            os.fstat(number)
        except OSError:
            option = f"preserve-fds {text}" if text else f"LISTEN_FDS={listening}"
            raise SpecError(f"{option}: descriptor {number} is not open") from None
    return count


def listening_sockets() -> int:
    """Return how many sockets were passed to this process for the container (sd_listen_fds(3))."""
    text = os.environ.get("LISTEN_FDS", "")
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return min(int(text), 1024) if mine and is_number(text) else 0


class Launch:
    """Hands a compiled plan to the native program, which takes this process's place."""

    def __init__(self, call: Call, kind: str, folder: str) -> None:
        self.call = call
        self.kind = kind
        self.folder = folder
        self.pid_file = call.given.text("pid-file")
        self.flags = ""
        self.terminal = 65535

    def go(self, plan: bytes, keep: list[int]) -> None:
        """Execute it; does not return. `keep` are descriptors that the plan names."""
        call = self.call
        fd = os.memfd_create("viscum-plan", os.MFD_CLOEXEC)
        os.write(fd, plan)
        for number in (fd, *keep):
            if number >= 0:
                os.set_inheritable(number, True)
        pid_file = os.path.abspath(self.pid_file) if self.pid_file else ""
        words = ["viscum-oci-launch", str(fd), self.kind, self.folder, pid_file, self.flags]
        words += [str(self.terminal), call.bin, call.root, call.log, call.log_format]
        if call.copy < 0:
            raise SpecError("no copy of the runtime can be made", hint="is memfd_create forbidden?")
        os.set_inheritable(call.copy, False)
        os.execve(call.copy, [*words, "--", *call.argv], os.environ)  # noqa: S606 - our own


def console_of(call: Call, process: dict[str, Any], *, detached: bool) -> int:
    """Return a connection to the console socket; -1 where there is none and need be none."""
    path = call.given.text("console-socket")
    if process.get("terminal"):
        if path:
            return connect(path, "console socket")
        if detached:
            raise SpecError(
                "cannot allocate tty if the runtime will detach without setting console socket",
                hint="give --console-socket",
            )
    elif path:
        raise SpecError("cannot use console socket if the container has no terminal")
    return -1


def scope_of(call: Call, config: dict[str, Any], identity: str) -> Scope | None:
    """Start the scope that the container will be in, where systemd makes the groups."""
    if not call.systemd:
        return None
    from .systemd import start_scope

    return start_scope(config, identity)


def class_of_service(config: dict[str, Any], identity: str) -> ClassOfService | None:
    """Return the class of service that the container will be in, if it asks for one."""
    given = config.get("linux", {}).get("intelRdt")
    if given is None:
        return None
    from .intel_rdt import ClassOfService, find

    return ClassOfService(find(), given, identity)


def main(call: Call) -> int:
    """Create a container, and with `run` start it."""
    given, identity = call.given, call.words[0]
    listening = listening_sockets()
    preserve = check_preserved(given.text("preserve-fds"), listening)
    bundle = os.path.realpath(given.text("bundle") or ".")
    data, config = read_config(bundle)
    process = config.get("process")
    if not process:
        raise SpecError("process is missing")
    if listening:
        told = (f"LISTEN_FDS={listening}", "LISTEN_PID=1")
        process = {**process, "env": [*process.get("env", []), *told]}
    rootfs = os.path.normpath(os.path.join(bundle, config["root"]["path"]))
    folder = make(call.root, identity)
    launch = Launch(call, call.verb, folder)
    detached = call.verb == "create" or given.on("detach")
    if not detached:
        launch.flags = "fk" if given.on("keep") else "f"
    scope = service = None
    try:
        write_file(f"{folder}/config.json", data)
        os.mkfifo(f"{folder}/exec.fifo", 0o600)
        gate = os.open(f"{folder}/exec.fifo", os.O_RDWR | os.O_CLOEXEC)
        console = console_of(call, process, detached=detached)
        seccomp = config.get("linux", {}).get("seccomp", {}).get("listenerPath", "")
        listener = connect(seccomp, "linux.seccomp.listenerPath") if seccomp else -1
        service = class_of_service(config, identity)
        scope = scope_of(call, config, identity)
        hook_output = os.memfd_create("viscum-hooks") if config.get("hooks") else -1
        compiled = compile_container(
            Bundle(
                id=identity,
                folder=bundle,
                rootfs=rootfs,
                config=config,
                process=process,
                init=INIT,
                gate=gate,
                console=console,
                terminal=bool(process.get("terminal")) and console < 0,
                hook_output=hook_output,
                listener=listener,
                preserve=preserve,
                no_pivot=given.on("no-pivot"),
                new_keyring=not given.on("no-new-keyring"),
                group=scope.group if scope else "",
                leave=scope.before if scope else (),
                classes=service.folders if service else (),
                states=states_of(config, identity, bundle),
            ),
            full_identity=full_identity(),
        )
        for lost in compiled.lost:
            call.warn(f"cannot give {lost}")
        launch.terminal = compiled.terminal
        created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        created += f".{time.time_ns() % 1_000_000_000:09d}Z"
        place = (scope.unit, scope.before) if scope else ("", ())
        ours = service.ours if service else ()
        write_record(folder, bundle, rootfs, config, compiled.groups, created, place, ours)
        if service:
            service.make()
        launch.go(compiled.plan.encode(), [gate, console, listener, hook_output])
    except BaseException:
        remove_files(folder)
        if service:
            service.unmake()
        if scope:
            from .systemd import abandon

            abandon(scope.unit, scope.before)
        raise
    return 1
