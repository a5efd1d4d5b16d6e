"""What was last seen of a Notary v1 repository, so that nobody can show something older."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os

from ...errors import TrustError
from ...places import data_folder, make_folder
from ..strict import read_json

__all__ = ["Memory"]


class Memory:
    """The last root, and the last version of every role, of one repository of one server."""

    def __init__(self, server: str, name: str) -> None:
        top = os.path.join(data_folder(), "trust")
        folder = make_folder(top, "notary", hint="make it writable")
        key = hashlib.sha256(f"{server.rstrip('/')}\0{name}".encode()).hexdigest()
        self.path = f"{folder}/notary/{key}.json"
        self.root: bytes | None = None
        self.versions: dict[str, int] = {}
        self.about = f"{server} {name}"
        self._load()

    def _load(self) -> None:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise TrustError(f"memory {self.path!r}: {reason}") from None
        fields = read_json(data, self.path, limit=1 << 25).fields("about root versions")
        self.root = fields["root"].base64()
        self.versions = {
            name: value.integer() for name, value in fields["versions"].members().items()
        }

    def check(self, role: str, version: int) -> None:
        """Raise TrustError where a version is older than one that was seen."""
        seen = self.versions.get(role, 0)
        if version < seen:
            raise TrustError(
                f"{role}: version {version} is older than {seen}, which was seen before",
                hint=f"somebody rolls it back; if that is meant, remove {self.path}",
            )

    def save(self, root: bytes, root_version: int, versions: dict[str, int]) -> None:
        """Keep what was seen; replaces the file at once, and is on disk when this returns.

        Where somebody else saw something newer meanwhile, that stays.
        """
        with open(f"{self.path}.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = {**self.versions, **versions, "root": root_version}
            self._load()
            seen = self.versions.get("root", 0)
            if seen > root_version:
                return
            if seen == root_version:
                known = {role: max(known.get(role, 0), self.versions.get(role, 0))
                         for role in known.keys() | self.versions.keys()}  # fmt: skip
            self._write(root, known)

    def _write(self, root: bytes, versions: dict[str, int]) -> None:
        text = base64.b64encode(root).decode()
        temporary = f"{self.path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"about": self.about, "root": text, "versions": versions}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, self.path)
