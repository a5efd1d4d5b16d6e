"""Lowers an OCI container to a plan: namespaces, groups, mounts, hooks, and its first process.

The order of the operations of `enter` is the order of this file. Parent and child keep step where
one needs what the other does: id maps before anything that needs ids (step 1), hooks once the
mounts stand (step 2).
"""

from __future__ import annotations

import os

from ..bundle import RUNTIME_HOOKS
from ..errors import HostError, SpecError
from ..frozen import Frozen
from ..plan import NONE, Plan, nul_ended, op
from .container_groups import Hierarchies, add_groups, find_groups, join_classes, join_groups
from .container_mounts import ContainerMounts, id_map, is_release
from .container_process import ProcessBuilder, proc_of_our_own
from .parts import Sections, Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..bundle import Bundle

__all__ = ["NAMESPACES", "CompiledContainer", "compile_container", "compile_inside"]

NAMESPACES = {
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "time": 0x80,
}
FILES = {"mount": "mnt", "network": "net"}
"""How /proc/PID/ns calls those that it calls otherwise."""

SIGKILL = 9
IDS, HOOKS = 1, 2


class CompiledContainer(Frozen):
    """The plan of a container, its groups, the slot of our end of its terminal's socket, what
    could not be given, and the CPUs to start it on, where the runtime has to change to others.
    """

    plan: Plan
    groups: Hierarchies
    terminal: int
    lost: tuple[str, ...]
    cpus: tuple[int, ...] = ()


class Namespaces(Frozen):
    """Which namespaces are new, and which are entered by path."""

    new: int
    joined: tuple[tuple[str, str], ...]

    def has(self, kind: str) -> bool:
        """Return whether the container does not share the runtime's namespace of that kind."""
        return bool(self.new & NAMESPACES[kind]) or any(name == kind for name, _ in self.joined)


def read_namespaces(bundle: Bundle) -> Namespaces:
    """Return the namespaces that the configuration asks for; raises SpecError."""
    new, joined, seen = 0, [], set()
    for at, each in enumerate(bundle.linux.get("namespaces", [])):
        kind, path = each["type"], each.get("path", "")
        where = f"linux.namespaces[{at}]"
        if kind not in NAMESPACES:
            raise SpecError(
                f"{where}.type {kind!r} is unknown", hint=f"one of {', '.join(NAMESPACES)}"
            )
        if kind in seen:
            raise SpecError(f"{where}: the namespace {kind!r} is asked for twice")
        seen.add(kind)
        if not path:
            new |= NAMESPACES[kind]
        elif not path.startswith("/"):
            raise SpecError(f"{where}.path {path!r} is not an absolute path")
        else:
            joined.append((kind, path))
    return Namespaces(new, tuple(joined))


def enters_time_on_exec(release: str) -> bool:
    """Return whether execve(2) enters the time namespace that was made: before Linux 6.2 only a
    child with memory of its own did.
    """
    return is_release(release, 6, 2)


def allows_setgroups(pid: str) -> bool:
    """Return whether a process's user namespace, and those made in it, allow setgroups(2)."""
    try:
        with open(f"/proc/{pid}/setgroups", "rb", buffering=0) as file:
            return file.read() != b"deny\n"
    except OSError:
        return True


