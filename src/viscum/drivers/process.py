"""The process driver: a machine made of namespaces, groups, a root of its own and a guard.

`compile_plan` is pure: the same spec and host give the same operations. The order of the
operations of `enter` is the order of this file.
"""

from __future__ import annotations

import os

from ..errors import HostError, SpecError
from ..frozen import Frozen
from ..guard import capabilities
from ..plan import (
    LIFE_SLOT,
    NETWORK_SLOT,
    NONE,
    TARGET_SLOT,
    Plan,
    nul_ended,
    op,
)
from ..resources.limits import Groups, compile_groups
from ..resources.usage import usage_files
from ..spec import DEFAULT_PATH, LINK, SHARED
from .parts import RLIMITS, Sections, Slots
from .root import RootBuilder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Host
    from ..limits import Limits
    from ..plan import Operation
    from ..spec import Spec

__all__ = ["Compiled", "compile_exec", "compile_plan"]

CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC_PRIVATE = 0x4000 | 0x40000
SIGKILL = 9

UMASK = 0o22
RANGE = 65536
BASE_ID = 0x2000_0000
"""The unprivileged ids that root's machines are mapped to; the range that systemd.resource
reserves for containers holds it."""

PASTA_CLOSED = "--no-map-gw -t none -u none -T none -U none".split()
LIFE_NUMBER = 3


class Compiled(Frozen):
    """A plan, what the host could not give of it, and where to look at the machine."""

    plan: Plan
    lost: tuple[str, ...]
    groups: Groups
    files: tuple[tuple[int, str], ...]
    kill_slot: int
    terminal_slot: int
    owner: tuple[int, int] = (0, 0)
    """The machine's user and group as the host knows them."""


class Ids(Frozen):
    """How the machine's ids map to the host's."""

    namespace: bool
    base_uid: int
    base_gid: int
    count: int
    helper: bool

    @property
    def uid_map(self) -> str:
        """The line of /proc/PID/uid_map."""
        return f"0 {self.base_uid} {self.count}"

    @property
    def gid_map(self) -> str:
        """The line of /proc/PID/gid_map."""
        return f"0 {self.base_gid} {self.count}"


def choose_ids(spec: Spec, host: Host) -> Ids:
    """Return the id map of a machine: a range of root's, subordinate ids, or one's own id."""
    if spec.userns == "host":
        if not host.capable:
            raise HostError(
                "the host's user namespace needs privileges that this user lacks",
                hint="leave --userns private",
            )
        return Ids(False, 0, 0, 1 << 32, False)
    if not host.user_namespaces:
        raise HostError(
            "this host allows no user namespaces",
            hint="sysctl user.max_user_namespaces=65536, or as root --userns host",
        )
    if host.capable and host.full_identity:
        return Ids(True, BASE_ID, BASE_ID, RANGE, False)
    if host.capable:
        # In a user namespace: the last of its ids, which are all it has where they are few.
        base = max(0, host.ids - RANGE)
        return Ids(True, base, base, min(host.ids, RANGE), False)
    if host.subordinate:
        return Ids(True, host.uid, host.gid, RANGE, True)
    return Ids(True, host.uid, host.gid, 1, False)


def owner_of(spec: Spec, ids: Ids) -> tuple[int, int]:
    """Return the host's ids of the machine's user, as far as they are one range."""
    uid, gid, _ = spec.identity
    if not ids.namespace or (ids.helper and (uid or gid)):
        return uid, gid
    return ids.base_uid + uid, ids.base_gid + gid


