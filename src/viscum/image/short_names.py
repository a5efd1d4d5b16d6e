"""Short names that somebody chose a registry for: `short-name-aliases.conf`, which is Podman's too.

It goes before the aliases of registries.conf (containers-registries.conf(5)).
"""

from __future__ import annotations

import contextlib
import os

from ..errors import ImageError
from .configuration import read_toml
from .locks import Lock

__all__ = ["path", "remember"]

NAME = "containers/short-name-aliases.conf"


def path() -> str:
    """Return where the file is or would be."""
    given = os.environ.get("VISCUM_SHORT_NAMES")
    if given:
        return given
    if os.geteuid() == 0:
        return f"/var/cache/{NAME}"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{cache}/{NAME}"


def _known(file: str) -> dict[str, str]:
    if not os.path.exists(file):
        return {}
    aliases = read_toml(file).get("aliases", {})
    return {str(k): str(v) for k, v in aliases.items()} if isinstance(aliases, dict) else {}


def remember(name: str, repository: str) -> None:
    """Have the short name `name` stand for `repository` from now on; raises ImageError."""
    import json

    file = path()
    temporary = f"{file}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        with Lock(f"{file}.lock", 0):
            known = {**_known(file), name: repository}
            rows = [f"  {json.dumps(key)} = {json.dumps(value)}" for key, value in known.items()]
            with open(temporary, "x", encoding="utf-8") as made:
                made.write("\n".join(["[aliases]", *rows, ""]))
            os.rename(temporary, file)
    except OSError as error:
        raise ImageError(f"{file}: {(error.strerror or '').lower()}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