class ContainerBuilder:
    """Collects the operations of one container."""

    def __init__(self, bundle: Bundle, *, full_identity: bool) -> None:
        self.bundle = bundle
        self.linux = bundle.linux
        self.slots = Slots()
        self.parts = Sections()
        self.spaces = read_namespaces(bundle)
        self.full_identity = full_identity
        self.proc = NONE
        self.clone = 0
        self.hook_output = NONE
        self.reforks = False

    def _enter(self, name: str, *values: int | str | bytes) -> None:
        self.parts.enter.append(op(name, *values))

    def build(self) -> CompiledContainer:
        """Return the compiled container."""
        self._check()
        found = find_groups(self.bundle)
        self._enter("parent-death", SIGKILL)
        devices = self.full_identity and not os.geteuid()
        groups = add_groups(self.bundle, found, self.slots, self.parts, devices=devices)
        join_classes(self.bundle.classes, self.slots, self.parts)
        self._namespaces()
        self._enter("session")
        self._names()
        private_ids = self.spaces.has("user") or not self.full_identity
        owned = self.spaces.has("pid") or not private_ids
        mounts = ContainerMounts(
            self.bundle,
            groups,
            self.slots,
            self.parts,
            binds=private_ids,
            shared=not self.spaces.has("mount"),
        )
        if self.bundle.hook_output >= 0:
            self.hook_output = self.slots()
            self.parts.load.append(op("inherit", self.hook_output, self.bundle.hook_output))
        self._proc_first(owned=owned)
        process = ProcessBuilder(self.bundle, self.slots, self.parts)
        process.open_proc(owned=owned)
        mounts.build()
        self._sysctls()
        process.prepare()
        self._hooks()
        mounts.finish()
        process.enter(
            self.bundle.linux.get("seccomp"),
            private_ids=private_ids,
            sets_groups=not self._one_id() and allows_setgroups("self"),
        )
        boot = process.boot(self.bundle.config.get("hooks", {}).get("startContainer", []))
        operations = [
            *self.parts.load,
            *self.parts.prepare,
            op("clone", self.clone, groups.into),
            *self.parts.adopt,
            *self.parts.enter,
            boot,
            *self.parts.release,
        ]
        lost = tuple(self.parts.lost)
        return CompiledContainer(Plan(operations), found, process.terminal, lost)

    def _check(self) -> None:
        config, spaces = self.bundle.config, self.spaces
        for key in ("hostname", "domainname"):
            if config.get(key) and not spaces.has("uts"):
                raise SpecError(f"{key} {config[key]!r} needs a uts namespace")
        if spaces.new & NAMESPACES["user"]:
            for key in ("uidMappings", "gidMappings"):
                if not self.linux.get(key):
                    raise SpecError(f"a new user namespace needs linux.{key}")
        elif not spaces.has("user") and (
            self.linux.get("uidMappings") or self.linux.get("gidMappings")
        ):
            raise SpecError("linux.uidMappings are given, but no user namespace")
        if spaces.has("user") and not spaces.has("mount"):
            raise SpecError(
                "a container with a user namespace needs a mount namespace",
                hint="add it to linux.namespaces",
            )
        if self.linux.get("timeOffsets") and not spaces.new & NAMESPACES["time"]:
            raise SpecError("linux.timeOffsets need a new time namespace")
        if self.linux.get("timeOffsets") and not enters_time_on_exec(os.uname().release):
            raise HostError(
                "linux.timeOffsets: execve enters a new time namespace from Linux 6.2 on only",
                hint="leave them out, or boot a later kernel",
            )

    # Namespaces and ids.

    def _namespaces(self) -> None:
        late = NAMESPACES["cgroup"] | NAMESPACES["time"]
        new = self.spaces.new & ~late
        paths = dict(self.spaces.joined)
        maps = bool(new & NAMESPACES["user"])
        after = "user" in paths or (maps and paths)
        self.clone = 0 if after else new
        self._join(paths)
        if after and maps:
            self._enter("unshare", NAMESPACES["user"])
            self._enter("reach", IDS)
            self.parts.adopt.append(op("meet", IDS))
            new &= ~NAMESPACES["user"]
        if maps:
            self._maps()
            self._enter("wait-for", IDS)
        if maps or "user" in paths:
            self._enter("become", 0, 0)
        if after and new:
            self._enter("unshare", new)
        if after and new & NAMESPACES["pid"]:
            self._enter("refork")
        if self.spaces.new & NAMESPACES["cgroup"]:
            self._enter("unshare", NAMESPACES["cgroup"])
        if self.spaces.new & NAMESPACES["network"]:
            self._enter("loopback")

    def _join(self, paths: dict[str, str]) -> None:
        """Enter namespaces: that of users first, whose capabilities the others may need, and that
        of processes last, which goes on in a new process.
        """
        order = ["user", *(kind for kind in paths if kind not in ("user", "pid", "mount")), "mount"]
        for kind in [*order, "pid"]:
            if kind not in paths:
                continue
            slot = self.slots()
            self.parts.load.append(op("namespace", slot, paths[kind]))
            if kind == "time":
                self.parts.prepare.append(op("time-join", slot, self.slots()))
            else:
                self._enter("join", slot, NAMESPACES[kind], 0)

    def _one_id(self) -> bool:
        """Return whether an ordinary user maps just the own ids, which needs no helper."""
        maps = self.linux.get("uidMappings", []), self.linux.get("gidMappings", [])
        return os.geteuid() != 0 and all(len(ids) == 1 and ids[0]["size"] == 1 for ids in maps)

    def _maps(self) -> None:
        uids, gids = self.linux["uidMappings"], self.linux["gidMappings"]
        adopt = self.parts.adopt
        if os.geteuid() == 0 or self._one_id():
            if os.geteuid():
                adopt.append(op("setgroups-deny"))
            adopt.append(op("map", "/uid_map", id_map(uids)))
            adopt.append(op("map", "/gid_map", id_map(gids)))
        else:
            for name, ids in (("uid", uids), ("gid", gids)):
                words = ["{pid}", *id_map(ids).split()]
                adopt.append(op("helper", f"/usr/bin/new{name}map", nul_ended(words)))
        adopt.append(op("permit", IDS))

    def _names(self) -> None:
        config = self.bundle.config
        if config.get("hostname"):
            self._enter("hostname", config["hostname"])
        if config.get("domainname"):
            self._enter("domainname", config["domainname"])

    # What is written to the kernel's files goes through a proc of our own, in which no image or
    # other container can have laid something else (CVE-2025-52881).

    def _proc_first(self, *, owned: bool) -> None:
        offsets = self.linux.get("timeOffsets", {})
        if self.spaces.new & NAMESPACES["time"]:
            self._enter("unshare", NAMESPACES["time"])
        if not offsets and not self.linux.get("sysctl"):
            return
        self.proc = self.slots()
        self.parts.enter.append(proc_of_our_own(self.proc, b"", owned=owned))
        for clock, offset in offsets.items():
            if clock not in ("monotonic", "boottime"):
                raise SpecError(
                    f"linux.timeOffsets: clock {clock!r} is unknown", hint="monotonic or boottime"
                )
            text = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
            self._enter("write", self.proc, "self/timens_offsets", text)

    def _sysctls(self) -> None:
        for name, value in self.linux.get("sysctl", {}).items():
            path = name.replace(".", "/")
            if ".." in path.split("/") or not path.strip("/"):
                raise SpecError(f"linux.sysctl {name!r} is malformed")
            kind = sysctl_namespace(path)
            if not kind or not self.spaces.has(kind):
                raise SpecError(
                    f"linux.sysctl {name!r} is not of a namespace of this container",
                    hint=f"it needs a {kind} namespace" if kind else "it would change the host",
                )
            self._enter("write", self.proc, f"sys/{path.strip('/')}", value)

    # Hooks.

    def _hooks(self) -> None:
        hooks = self.bundle.config.get("hooks", {})
        runtime = [
            op("hook", *self._hook(hook, status))
            for kind, status in RUNTIME_HOOKS
            for hook in hooks.get(kind, [])
        ]
        if runtime:
            self._enter("reach", HOOKS)
            self.parts.adopt += [op("meet", HOOKS), *runtime]
        if self.parts.adopt:
            self._enter("await")
        for hook in hooks.get("createContainer", []):
            self._enter("hook-inside", *self._hook(hook, "creating"))

    def _hook(
        self, hook: dict[str, Any], status: str
    ) -> tuple[str, bytes, bytes, bytes, bytes, int, int]:
        before, after = self.bundle.state(status)
        arguments = nul_ended(hook.get("args") or [hook["path"]])
        environment = nul_ended(hook.get("env", []))
        halves = before.encode(), after.encode()
        timeout = hook.get("timeout", 0)
        return hook["path"], arguments, environment, *halves, timeout, self.hook_output


