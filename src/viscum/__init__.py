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
    from .attaching import Attachment, Output
    from .detached import DetachedMachine, machines
    from .errors import (
        CommandNotExecutable,
        CommandNotFound,
        HostError,
        ImageError,
        LaunchError,
        MachineError,
        PlanError,
        SpecError,
        TimeoutExpired,
        TrustError,
        ViscumError,
        ViscumWarning,
    )
    from .governor import Governor
    from .images import Image
    from .journal import Event, events
    from .limits import IoLimit, Limits
    from .logs import LogEntry
    from .machine import Machine
    from .process import DEVNULL, PIPE, STDOUT, Process
    from .record import Health, LogOptions, Status
    from .resources.usage import DeviceUsage, Pressure, Usage
    from .result import Result
    from .running import run
    from .spec import Device, Mount, Rlimit, Spec

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "Attachment",
    "CommandNotExecutable",
    "CommandNotFound",
    "DetachedMachine",
    "Device",
    "DeviceUsage",
    "Event",
    "Governor",
    "Health",
    "HostError",
    "Image",
    "ImageError",
    "IoLimit",
    "LaunchError",
    "Limits",
    "LogEntry",
    "LogOptions",
    "Machine",
    "MachineError",
    "Mount",
    "Output",
    "PlanError",
    "Pressure",
    "Process",
    "Result",
    "Rlimit",
    "Spec",
    "SpecError",
    "Status",
    "TimeoutExpired",
    "TrustError",
    "Usage",
    "ViscumError",
    "ViscumWarning",
    "__version__",
    "events",
    "machines",
    "run",
    "run_async",
]

__version__ = "0.1.0"

_HOMES = {
    "running": "run",
    "asynchronous": "run_async",
    "machine": "Machine",
    "detached": "DetachedMachine machines",
    "attaching": "Attachment Output",
    "logs": "LogEntry",
    "journal": "Event events",
    "record": "Health LogOptions Status",
    "governor.loop": "Governor",
    "images": "Image",
    "process": "DEVNULL PIPE STDOUT Process",
    "result": "Result",
    "limits": "IoLimit Limits",
    "spec": "Device Mount Rlimit Spec",
    "resources.usage": "DeviceUsage Pressure Usage",
    "errors": "CommandNotExecutable CommandNotFound HostError ImageError LaunchError "
    "MachineError PlanError SpecError TimeoutExpired TrustError ViscumError ViscumWarning",
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
