"""Viscum: parasitic virtualisation. A virtual machine is an ordinary process of its host.

import viscum
result = viscum.run(["python3", "-c", "print(6*7)"], memory="512M", cpus=1.5, timeout=5)
with viscum.Machine(rootfs="/srv/root") as machine:
machine.run(["uname", "-a"])
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .asynchronous import run_async
    from .errors import (
        CommandNotExecutable,
        CommandNotFound,
        HostError,
        LaunchError,
        MachineError,
        PlanError,
        SpecError,
        TimeoutExpired,
        TrustError,
        ViscumError,
        ViscumWarning,
    )
    from .machine import Machine
    from .process import DEVNULL, PIPE, STDOUT, Process
    from .resources.usage import Usage
    from .result import Result
    from .running import run
    from .spec import Device, Limits, Mount, Rlimit, Spec

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CommandNotExecutable",
    "CommandNotFound",
    "Device",
    "HostError",
    "LaunchError",
    "Limits",
    "Machine",
    "MachineError",
    "Mount",
    "PlanError",
    "Process",
    "Result",
    "Rlimit",
    "Spec",
    "SpecError",
    "TimeoutExpired",
    "TrustError",
    "Usage",
    "ViscumError",
    "ViscumWarning",
    "__version__",
    "run",
    "run_async",
]

__version__ = "0.1.0"

_HOMES = {
    "running": "run",
    "asynchronous": "run_async",
    "machine": "Machine",
    "process": "DEVNULL PIPE STDOUT Process",
    "result": "Result",
    "spec": "Device Limits Mount Rlimit Spec",
    "resources.usage": "Usage",
    "errors": "CommandNotExecutable CommandNotFound HostError LaunchError MachineError PlanError "
    "SpecError TimeoutExpired TrustError ViscumError ViscumWarning",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'viscum' has no attribute {name!r}")
    try:
        home = __import__(f"{__name__}.{_HOME_OF[name]}", fromlist=[name])
    except OSError as error:
        from .errors import HostError

        reason = (error.strerror or "cannot be read").lower()
        raise HostError(f"cannot load {name}: {reason}", hint="raise ulimit -n") from None
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
