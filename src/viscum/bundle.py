"""What a container is asked to be: the OCI part of a spec, checked, with where it was found."""

from __future__ import annotations

from .frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RUNTIME_HOOKS", "Bundle"]

RUNTIME_HOOKS = (("prestart", "created"), ("createRuntime", "creating"))
"""The hooks that run in the runtime's namespaces before the root changes, in their order, and the
status that they are told of. That of prestart is what it was when `start` ran them, up to version
1.0 of the specification, which the later ones leave open."""


class Bundle(Frozen):
    """One container: its configuration and how the runtime was told to create it.

    `config` has the shape of `viscum.oci.schema.CONFIG`. `process` is the process to start, that of
    the configuration or another one in a running container. Descriptors are -1 where there is
    none.
    """

    id: str
    folder: str
    rootfs: str
    config: dict[str, Any]
    process: dict[str, Any]
    init: str
    """Path of viscum-oci-init."""
    gate: int = -1
    """The fifo that the first process waits at."""
    console: int = -1
    """A socket that the terminal's master is sent over."""
    terminal: bool = False
    """Whether our own end of such a socket is wanted."""
    hook_output: int = -1
    listener: int = -1
    """A socket that the seccomp listener is sent over."""
    preserve: int = 0
    """How many descriptors from 3 on the command gets."""
    no_pivot: bool = False
    new_keyring: bool = True
    group: str = ""
    """The path of the group that systemd made, below the root of each hierarchy."""
    leave: tuple[str, ...] = ()
    """The groups that the parent goes back to, once the container is in its own."""

    classes: tuple[str, ...] = ()
    """The folders of classes of service, in a `resctrl`, that the process enters."""

    states: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The state that hooks get, by status, in parts between which the process id belongs; what is
    sent along with a seccomp listener as "listener"."""

    def state(self, status: str) -> tuple[str, ...]:
        """Return the parts of the state for `status`."""
        return dict(self.states)[status]

    @property
    def linux(self) -> dict[str, Any]:
        """The Linux part of the configuration."""
        part: dict[str, Any] = self.config.get("linux", {})
        return part
