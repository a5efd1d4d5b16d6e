"""`viscum login`."""

from __future__ import annotations

import os
import sys

from ... import image_exchange
from ...errors import SpecError
from ...image import auth
from .options import settings, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

MAX_PASSWORD = 64 << 10


def _password(parsed: Parsed) -> str:
    if parsed.on("password_stdin"):
        return sys.stdin.read(MAX_PASSWORD).rstrip("\r\n")
    given = parsed.text("password")
    if given is not None:
        print("viscum: a password in a command line can be seen by others", file=sys.stderr)
        return given
    if not os.isatty(0):
        raise SpecError("there is no terminal to ask for a password at", hint="--password-stdin")
    import getpass

    return getpass.getpass("Password: ")


def main(parsed: Parsed) -> int:
    """Have a registry check a password, and keep it."""
    (registry,) = words(parsed, 1, 1, "login [OPTIONS] REGISTRY")
    user = parsed.text("username")
    if user is None:
        if not os.isatty(0):
            raise SpecError("there is no user to log in", hint="-u USER")
        print("Username: ", end="", file=sys.stderr, flush=True)
        user = sys.stdin.readline().strip()
    credentials = auth.Credentials(user, _password(parsed))
    if not user or ":" in user:
        raise SpecError(f"user {user!r} is not usable", hint="not empty, no colon")
    image_exchange.login(registry, credentials, settings(parsed))
    print("login succeeded")
    return 0
