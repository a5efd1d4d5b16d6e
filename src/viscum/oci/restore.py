"""`restore`: bring back a container that `checkpoint` saved."""

from __future__ import annotations

import os
import time

from ..bundle import RUNTIME_HOOKS, Bundle
from ..drivers.container_groups import find_groups
from ..drivers.container_restore import PEER, compile_restorer
from ..errors import LaunchError, MachineError, SpecError
from .checkpoint import EXTERNAL, MOUNTS_FILE, folders, shared_options
from .create import (
    INIT,
    check_preserved,
    class_of_service,
    console_of,
    full_identity,
    read_config,
    scope_of,
    states_of,
)
from .criu import RESTORE, Session, find, pair
from .document import check, parse, read_file
from .store import make, remove_files, start_time, write_file, write_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..drivers.container_groups import Hierarchies
    from .criu import Field
    from .main import Call
    from .schema import Shape
    from .systemd import Scope

__all__ = ["main"]

SHAPE: Shape = {
    "mounts!": [{"target!": "s", "type!": "s", "point": "s", "below": "s"}],
    "streams!": ["s"],
}
LOG = "restore.log"


def _source(mount: dict[str, str], bundle: Bundle, groups: Hierarchies) -> str:
    """Return what of the host is shown at a mount that CRIU did not save."""
    target = mount["target"]
    if mount["type"] in ("cgroup", "cgroup2") and mount.get("point"):
        below = mount.get("below", "")
        own = [group.folder for group in groups.groups if group.point == mount["point"]]
        return own[0] if own and not below else os.path.normpath(f"{mount['point']}/{below}")
    best, source = "", ""
    for each in bundle.config.get("mounts", []):
        place = os.path.normpath("/" + each["destination"].lstrip("/"))
        within = target == place or target.startswith(place.rstrip("/") + "/")
        if within and len(place) > len(best) and each.get("source", "")[:1] in (".", "/"):
            best = place
            source = os.path.join(bundle.folder, each["source"]) + target[len(place) :]
    if source:
        return os.path.normpath(source)
    if target in bundle.linux.get("maskedPaths", []):
        return "/dev/null"
    known = {"sysfs": "/sys", "proc": "/proc"}
    if mount["type"] in known or target.startswith("/dev/"):
        return known.get(mount["type"], target)
    raise SpecError(
        f"nothing says what was mounted at {target!r}", hint="add the mount to config.json"
    )


class Restore:
    """One container on its way back."""

    def __init__(self, call: Call, bundle: Bundle, folder: str, groups: Hierarchies) -> None:
        self.call = call
        self.bundle = bundle
        self.folder = folder
        self.groups = groups
        self.images, self.work = folders(call, make=False)
        path = f"{self.images}/{MOUNTS_FILE}"
        kept: Any = check(parse(read_file(path, "checkpoint"), path), SHAPE, "")
        self.kept: dict[str, Any] = kept
        self.files: list[int] = []
        """What CRIU gets, from the number after its socket's on."""
        self.sent = False
        """Whether a terminal was there, and its master was sent to the console socket."""

    def _give(self, fd: int) -> int:
        self.files.append(fd)
        return PEER + len(self.files)

    def _options(self) -> list[tuple[str, Field]]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        opened = [os.open(path, flags) for path in (self.images, self.work)]  # by our numbers
        options = shared_options(self.call, opened, LOG)
        options += [("root", f"{self.folder}/root"), ("rst_sibling", 1), ("orphan_pts_master", 1)]
        for mount in self.kept["mounts"]:
            source = _source(mount, self.bundle, self.groups)
            options.append(("ext_mnt", pair(mount["target"], source)))
        for number, name in enumerate(self.kept["streams"][:3]):
            if name:
                options.append(("inherit_fd", pair(name, number)))
        for space in self.bundle.linux.get("namespaces", []):
            if space.get("path") and space["type"] in EXTERNAL:
                file = os.open(space["path"], os.O_RDONLY | os.O_CLOEXEC)
                options.append(("inherit_fd", pair(EXTERNAL[space["type"]][1], self._give(file))))
        for name in ("lsm-profile", "lsm-mount-context"):
            if self.call.given.text(name):
                options.append((name.replace("-", "_"), self.call.given.text(name)))
        return options

    def _notices(self, session: Session) -> None:
        def hooks(pid: int, files: list[int]) -> None:
            del files
            self._run_hooks(pid)

        def terminal(pid: int, files: list[int]) -> None:
            del pid
            self._send_terminal(files)

        session.notices = {"setup-namespaces": hooks, "orphan-pts-master": terminal}

    def _run_hooks(self, pid: int) -> None:
        from .follow_up import run_hook

        hooks = self.bundle.config.get("hooks", {})
        for kind, status in RUNTIME_HOOKS:
            before, after = self.bundle.state(status)
            for hook in hooks.get(kind, []):
                problem = run_hook(self.call.bin, hook, before + str(pid) + after)
                if problem:
                    raise MachineError(f"error running hook {hook['path']!r}: {problem}")

    def _send_terminal(self, files: list[int]) -> None:
        import socket

        if self.bundle.console < 0 or not files:
            raise SpecError("the container was saved with a terminal, and config.json has none")
        with socket.socket(fileno=os.dup(self.bundle.console)) as peer:
            socket.send_fds(peer, [b"/dev/ptmx"], files[:1])
        self.sent = True

    def run(self, criu: str) -> int:
        """Return the process id of the container's first process, a child of this one."""
        import socket

        from .. import native

        os.mkdir(f"{self.folder}/root", 0o700)
        options = self._options()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        plan = compile_restorer(
            self.bundle,
            criu,
            theirs.fileno(),
            f"{self.folder}/root",
            self.files,
            full_identity=full_identity(),
        )
        loaded = native.load(plan)
        child = native.launch(plan, loaded, self.bundle.id, (0, 1, 2))
        theirs.close()
        session = Session(ours, f"{self.work}/{LOG}")
        self._notices(session)
        try:
            pid = session.ask(RESTORE, options)
        except BaseException:
            child.signal(9)
            raise
        finally:
            ours.close()
            child.wait(1 << 62)
        child.leave()
        return pid