_SYSCTLS = (
    ("net/", "network"),
    ("fs/mqueue/", "ipc"),
    ("kernel/msgmax", "ipc"),
    ("kernel/msgmnb", "ipc"),
    ("kernel/msgmni", "ipc"),
    ("kernel/msg_next_id", "ipc"),
    ("kernel/sem", "ipc"),
    ("kernel/shm", "ipc"),
    ("kernel/domainname", "uts"),
)


def sysctl_namespace(path: str) -> str:
    """Return the kind of namespace that a sysctl belongs to; empty: the whole host."""
    for prefix, kind in _SYSCTLS:
        if path.startswith(prefix):
            return kind
    return ""


def compile_container(bundle: Bundle, *, full_identity: bool) -> CompiledContainer:
    """Lower a container to its plan; raises SpecError, HostError.

    `full_identity`: whether this user namespace is the initial one.
    """
    return ContainerBuilder(bundle, full_identity=full_identity).build()


def _join_root(pid: int, pidfd: int, slots: Slots, parts: Sections) -> None:
    """Enter the root of a container that has no mount namespace to enter."""
    import _signal as signals  # `signal` imports enum, 6 ms

    path = f"/proc/{pid}/root"
    try:
        is_ = os.stat(path)
        signals.pidfd_send_signal(pidfd, 0)  # then the path was that of the same process
    except OSError as error:
        raise HostError(f"{path}: {(error.strerror or '').lower()}") from None
    root = slots()
    parts.load.append(op("open", root, path, 0))
    parts.load.append(op("expect-file", root, is_.st_dev, is_.st_ino))
    parts.enter.append(op("move-root", root))