def compile_exec(
    spec: Spec, host: Host, folders: tuple[str, ...], into: str, *, seccomp: bytes = b""
) -> Compiled:
    """Lower the command of `spec` to a plan that runs it in a machine that is already there.

    The machine's first process is given at the launch; `folders` are its v1 groups and `into`
    its v2 group (empty for none). The guard is the one that a launch of `spec` would have.
    """
    slots, parts = Slots(), Sections()
    ids = choose_ids(spec, host)
    for folder in folders:
        group, tasks = slots(), slots()
        parts.load.append(op("open", group, folder, os.O_DIRECTORY))
        parts.prepare.append(op("cgroup-open", tasks, group, "tasks"))
        parts.enter.append(op("cgroup-join", tasks))
    group = slots() if into else NONE
    if into:
        parts.load.append(op("open", group, into, os.O_DIRECTORY))
    terminal = _prepare_terminal(spec, slots, parts)
    flags = _namespace_flags(spec, ids) | _shared_flags(spec, ids)
    flags |= CLONE_NEWCGROUP if folders or into else 0
    flags |= CLONE_NEWNET if spec.network == "none" else 0
    parts.enter.append(op("join", TARGET_SLOT, flags, 0))
    if ids.namespace:
        parts.enter.append(op("become", 0, 0))
    parts.enter.append(op("umask", UMASK))
    _identity(spec.replace(uts="host", network="host"), parts, terminal)
    _guard(spec, host, ids, parts, seccomp, dies_with_parent=False)
    operations = [*parts.load, *parts.prepare, op("clone", 0, group), *parts.enter]
    operations.append(_exec(spec, NONE))
    groups = Groups((), (), (), (), ())
    return Compiled(Plan(operations), (), groups, (), NONE, terminal[0], owner_of(spec, ids))


def compile_plan(spec: Spec, host: Host, *, init: str = "", seccomp: bytes = b"") -> Compiled:
    """Lower `spec` to a plan for `host`.

    `init` is the path of viscum-init, needed with `init` and `idle`; `seccomp` is the compiled
    filter, empty for none. Raises SpecError, HostError.
    """
    slots, parts = Slots(), Sections()
    ids = choose_ids(spec, host)
    parts.load.append(op("expect-host", host.machine, host.release))
    limits = _limits(spec, host)
    groups = compile_groups(limits, host.cgroups, slots, resizable=spec.lives or spec.detached)
    parts.load += groups.load
    parts.prepare += groups.prepare
    parts.release += groups.release
    parts.lost += groups.lost
    if spec.pid != "private" and groups.into == NONE:
        raise HostError(
            "with the process ids of others only a cgroup of version 2 can end all of a machine, "
            "and there is none here",
            hint="leave --pid private",
        )
    terminal = _prepare_terminal(spec, slots, parts)
    parts.enter.append(op("umask", UMASK))  # before the first folder is made
    _namespaces(spec, host, ids, groups, slots, parts)
    root = RootBuilder(spec, host, ids, slots, parts)
    root.build(groups)
    init_slot = _open_init(spec, init, slots, parts)
    _identity(spec, parts, terminal)
    dies = spec.ends_with_monitor if spec.detached else not spec.lives
    _guard(spec, host, ids, parts, seccomp, dies_with_parent=dies)
    if parts.lost and spec.strict:
        raise HostError(
            f"this host cannot give {parts.lost[0]}", hint="drop --strict to go without"
        )
    operations = [
        *parts.load,
        *parts.prepare,
        op("clone", 0 if spec.shares else _namespace_flags(spec, ids), groups.into),
        *parts.adopt,
    ]
    operations += [*parts.enter, _exec(spec, init_slot), *parts.release]
    return Compiled(
        Plan(operations),
        tuple(parts.lost),
        groups,
        usage_files(groups, v1="memory" in dict(host.cgroups.v1)),
        groups.slot("") if spec.pid != "private" else NONE,
        terminal[0],
        owner_of(spec, ids),
    )


def _limits(spec: Spec, host: Host) -> Limits:
    if spec.oom_policy == "kill":
        return spec.limits
    from ..resources.oom import limits_for_policy

    version = 1 if "memory" in dict(host.cgroups.v1) else 2
    return limits_for_policy(spec.limits, spec.oom_policy, version)


def _namespace_flags(spec: Spec, ids: Ids) -> int:
    flags = CLONE_NEWNS
    flags |= CLONE_NEWUSER if ids.namespace else 0
    flags |= CLONE_NEWPID if spec.pid == "private" else 0
    flags |= CLONE_NEWIPC if spec.ipc == "private" else 0
    flags |= CLONE_NEWUTS if spec.uts == "private" else 0
    return flags | (CLONE_NEWNET if _clones_network(spec) else 0)


