"""`viscum logout`."""

from __future__ import annotations

from ...errors import ImageError, SpecError
from ...image import auth
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Forget the password of a registry, or with --all every one."""
    given = words(parsed, 0, 1, "logout [OPTIONS] [REGISTRY]")
    if bool(given) == parsed.on("all"):
        raise SpecError("a registry or --all is needed", hint="viscum logout REGISTRY")
    path = auth.auth_file(parsed.text("authfile"))
    gone = auth.forget(path, given[0] if given else None)
    if given and not gone:
        raise ImageError(f"{given[0]!r} is not logged in to", hint=f"credentials are in {path}")
    for name in gone:
        print(f"removed the credentials of {name}")
    return 0
