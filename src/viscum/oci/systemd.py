"""The cgroup driver of systemd: a transient scope for each container, asked for over D-Bus.

systemd makes a scope around a process that is there already. That is this one: it becomes the
runtime's parent process of the container, which is born in the scope, and leaves the scope again as
soon as it is (the plan's `cgroup-leave`). The scope ends with its last process.

Messages are written and read by jeepney. The connection is made here, because the manager's own
socket has no message bus behind it, and because in a user namespace no claim of a uid fits: the
peer is asked to take the one that it sees.
"""

from __future__ import annotations

import os

from ..errors import HostError, SpecError
from ..host import cgroup_mounts, own_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as sockets
    from typing import Any

    Property = tuple[str, tuple[str, Any]]

__all__ = ["Scope", "abandon", "end_scope", "set_properties", "start_scope"]

SECONDS = 30.0
MAX_LINE = 512
ECONNREFUSED = 111
MANAGER = "org.freedesktop.systemd1.Manager"
NAME = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")


class Scope:
    """A scope that was started: its unit, its group, and the groups that this process came from."""

    def __init__(self, unit: str, group: str, before: tuple[str, ...]) -> None:
        self.unit = unit
        self.group = group
        self.before = before


def scope_name(path: str, identity: str, *, user: bool) -> tuple[str, str]:
    """Return slice and unit that linux.cgroupsPath, `slice:prefix:name`, asks for."""
    parts = path.split(":") if path else ["", "viscum", identity]
    if len(parts) != 3:
        raise SpecError(
            f"linux.cgroupsPath {path!r} is no place of systemd", hint="SLICE:PREFIX:NAME"
        )
    slice_ = parts[0] or ("user.slice" if user else "system.slice")
    prefix, name = parts[1:]
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else name
    unit = unit if unit.endswith((".scope", ".slice")) else unit + ".scope"
    for word in (slice_, unit):
        if set(word) - _PLAIN or word.startswith("."):
            raise SpecError(f"linux.cgroupsPath {path!r}: {word!r} is no name of a unit")
    if not slice_.endswith(".slice"):
        raise SpecError(f"linux.cgroupsPath {path!r}: {slice_!r} is no slice", hint="NAME.slice")
    if unit.endswith(".slice"):
        raise SpecError(f"linux.cgroupsPath {path!r}: a container is a scope, not a slice")
    return slice_, unit