def _clones_network(spec: Spec) -> bool:
    """Whether the network namespace comes with the clone: it is made beside it for most machines,
    but pasta has to find it, and a process beside a joining child has no stack.
    """
    return spec.network == "private" or (spec.network == "none" and spec.shares)


def _shared_flags(spec: Spec, ids: Ids) -> int:
    """Return the namespaces of another machine that are entered, its user namespace with them."""
    flags = CLONE_NEWUSER if ids.namespace and spec.shares else 0
    flags |= CLONE_NEWPID if spec.pid == SHARED else 0
    flags |= CLONE_NEWIPC if spec.ipc == SHARED else 0
    return flags | (CLONE_NEWNET if spec.network == SHARED else 0)


def _prepare_terminal(spec: Spec, slots: Slots, parts: Sections) -> tuple[int, int]:
    if not spec.tty:
        return NONE, NONE
    near, far = slots(), slots()
    parts.prepare.append(op("sockets", near, far))
    return near, far


def _namespaces(
    spec: Spec, host: Host, ids: Ids, groups: Groups, slots: Slots, parts: Sections
) -> None:
    if spec.shares:  # a user namespace that is shared has no say over the host's groups
        own = _namespace_flags(spec, ids.replace(namespace=False))
        parts.enter += groups.enter
        parts.enter.append(op("join", TARGET_SLOT, _shared_flags(spec, ids), own))
    elif ids.namespace and ids.helper and host.subordinate:
        (uid, _), (gid, _) = host.subordinate
        rest = RANGE - 1
        for helper, own, first in (("uid", host.uid, uid), ("gid", host.gid, gid)):
            words = ["{pid}", "0", str(own), "1", "1", str(first), str(rest)]
            parts.adopt.append(op("helper", f"/usr/bin/new{helper}map", nul_ended(words)))
    elif ids.namespace:
        if ids.count == 1:
            parts.adopt.append(op("setgroups-deny"))
        parts.adopt.append(op("map", "/uid_map", ids.uid_map))
        parts.adopt.append(op("map", "/gid_map", ids.gid_map))
    if spec.network == "private":
        _way_out(host, groups, slots, parts)
    if spec.limits.of_network:
        _bound_link(spec, host, ids, parts)
    # What needs no ids is done while the parent writes their maps.
    if spec.network == "none" and not spec.shares:
        parts.enter.append(op("network-make", NETWORK_SLOT))
    if not spec.shares:
        parts.enter += groups.enter
    if groups.slots:
        parts.enter.append(op("unshare", CLONE_NEWCGROUP))
    parts.enter.append(op("propagation", MS_REC_PRIVATE))
    if parts.adopt:
        parts.enter.append(op("await"))
    if ids.namespace:
        parts.enter.append(op("become", 0, 0))


def _way_out(host: Host, groups: Groups, slots: Slots, parts: Sections) -> None:
    """Have pasta(1) carry the machine's connections; it writes its pid once it is ready. It is
    told to forward no ports, and nothing to the host's own loopback.
    """
    if not host.pasta:
        raise HostError(
            "network private needs pasta, which this host lacks", hint="apt-get install passt"
        )
    words = ["--quiet", "--foreground", "--config-net", "--pid", "/proc/self/fd/3"]
    words += ["--ns-ifname", LINK]
    words += PASTA_CLOSED
    words += [*(["--runas", "0"] if host.uid == 0 else []), "{pid}"]
    slot = slots()
    parts.adopt.append(op("service", host.pasta, nul_ended(words), slot, groups.into))
    parts.release.insert(0, op("service-end", slot))


def _bound_link(spec: Spec, host: Host, ids: Ids, parts: Sections) -> None:
    """Limit the link that pasta made, while the child waits."""
    from ..resources.link import NSENTER, shaping

    if not host.shapes_links:
        raise HostError(
            "network-max needs nsenter, ip and tc, which this host lacks",
            hint="apt-get install util-linux iproute2",
        )
    where = ["--target", "{pid}", "--net"]
    if ids.namespace and host.uid:
        where += ["--user", "--preserve-credentials"]
    parts.adopt.append(op("helper", NSENTER, nul_ended(shaping(where, spec.limits))))


