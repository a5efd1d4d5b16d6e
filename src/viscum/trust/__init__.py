"""Trust: which images the host's policy allows, and the signatures that show it.

Nothing here knows how images are fetched or kept; whoever does gives `SignatureSources` to
`check`. Every byte of a signature, a manifest or a policy is parsed as if by an enemy.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .checking import Decision, Finding, check
    from .policy import Policy, load_policy
    from .sources import SignatureSources

__all__ = ["Decision", "Finding", "Policy", "SignatureSources", "check", "load_policy"]

_HOMES = {
    "Decision": "checking",
    "Finding": "checking",
    "check": "checking",
    "Policy": "policy",
    "load_policy": "policy",
    "SignatureSources": "sources",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
    value: object = getattr(home, name)
    globals()[name] = value
    return value
