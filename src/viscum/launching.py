"""Specs on this host: compiled once, loaded once, launched many times."""

from __future__ import annotations

import errno
import os
import warnings
from _thread import allocate_lock

from . import host as host_module
from . import native
from .drivers.process import Compiled, compile_exec, compile_plan
from .errors import HostError, LaunchError, ViscumWarning
from .frozen import Frozen
from .guard import capabilities
from .guard.filter import compile_filter
from .resources.delegation import delegate
from .resources.limits import PREFIX
from .sweep import sweep_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host
    from .spec import Spec

__all__ = ["Ready", "compile_command", "compile_machine", "new_id", "ready", "this_host"]

INIT = os.path.join(os.path.dirname(__file__), "bin", "viscum-init")
MAX_KEPT = 64
"""Plans that are kept loaded; each holds about eight descriptors."""


class Ready(Frozen):
    """A compiled plan, loaded into the core, and the files of the host that it opened."""

    compiled: Compiled
    loaded: native.CorePlan
    opened: tuple[tuple[str, int, int], ...] = ()

    def is_fresh(self) -> bool:
        """Return whether the files that the plan opened are still the ones at their paths."""
        try:
            return all(
                (is_.st_dev, is_.st_ino) == (device, inode)
                for is_, device, inode in ((os.stat(p), d, i) for p, d, i in self.opened)
            )
        except OSError:
            return False


_host: tuple[int, int, Host] | None = None
_kept: dict[object, Ready] = {}
_warned: set[str] = set()
_lock = allocate_lock()


def this_host() -> Host:
    """Return this host, probed once for each process and user; the first time, what crashed
    processes left on it is removed.
    """
    global _host  # noqa: PLW0603 - one host
    known = _host
    if known is None or known[:2] != (os.getpid(), os.geteuid()):
        _kept.clear()  # of a parent that forked: its descriptors may be closed by now
        probed = host_module.probe()
        sweep_groups(probed.cgroups)
        probed = probed.replace(cgroups=delegate(probed.cgroups))
        known = _host = (os.getpid(), os.geteuid(), probed)
    return known[2]


def recall(key: object) -> Ready | None:
    """Return the plan that was kept under `key`, if what it opened is still there."""
    known = _kept.get(key)
    return known if known is not None and (not known.opened or known.is_fresh()) else None


def keep(key: object, made: Ready) -> None:
    """Keep a loaded plan under `key`."""
    with _lock:
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[key] = made


def new_id() -> str:
    """Return an id for a new machine of this process; also the name of its groups."""
    return PREFIX + host_module.own_id()


def python_path() -> str:
    """Return the interpreter that commands of this Viscum run with."""
    import sys

    return sys.executable


def _filter(spec: Spec, host: Host) -> bytes:
    return compile_filter(spec.seccomp, capabilities.effective(spec.cap_add, spec.cap_drop), host)


def _unreadable(error: OSError) -> HostError:
    reason = (error.strerror or "cannot be read").lower()
    return HostError(f"{error.filename or 'this host'}: {reason}", hint="raise ulimit -n?")


def compile_machine(spec: Spec, host: Host) -> Compiled:
    """Return the plan that launches a machine of `spec`."""
    try:
        return compile_plan(spec, host, init=INIT, seccomp=_filter(spec, host))
    except OSError as error:
        raise _unreadable(error) from None


def compile_command(spec: Spec, host: Host, folders: tuple[str, ...], into: str) -> Compiled:
    """Return the plan that runs the command of `spec` in a running machine."""
    return compile_exec(spec, host, folders, into, seccomp=_filter(spec, host))


def _opened(compiled: Compiled) -> tuple[tuple[str, int, int], ...]:
    paths: dict[object, str] = {}
    opened = []
    for operation in compiled.plan.operations:
        if operation.name == "open":
            paths[operation["slot"]] = str(operation["path"])
        elif operation.name == "expect-file":
            path = paths[operation["slot"]]
            if path != "/":
                opened.append((path, operation["dev"], operation["ino"]))
    return tuple(opened)  # type: ignore[arg-type]


def load_quietly(compiled: Compiled) -> Ready:
    """Load a compiled plan into the core; kept plans go where descriptors run out."""
    try:
        return Ready(compiled, native.load(compiled.plan), _opened(compiled))
    except LaunchError as error:
        if error.errno != errno.EMFILE or not _kept:
            raise
    _kept.clear()
    return Ready(compiled, native.load(compiled.plan), _opened(compiled))


def hold_io(spec: Spec) -> None:
    """Have the bounds of I/O hold buffered writes too, on disks that only this machine has."""
    paths = [mount.source for mount in spec.mounts if mount.source]
    folder = dict(this_host().cgroups.v1).get("blkio")
    if folder and (paths or spec.limits.io):
        from .resources.buffered import hold_buffered, release_buffered

        try:
            hold_buffered(spec.limits.io, folder)
            release_buffered(paths, spec.limits.io, folder)
        except OSError as error:
            raise _unreadable(error) from None


def warn_of_lost(compiled: Compiled) -> None:
    """Say what the host could not give, once."""
    for lost in compiled.lost:
        if lost not in _warned:
            _warned.add(lost)
            warnings.warn(f"this host cannot give {lost}", ViscumWarning, stacklevel=5)


def load(compiled: Compiled) -> Ready:
    """Load a compiled plan into the core. What the host could not give is said, once."""
    warn_of_lost(compiled)
    return load_quietly(compiled)


def ready(spec: Spec) -> Ready:
    """Return the loaded plan of `spec`; the second time, the one of the first."""
    host = this_host()
    hold_io(spec)
    known = recall(spec)
    if known is not None:
        return known
    made = load(compile_machine(spec, host))
    if spec.seccomp in ("default", "unconfined"):  # the file of another profile may change
        keep(spec, made)
    return made