def _settle(call: Call, folder: str, pid: int) -> None:
    """Write down the container's process, as `create` does."""
    with open(f"{folder}/.pid", "w", encoding="ascii") as file:
        file.write(f"{pid} {start_time(pid)}\n")
    os.rename(f"{folder}/.pid", f"{folder}/pid")
    path = call.given.text("pid-file")
    if path:
        place, name = os.path.split(path)
        beside = os.path.join(place, f".{name}")
        with open(beside, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.rename(beside, path)


def _pair() -> tuple[int, int]:
    """Return our end of a socket for a terminal, and the one to send it to."""
    import socket

    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def _follow(call: Call, identity: str, pid: int, terminal: int) -> int:
    """Wait until the container ends; signals go to it, and bytes between its terminal and ours."""
    import contextlib
    import signal
    import subprocess

    def forward(number: int, frame: object) -> None:
        del frame
        os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    relay: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if terminal >= 0:
        from ..terminal import Relay

        relay = Relay(terminal, interactive=True)
    with relay:
        _, status = os.waitpid(pid, 0)
    words = [f"{call.bin}/viscum-oci", "--root", call.root, "delete", "--force", identity]
    subprocess.run(words, check=False)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _bundle_of(call: Call) -> tuple[Bundle, bytes]:
    given, identity = call.given, call.words[0]
    folder = os.path.realpath(given.text("bundle") or ".")
    data, config = read_config(folder)
    process = config.get("process")
    if not process:
        raise SpecError("process is missing")
    bundle = Bundle(
        id=identity,
        folder=folder,
        rootfs=os.path.normpath(os.path.join(folder, config["root"]["path"])),
        config=config,
        process=process,
        init=INIT,
        console=console_of(call, process, detached=given.on("detach")),
        preserve=check_preserved(given.text("preserve-fds")),
        states=states_of(config, identity, folder),
    )
    return bundle, data


def _undo(call: Call, identity: str, scope: Scope | None) -> None:
    """Take away what was made so far; with a process that has ended it counts as stopped."""
    import subprocess

    if scope:  # first, since all that is in the container's groups is killed
        from .systemd import abandon

        abandon(scope.unit, scope.before)
    with open(f"{call.root}/{identity}/pid", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()} 1\n")
    words = [f"{call.bin}/viscum-oci", "--root", call.root, "delete", "--force", identity]
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main(call: Call) -> int:
    """Bring a container back, and stay with it unless it is to be detached."""
    identity, given = call.words[0], call.given
    criu = find(call.criu)
    bundle, data = _bundle_of(call)
    detached = given.on("detach")
    terminal = -1
    if bundle.process.get("terminal") and bundle.console < 0:
        terminal, console = _pair()
        bundle = bundle.replace(console=console)
    folder = make(call.root, identity)
    scope = None
    try:
        scope = scope_of(call, bundle.config, identity)
        if scope:
            bundle = bundle.replace(group=scope.group, leave=scope.before)
        groups = find_groups(bundle)
        service = class_of_service(bundle.config, identity)
        if service:
            bundle = bundle.replace(classes=service.folders)
        write_file(f"{folder}/config.json", data)
        created = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
        place = (scope.unit, scope.before) if scope else ("", ())
        ours = service.ours if service else ()
        write_record(
            folder, bundle.folder, bundle.rootfs, bundle.config, groups, created, place, ours
        )
        if service:
            service.make()
        restored = Restore(call, bundle, folder, groups)
        pid = restored.run(criu)
    except BaseException as error:
        _undo(call, identity, scope)
        remove_files(folder)
        if isinstance(error, OSError):
            text = f"{error.filename or criu}: {(error.strerror or '').lower()}"
            raise LaunchError(text) from None
        raise
    _settle(call, folder, pid)
    if bundle.config.get("hooks", {}).get("poststart"):
        from . import follow_up

        follow_up.main(call.bin, ["--hooks", "poststart", folder, *call.argv])
    return 0 if detached else _follow(call, identity, pid, terminal if restored.sent else -1)
