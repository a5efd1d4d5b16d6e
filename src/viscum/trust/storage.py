"""Where the signatures of images of a registry are kept: containers-registries.d(5)."""

from __future__ import annotations

import os

from ..errors import TrustError
from ..frozen import Frozen
from .material import read_file
from .scopes import name_scopes
from .watching import note_file
from .yamlsubset import read_yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .references import Name
    from .yamlsubset import Mapping

__all__ = ["Storage", "configured", "find_storage", "signature_url"]

_KEYS = {
    "lookaside": "lookaside",
    "lookaside-staging": "staging",
    "sigstore": "lookaside",  # the names until 2022
    "sigstore-staging": "staging",
    "use-sigstore-attachments": "attachments",
}


class Storage(Frozen):
    """Where to read signatures, where to write them, and whether cosign's attachments count."""

    lookaside: str = ""
    staging: str = ""
    attachments: bool = False
    scope: str = ""

    @property
    def writable(self) -> str:
        """Return the URL that new signatures go to."""
        return self.staging or self.lookaside


def configuration_folder() -> str:
    """Return the folder of registries.d that is in force."""
    given = os.environ.get("VISCUM_REGISTRIES_D")
    own = os.path.expanduser("~/.config/containers/registries.d")
    if not given:
        note_file(own)
    return given or (own if os.path.isdir(own) else "/etc/containers/registries.d")


def _default() -> Storage:
    if os.geteuid() == 0:
        folder = "/var/lib/containers/sigstore"
    else:
        folder = os.path.expanduser("~/.local/share/containers/sigstore")
    return Storage(lookaside=f"file://{folder}")


def _section(found: object, scope: str, source: str) -> Storage:
    if not isinstance(found, dict):
        raise TrustError(f"{source}: {scope!r} must be a mapping")
    kept: dict[str, str | bool] = {}
    for key, value in found.items():
        if key not in _KEYS:
            raise TrustError(f"{source}: {scope}: unknown key {key!r}", hint=", ".join(_KEYS))
        field = _KEYS[key]
        if type(value) is not (bool if field == "attachments" else str):
            raise TrustError(f"{source}: {scope}: {key!r} is of a wrong type")
        if field in kept:
            raise TrustError(f"{source}: {scope}: {key!r} and its other name are both there")
        kept[field] = value
    return Storage(scope=scope, **kept)  # type: ignore[arg-type]


def _sections(mapping: Mapping, source: str) -> Iterator[tuple[str, Storage]]:
    for key, value in mapping.items():
        if key == "default-docker":
            yield "", _section(value, key, source)
        elif key == "docker":
            if not isinstance(value, dict):
                raise TrustError(f"{source}: 'docker' must be a mapping")
            for scope, section in value.items():
                yield scope, _section(section, scope, source)
        else:
            raise TrustError(f"{source}: unknown key {key!r}", hint="docker, default-docker")


def configured(folder: str = "") -> dict[str, Storage]:
    """Return what the files of registries.d state, by scope; "" is the default.

    Raises TrustError for files that are malformed or contradict each other.
    """
    folder = folder or configuration_folder()
    found: dict[str, Storage] = {}
    note_file(folder)
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".yaml"))
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        raise TrustError(f"folder {folder!r}: {(error.strerror or '').lower()}") from None
    for name in names:
        path = os.path.join(folder, name)
        mapping = read_yaml(read_file(path, "configuration"), path)
        for scope, storage in _sections(mapping, path):
            if scope in found:
                raise TrustError(f"{path}: {scope or 'default-docker'!r} is in another file too")
            found[scope] = storage
    return found


def find_storage(name: Name, folder: str = "") -> Storage:
    """Return where the signatures of the image `name` are kept."""
    found = configured(folder)
    for scope in (*name_scopes(name), ""):
        if scope in found and not scope.startswith("*"):
            return found[scope]
    return _default()


def signature_url(base: str, name: Name, digest: str, number: int) -> str:
    """Return the address of the signature `number`, from 1 on, of a manifest."""
    algorithm, _, value = digest.partition(":")
    return f"{base.rstrip('/')}/{name.path}@{algorithm}={value}/signature-{number}"