def _open_init(spec: Spec, init: str, slots: Slots, parts: Sections) -> int:
    if not (spec.init or spec.idle):
        return NONE
    slot = slots()
    parts.load.append(op("program", slot, init))
    return slot


def _identity(spec: Spec, parts: Sections, terminal: tuple[int, int]) -> None:
    enter = parts.enter
    if spec.uts == "private":
        enter.append(op("hostname", spec.hostname or "viscum"))
    if _clones_network(spec):
        enter.append(op("loopback"))
    for limit in spec.rlimits:
        if limit.name not in RLIMITS:
            raise SpecError(
                f"ulimit {limit.name!r} is unknown", hint=f"one of {', '.join(RLIMITS)}"
            )
        enter.append(op("rlimit", RLIMITS.index(limit.name), limit.soft, limit.hard))
    enter.append(op("session"))
    if terminal[1] != NONE:
        enter.append(op("terminal", terminal[1]))
    enter.append(op("stdio"))


def _guard(
    spec: Spec, host: Host, ids: Ids, parts: Sections, seccomp: bytes, *, dies_with_parent: bool
) -> None:
    enter = parts.enter
    kept = capabilities.mask(capabilities.effective(spec.cap_add, spec.cap_drop))
    kept &= (1 << host.last_capability + 1) - 1
    uid, gid, groups = spec.identity
    if not ids.namespace or ids.count > 1:
        enter.append(op("groups", " ".join(map(str, groups))))
    elif groups:
        parts.lost.append("additional groups (one id only)")
    if max(uid, gid, *groups, 0) >= ids.count:
        raise HostError(
            f"user {uid}:{gid} is outside of the machine's {ids.count} ids",
            hint="give this user subordinate ids in /etc/subuid and /etc/subgid, or use root",
        )
    enter.append(op("capabilities", kept))
    enter.append(op("user", uid, gid, int(uid != 0)))
    if spec.workdir and spec.workdir != "/":
        enter.append(op("working-folder", spec.workdir))
    if dies_with_parent:
        enter.append(op("parent-death", SIGKILL))
    if spec.no_new_privileges:
        enter.append(op("no-new-privileges"))
    if spec.seccomp != "default":  # which allows no keyctl
        enter.append(op("session-keyring"))
    _landlock(spec, host, parts)
    enter.append(op("close"))
    if spec.lives:
        enter.append(op("pass", LIFE_SLOT, LIFE_NUMBER))
    if seccomp:
        enter.append(op("seccomp", seccomp, 0))


SCOPE_ABSTRACT_UNIX = 1
SCOPE_SIGNAL = 2


def _landlock(spec: Spec, host: Host, parts: Sections) -> None:
    """Close what a shared namespace would leave open: abstract sockets, signals."""
    scoped = SCOPE_ABSTRACT_UNIX if spec.network == "host" else 0
    scoped |= SCOPE_SIGNAL if spec.pid == "host" else 0
    if scoped and host.landlock_scopes and spec.no_new_privileges:
        parts.enter.append(op("landlock", scoped))
    elif scoped:
        parts.lost.append("shutting out the host's abstract sockets and signals (Landlock ABI 6)")


def _environment(spec: Spec) -> dict[str, str]:
    environment = {"PATH": DEFAULT_PATH, "HOME": spec.home, "container": "viscum"}
    if spec.uts == "private":
        environment["HOSTNAME"] = spec.hostname or "viscum"
    if spec.tty:
        environment["TERM"] = "xterm"
    environment.update(spec.env)
    return environment


def _exec(spec: Spec, init_slot: int) -> Operation:
    environment = _environment(spec)
    pairs = nul_ended([f"{name}={value}" for name, value in environment.items()])
    if init_slot != NONE:
        words = ["viscum-init", *(["--life", str(LIFE_NUMBER)] if spec.lives else [])]
        words += ["--", *spec.command] if spec.command else ["--idle"]
        return op("exec-slot", init_slot, nul_ended(words), pairs)
    path = environment["PATH"]
    return op("exec", spec.command[0], nul_ended(list(spec.command)), pairs, path)
