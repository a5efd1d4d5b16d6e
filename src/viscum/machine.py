"""Machines: run one to its end, or keep one and work with it."""

from __future__ import annotations

import os
from _thread import allocate_lock

from . import host as host_module
from . import native
from .drivers.process import Compiled, compile_plan
from .errors import MachineError, SpecError, TimeoutExpired
from .frozen import Frozen
from .resources.limits import PREFIX
from .resources.usage import Usage, oom_kills, usage_from
from .spec import Limits, Mount, Spec, parse_cpus, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .host import Host

__all__ = ["Result", "compile_spec", "run"]

CLD_EXITED = 1
DEFAULT_OUTPUT_LIMIT = 64 << 20
INIT = os.path.join(os.path.dirname(__file__), "bin", "viscum-init")
MAX_CACHED = 256


class Result(Frozen):
    """How a machine ended.

    `exit_code` is the command's own, or 128 + n when signal n ended it. `verdict` is "ok",
    "failed", "timeout", "oom" or "signaled". `truncated` says that output beyond the bound was
    thrown away. `lost` is what the host could not give.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    verdict: str
    usage: Usage
    truncated: bool = False
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with 0."""
        return self.verdict == "ok"


class Ready(Frozen):
    """A compiled plan, loaded into the core."""

    compiled: Compiled
    loaded: native.CorePlan


_host: tuple[int, Host] | None = None
_ready: dict[object, Ready] = {}
_lock = allocate_lock()


def this_host() -> Host:
    """Return this host, probed once for each process and user."""
    global _host  # noqa: PLW0603 - one host
    known = _host
    if known is None or known[0] != os.geteuid():
        known = _host = (os.geteuid(), host_module.probe())
    return known[1]


def compile_spec(spec: Spec, host: Host) -> Compiled:
    """Return the compiled plan of a checked spec, its seccomp filter with it."""
    from .guard import capabilities
    from .guard.filter import compile_filter

    caps = capabilities.effective(spec.cap_add, spec.cap_drop)
    return compile_plan(spec, host, init=INIT, seccomp=compile_filter(spec.seccomp, caps, host))


def ready(spec: Spec) -> Ready:
    """Return the loaded plan of `spec`; the second time, the one of the first."""
    made = _ready.get(spec)
    if made is None:
        compiled = compile_spec(spec, this_host())
        made = Ready(compiled, native.load(compiled.plan))
        with _lock:
            if len(_ready) >= MAX_CACHED:
                _ready.clear()
            _ready[spec] = made
    return made


def exit_code(stat: tuple[int, ...]) -> int:
    """Return the exit code of a status of the core: the command's own, or 128 + signal."""
    return stat[1] if stat[0] == CLD_EXITED else 128 + stat[1]