def _mask(text: str) -> bytes:
    """Return a list of CPUs or memory nodes as systemd takes it: bits, the lowest byte first."""
    bits = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        for number in range(int(first), int(last or first) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def properties_of(resources: dict[str, Any], *, unified: bool) -> list[Property]:
    """Return the limits that systemd knows, so that it writes the same ones as we do."""
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    endless = (1 << 64) - 1
    found: list[Property] = []

    def add(name: str, value: int) -> None:
        if value:
            found.append((name, ("t", endless if value < 0 else value)))

    add("MemoryMax" if unified else "MemoryLimit", memory.get("limit", 0))
    if unified:
        add("MemoryLow", memory.get("reservation", 0))
        if memory.get("swap", 0) > 0 and memory.get("limit", 0) > 0:
            add("MemorySwapMax", max(memory["swap"] - memory["limit"], 0))
        from ..resources.control import weight_of

        add("CPUWeight", weight_of(cpu["shares"]) if cpu.get("shares") else 0)
        for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
            if cpu.get(key):
                found.append((name, ("ay", _mask(cpu[key]))))
    else:
        add("CPUShares", cpu.get("shares", 0))
    quota, period = cpu.get("quota", 0), cpu.get("period", 0) or 100000
    if quota:
        # systemd counts in steps of 10 ms a second, and rounds down: never below what was asked for
        per_second = -1 if quota < 0 else -(-quota * 1000000 // period // 10000) * 10000
        add("CPUQuotaPerSecUSec", per_second)
        add("CPUQuotaPeriodUSec", period)
    add("TasksMax", resources.get("pids", {}).get("limit", 0))
    return found


class Manager:
    """A connection to a systemd."""

    def __init__(self, *, user: bool) -> None:
        try:
            import jeepney
        except ImportError:
            raise HostError(
                "the cgroup driver of systemd needs the Python module jeepney",
                hint="pip install 'viscum[systemd]'",
            ) from None
        self.jeepney = jeepney
        self.parser = jeepney.Parser()
        self.serial = 0
        self.waiting: list[Any] = []
        self.peer, self.is_bus = _connect(user=user)
        if self.is_bus:
            self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "Hello")
            rule = f"type='signal',sender='{NAME}',interface='{MANAGER}',member='JobRemoved'"
            self._call("org.freedesktop.DBus", "/org/freedesktop/DBus", "AddMatch", "s", (rule,))
        self.manage("Subscribe")

    def _send(self, message: Any) -> None:
        self.serial += 1
        self.peer.sendall(message.serialise(serial=self.serial))

    def _next(self) -> Any:
        while (message := self.parser.get_next_message()) is None:
            data = self.peer.recv(1 << 16)
            if not data:
                raise HostError("systemd has closed the connection")
            self.parser.add_data(data)
        return message

    def _call(
        self, name: str, path: str, method: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        interface = MANAGER if name == NAME else name
        if method == "Get":
            interface = "org.freedesktop.DBus.Properties"
        address = self.jeepney.DBusAddress(path, bus_name=name, interface=interface)
        fields = self.jeepney.HeaderFields
        try:
            self._send(self.jeepney.new_method_call(address, method, signature or None, body))
            while True:
                message = self._next()
                if message.header.fields.get(fields.reply_serial) == self.serial:
                    break
                self.waiting.append(message)
        except OSError as error:
            raise HostError(
                f"systemd: {method}: {(error.strerror or str(error)).lower()}"
            ) from None
        if message.header.message_type == self.jeepney.MessageType.error:
            kind = message.header.fields.get(fields.error_name, "")
            said = message.body[0] if message.body else kind
            raise HostError(f"systemd refuses {method}: {said} ({kind.rpartition('.')[2]})")
        return tuple(message.body)

    def manage(self, method: str, signature: str = "", body: tuple[Any, ...] = ()) -> Any:
        """Call a method of the manager and return what it returns first."""
        values = self._call(NAME, PATH, method, signature, body)
        return values[0] if values else None

    def read(self, unit: str, interface: str, name: str) -> Any:
        """Return a property of a unit."""
        path = self.manage("GetUnit", "s", (unit,))
        values = self._call(NAME, path, "Get", "ss", (f"{NAME}.{interface}", name))
        return values[0][1]

    def start(self, unit: str, properties: list[Property]) -> None:
        """Start a transient unit; raises HostError where that failed."""
        body: tuple[Any, ...] = (unit, "fail", properties, [])
        self.await_job(self.manage("StartTransientUnit", "ssa(sv)a(sa(sv))", body), unit)

    def await_job(self, job: str, unit: str) -> None:
        """Wait until a job is done; raises HostError where it failed."""
        fields = self.jeepney.HeaderFields
        while True:
            message = self.waiting.pop(0) if self.waiting else self._next()
            if message.header.fields.get(fields.member) != "JobRemoved" or message.body[1] != job:
                continue
            if message.body[3] != "done":
                raise HostError(f"systemd could not start {unit}: {message.body[3]}")
            return

    def close(self) -> None:
        """Close the connection."""
        self.peer.close()


def _addresses(*, user: bool) -> list[tuple[str, bool]]:
    """Return sockets to try, and whether each is a message bus."""
    if not user:
        if not os.path.isdir("/run/systemd/system"):
            raise HostError(
                "the cgroup driver of systemd: no systemd runs here",
                hint="leave --systemd-cgroup out, and set the engine to cgroupfs",
            )
        return [("/run/systemd/private", False), ("/run/dbus/system_bus_socket", True)]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    found = [(f"{runtime}/systemd/private", False)] if runtime else []
    found += [(path, True) for path in bus_paths(os.environ.get("DBUS_SESSION_BUS_ADDRESS", ""))]
    return [*found, *([(f"{runtime}/bus", True)] if runtime else [])]


def bus_paths(text: str) -> list[str]:
    """Return the unix sockets among the addresses of a bus; an abstract one begins with NUL."""
    from urllib.parse import unquote

    found = []
    for address in text.split(";"):
        kind, _, rest = address.partition(":")
        fields = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if kind == "unix" and fields.get("path"):
            found.append(unquote(fields["path"]))
        elif kind == "unix" and fields.get("abstract"):
            found.append("\0" + unquote(fields["abstract"]))
    return found


def _connect(*, user: bool) -> tuple[sockets.socket, bool]:
    import socket

    problem = "no XDG_RUNTIME_DIR is set"
    for path, is_bus in _addresses(user=user):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(SECONDS)
        try:
            peer.connect(path)
            _authenticate(peer)
        except OSError as error:
            peer.close()
            problem = f"{path.replace(chr(0), '@')}: {(error.strerror or str(error)).lower()}"
            continue
        return peer, is_bus
    raise HostError(
        f"the cgroup driver of systemd: {problem}",
        hint="is the user's systemd running? else leave --systemd-cgroup out"
        if user
        else "leave --systemd-cgroup out, and set the engine to cgroupfs",
    )


def _authenticate(peer: sockets.socket) -> None:
    """Have the peer take the uid that it sees (EXTERNAL, with no claim).

    All is sent at once, as systemd's own library does: systemd would not look at a message that
    came in one piece with the last line.
    """

    def line() -> bytes:
        data = b""
        while not data.endswith(b"\r\n"):
            byte = peer.recv(1)
            if not byte or len(data) > MAX_LINE:
                raise ConnectionRefusedError(ECONNREFUSED, "the peer does not authenticate us")
            data += byte
        return data

    peer.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
    answer = line()
    if answer.startswith(b"DATA"):
        answer = line()
    if not answer.startswith(b"OK"):
        raise ConnectionRefusedError(ECONNREFUSED, "the peer refuses this user")


def _is_user() -> bool:
    from .create import full_identity

    return os.geteuid() != 0 or not full_identity()


def _is_unified() -> bool:
    return set(cgroup_mounts()) == {""}


def _places() -> dict[str, str]:
    """Return the folder of this process's group in each hierarchy, by mount point."""
    own = own_groups()
    found = {}
    for name, (point, root) in cgroup_mounts().items():
        path = own.get(name) or own.get("name=" + name) or "/"
        below = path[len(root) :] if root != "/" and path.startswith(root) else path
        found[point] = f"{point}/{below.strip('/')}".rstrip("/")
    return found


def _around_us(description: str, slice_: str) -> list[Property]:
    """Return the properties of a scope around this process."""
    return [
        ("Description", ("s", description)),
        ("Slice", ("s", slice_)),
        ("DefaultDependencies", ("b", False)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("PIDs", ("au", [os.getpid()])),
    ]


def start_scope(config: dict[str, Any], identity: str) -> Scope:
    """Have systemd make a scope around this process, with the limits of the configuration."""
    user, unified = _is_user(), _is_unified()
    if user and not unified:
        raise HostError(
            "the cgroup driver of systemd: a user's systemd gives groups of cgroup v2 only",
            hint="leave --systemd-cgroup out",
        )
    linux = config.get("linux", {})
    slice_, unit = scope_name(linux.get("cgroupsPath", ""), identity, user=user)
    properties = _around_us(f"container {identity}", slice_)
    properties.append(("Delegate", ("b", True)))
    properties += [(f"{name}Accounting", ("b", True)) for name in ("CPU", "Memory", "IO", "Tasks")]
    properties += properties_of(linux.get("resources", {}), unified=unified)
    manager = Manager(user=user)
    try:
        before = _places()
        if user and not all(os.access(f"{path}/cgroup.procs", os.W_OK) for path in before.values()):
            # a session's group, which lets nobody in: the way back leads to a scope of our own
            own = f"viscum-oci-{os.getpid()}.scope"
            manager.start(own, _around_us(f"runtime of container {identity}", "user.slice"))
            before = _places()
        manager.start(unit, properties)
        group = str(manager.read(unit, "Scope", "ControlGroup"))
    finally:
        manager.close()
    after = _places()
    moved = tuple(folder for point, folder in before.items() if after.get(point) != folder)
    return Scope(unit, group, moved)


def set_properties(unit: str, resources: dict[str, Any]) -> None:
    """Tell systemd of new limits, which it would undo at its next reload otherwise."""
    properties = properties_of(resources, unified=_is_unified())
    if not properties:
        return
    manager = Manager(user=_is_user())
    try:
        manager.manage("SetUnitProperties", "sba(sv)", (unit, True, properties))
    finally:
        manager.close()


def abandon(unit: str, before: tuple[str, ...]) -> None:
    """Leave a scope that has no container, and have systemd forget it."""
    for folder in before:
        try:
            with open(f"{folder}/cgroup.procs", "wb", buffering=0) as file:
                file.write(b"0")
        except OSError:
            return  # it ends with this process, and would end it
    try:
        end_scope(unit)
    except HostError:
        return  # what failed before that is what matters


def end_scope(unit: str) -> None:
    """Have systemd forget a scope; that it has already is no error."""
    manager = Manager(user=_is_user())
    try:
        job = manager.manage("StopUnit", "ss", (unit, "replace"))
        manager.await_job(job, unit)
    except HostError as error:
        if "NoSuchUnit" not in str(error):
            raise
    finally:
        manager.close()
