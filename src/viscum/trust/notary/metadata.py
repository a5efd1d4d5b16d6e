"""The files of a Notary v1 repository: root, timestamp, snapshot, targets; read and verified."""

from __future__ import annotations

import datetime as dt
import hashlib

from ...errors import TrustError
from ...frozen import Frozen
from ..strict import read_json
from .keys import Key, canonical, read_key, valid_signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..strict import Value

__all__ = ["Delegation", "Entry", "Role", "Root", "Signed", "Targets", "open_signed"]

ROLES = ("root", "targets", "snapshot", "timestamp")
MAX_SIGNATURES = 64
MAX_BYTES = 10 * 1024 * 1024


class Role(Frozen):
    """Who may sign a file: some keys, and how many of them must."""

    keys: tuple[Key, ...]
    threshold: int


class Entry(Frozen):
    """What a file or an image must be: its length, and its hashes in hex."""

    length: int
    hashes: dict[str, str]

    def check(self, data: bytes, what: str) -> None:
        """Raise TrustError unless `data` is what this describes."""
        if len(data) != self.length:
            raise TrustError(f"{what} has {len(data)} bytes, not {self.length}")
        for name, value in self.hashes.items():
            if hashlib.new(name, data).hexdigest() != value:
                raise TrustError(f"{what} has another {name}")


class Signed:
    """A file as it was received: what is signed, and the signatures, not yet verified."""

    def __init__(self, data: bytes, name: str, kind: str) -> None:
        self.name = name
        top = read_json(data, name, limit=MAX_BYTES).fields("signed signatures")
        self._signatures = [_signature(item) for item in top["signatures"].items()]
        if len(self._signatures) > MAX_SIGNATURES:
            raise top["signatures"].wrong(f"has more than {MAX_SIGNATURES} items")
        self.signed = top["signed"]
        self._bytes = canonical(self.signed.plain())
        members = self.signed.members()
        for key in ("_type", "version", "expires"):
            if key not in members:
                raise self.signed.wrong(f"lacks the key {key!r}")
        if members["_type"].text().lower() != kind:
            raise members["_type"].wrong(f"must be {kind!r}")
        self.version = members["version"].integer()
        if self.version < 1:
            raise members["version"].wrong("must be 1 or more")
        self.expires = _time(members["expires"])

    def check_signatures(self, role: Role) -> tuple[str, ...]:
        """Return the ids of the keys that signed; raises TrustError for too few."""
        known = {key.id: key for key in role.keys}
        good = {
            name
            for name, method, made in self._signatures
            if name in known and valid_signature(known[name], method, made, self._bytes)
        }
        if len(good) < role.threshold:
            raise TrustError(
                f"{self.name}: {len(good)} of {role.threshold} signatures that it needs are good"
            )
        return tuple(sorted(good))

    def check_expiry(self, now: dt.datetime) -> None:
        """Raise TrustError where it has expired."""
        if self.expires <= now:
            raise TrustError(f"{self.name}: expired at {self.expires:%Y-%m-%d %H:%M}")


def open_signed(data: bytes, name: str, kind: str, role: Role) -> Signed:
    """Return a file whose signatures are good; raises TrustError. Its expiry is not looked at."""
    signed = Signed(data, name, kind)
    signed.check_signatures(role)
    return signed


def _signature(value: Value) -> tuple[str, str, bytes]:
    fields = value.fields("keyid method sig")
    return fields["keyid"].text(), fields["method"].text(), fields["sig"].base64()


def _time(value: Value) -> dt.datetime:
    text = value.text()
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise value.wrong(f"{text!r} is no time") from None
    if found.tzinfo is None:
        raise value.wrong(f"{text!r} names no time zone")
    return found


def _role(value: Value, keys: dict[str, Key], optional: str = "") -> Role:
    fields = value.fields("keyids threshold", optional)
    names = [item.text() for item in fields["keyids"].items()]
    threshold = fields["threshold"].integer()
    if threshold < 1 or len(set(names)) != len(names):
        raise value.wrong("needs a threshold of 1 or more, and each key once")
    missing = [name for name in names if name not in keys]
    if missing:
        raise value.wrong(f"names the key {missing[0]}, which is not there")
    return Role(tuple(keys[name] for name in names), threshold)


class Root:
    """The root: the keys of every role. Its own signatures are for the caller to verify."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.file = Signed(data, "root.json", "root")
        fields = self.file.signed.fields("_type version expires keys roles", "consistent_snapshot")
        self.version = self.file.version
        self.keys = {name: read_key(name, key) for name, key in fields["keys"].members().items()}
        roles = fields["roles"].fields(" ".join(ROLES))
        self.roles = {name: _role(value, self.keys) for name, value in roles.items()}


def _hex(value: Value) -> str:
    return value.base64().hex()


def _entry(value: Value) -> Entry:
    fields = value.fields("hashes length", "custom")
    hashes = {
        name: _hex(text)
        for name, text in fields["hashes"].members().items()
        if name in ("sha256", "sha512")
    }
    if not hashes:
        raise fields["hashes"].wrong("needs sha256 or sha512")
    length = fields["length"].integer()
    if not 0 <= length <= 1 << 40:
        raise fields["length"].wrong(f"{length} is no length")
    return Entry(length, hashes)


def read_meta(signed: Signed) -> dict[str, Entry]:
    """Return the files that a timestamp or a snapshot names."""
    fields = signed.signed.fields("_type version expires meta")
    return {name: _entry(value) for name, value in fields["meta"].members().items()}


class Delegation(Frozen):
    """A role that targets are delegated to: who signs it, and which names it may hold."""

    name: str
    role: Role
    paths: tuple[str, ...]

    def covers(self, name: str) -> bool:
        """Return whether it may hold the target `name`; paths are beginnings of names."""
        return any(name.startswith(path) for path in self.paths)


class Targets:
    """Targets: names with what they must be, and the roles that others are delegated to."""

    def __init__(self, signed: Signed) -> None:
        fields = signed.signed.fields("_type version expires targets", "delegations")
        self.entries = {name: _entry(value) for name, value in fields["targets"].members().items()}
        self.delegations: list[Delegation] = []
        if "delegations" in fields and not fields["delegations"].absent:
            self._delegate(fields["delegations"])

    def _delegate(self, value: Value) -> None:
        fields = value.fields("keys roles")
        keys = {name: read_key(name, key) for name, key in fields["keys"].members().items()}
        if fields["roles"].absent:  # as the server writes it once the last one was removed
            return
        for item in fields["roles"].items():
            members = item.fields("name keyids threshold", "paths")
            paths: tuple[str, ...] = ()
            if "paths" in members and not members["paths"].absent:
                paths = tuple(path.text() for path in members["paths"].items())
            role = _role(item, keys, "name paths")
            self.delegations.append(Delegation(members["name"].text(), role, paths))
