"""Lowers the start of CRIU, which restores a container, to a plan.

CRIU is started in the container's groups, with their limits and devices, and in its class of
service, so what it restores is in them from its first instruction; and in a mount namespace of its
own, in which the root is the mount that CRIU asks for. That is gone with it, however it ends.
"""

from __future__ import annotations

import os

from ..plan import NONE, Plan, nul_ended, op
from .container_groups import add_groups, find_groups, join_classes
from .parts import Sections, Slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..bundle import Bundle

__all__ = ["PEER", "compile_restorer"]

NEW_MOUNTS = 0x20000
MS_REC, MS_SLAVE = 0x4000, 0x80000
SIGKILL = 9
PEER = 200
"""The number that CRIU finds its socket at: above those that the plan itself opens."""


def compile_restorer(
    bundle: Bundle, criu: str, peer: int, root: str, kept: list[int], *, full_identity: bool
) -> Plan:
    """Return the plan that starts CRIU with its end of a socket and the descriptors `kept`, which
    get the numbers after `PEER`; `root` is an empty folder that the container's root is shown at.
    """
    slots, parts = Slots(), Sections()
    groups = add_groups(bundle, find_groups(bundle), slots, parts, devices=full_identity)
    join_classes(bundle.classes, slots, parts)
    enter = parts.enter
    enter.append(op("parent-death", SIGKILL))
    enter.append(op("propagation", MS_REC | MS_SLAVE))
    tree = slots()
    enter.append(op("clone-tree", tree, NONE, bundle.rootfs, 1, 0))
    enter.append(op("attach", tree, NONE, root, 0))
    enter += [op("stdio"), op("close")]
    for number, file in enumerate([peer, *kept], PEER):
        slot = slots()
        parts.load.append(op("inherit", slot, file))
        enter.append(op("pass", slot, number))
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    words = nul_ended([criu, "swrk", str(PEER)])
    return Plan(
        [
            *parts.load,
            *parts.prepare,
            op("clone", NEW_MOUNTS, groups.into),
            *parts.adopt,
            *enter,
            op("exec", criu, words, nul_ended(environment), ""),
            *parts.release,
        ]
    )