def compile_inside(
    bundle: Bundle, folders: list[str], pid: int, pidfd: int, *, full_identity: bool
) -> CompiledContainer:
    """Lower `bundle.process` to a plan that runs it in the running container whose first process is
    `pid`, opened as `pidfd`, and whose groups are at `folders`.
    """
    slots, parts = Slots(), Sections()
    into = join_groups([folder for folder in folders if os.path.isdir(folder)], slots, parts)
    join_classes(bundle.classes, slots, parts)
    flags = 0
    for kind, flag in NAMESPACES.items():
        file = FILES.get(kind, kind)
        try:
            there = os.stat(f"/proc/{pid}/ns/{file}").st_ino
            here = os.stat(f"/proc/self/ns/{file}").st_ino
        except OSError as error:
            raise HostError(f"{error.filename}: {(error.strerror or '').lower()}") from None
        if there != here:
            flags |= flag
    target = slots()
    parts.load.append(op("inherit", target, pidfd))
    if flags & NAMESPACES["time"] and os.geteuid() == 0:
        # the runtime itself enters it; an ordinary user may from the user namespace only
        flags &= ~NAMESPACES["time"]
        parts.prepare.append(op("time-join", target, slots()))
    if flags:
        parts.enter.append(op("join", target, flags, 0))
    if not flags & NAMESPACES["mount"]:
        _join_root(pid, pidfd, slots, parts)
    user = bool(flags & NAMESPACES["user"])
    if user:
        parts.enter.append(op("become", 0, 0))
    parts.enter.append(op("session"))
    process = ProcessBuilder(bundle, slots, parts)
    process.open_proc(owned=True)
    process.prepare()
    cpus = process.affinity()
    private_ids = user or not full_identity
    seccomp, sets_groups = bundle.linux.get("seccomp"), allows_setgroups(str(pid))
    process.enter(seccomp, private_ids=private_ids, sets_groups=sets_groups, makes_cwd=False)
    boot = process.boot([])
    operations = [*parts.load, *parts.prepare, op("clone", 0, into), *parts.enter]
    plan = Plan([*operations, boot])
    lost = tuple(parts.lost)
    return CompiledContainer(plan, Hierarchies((), False), process.terminal, lost, cpus)
