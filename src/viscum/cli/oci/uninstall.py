"""`viscum oci uninstall`."""

from __future__ import annotations

from . import handlers
from .install import carry_out, chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Have engines forget viscum-oci."""
    engines, root = chosen(parsed), parsed.text("root") or ""
    return carry_out(parsed, engines, [handlers.plan_uninstall(engine, root) for engine in engines])
