"""`viscum version`."""

from __future__ import annotations

import json
import platform

from .. import __version__, plan
from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Print the versions of Viscum, its plans, Python and the kernel."""
    versions = {
        "viscum": __version__,
        "plan": plan.VERSION,
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise SpecError(f"format {form!r} is unknown", hint="text or json")
    if form == "json":
        print(json.dumps(versions))
    else:
        print("\n".join(f"{name:<8}{value}" for name, value in versions.items()))
    return 0
