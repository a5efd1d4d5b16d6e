"""`features`: what this runtime can do, as the runtime specification's features document."""

from __future__ import annotations

from ..drivers.container import NAMESPACES
from ..drivers.mount_options import OPTION_NAMES
from ..guard.capabilities import CAPABILITIES
from ..guard.policy import FLAGS, OPERATORS
from .document import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call

__all__ = ["features", "main"]

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def _seccomp() -> dict[str, object]:
    from ..guard import profile_reader

    actions = profile_reader.ACTIONS
    return {
        "enabled": True,
        "actions": sorted(actions),
        "operators": [f"SCMP_CMP_{name}" for name in OPERATORS],
        "archs": sorted(profile_reader.ARCHITECTURES),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": sorted(FLAGS),
    }


def features() -> dict[str, object]:
    """Return the document: what the runtime supports, whatever this host has of it."""
    from .. import __version__
    from .main import VERSION

    linux: dict[str, object] = {
        "namespaces": sorted(NAMESPACES),
        "capabilities": [f"CAP_{name}" for name in CAPABILITIES],
        "cgroup": {
            "v1": True,
            "v2": True,
            "systemd": True,
            "systemdUser": True,
            "rdma": True,
        },
        "seccomp": _seccomp(),
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": True},
        "mountExtensions": {"idmap": {"enabled": True}},
    }
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(OPTION_NAMES),
        "linux": linux,
        "annotations": {"io.github.viscum.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }


def main(call: Call) -> int:
    """Print the document."""
    del call
    print(dump(features(), step="  "))
    return 0
