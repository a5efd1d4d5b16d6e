"""A client that finds out what a tag is, as a Notary v1 server says, and believes only proof.

The order is that of The Update Framework: roots one after the other, each signed by the keys of
the one before; then timestamp, snapshot, targets, and the delegated targets on the way.
"""

from __future__ import annotations

import datetime as dt

from ...errors import TrustError
from ...frozen import Frozen
from ..material import Reading, need_library
from .memory import Memory
from .metadata import Root, Targets, open_signed, read_meta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .metadata import Delegation, Entry, Role, Signed

    Fetch = Callable[[str], bytes | None]

__all__ = ["Client", "Found"]

MAX_ROTATIONS = 256
DEFAULT_ROLES = ("targets/releases", "targets")
"""Where a tag is looked for, as Docker does."""


class Found(Frozen):
    """What a tag is: the digest and length of a manifest, the role that says so, and its keys.

    `pinned` tells whether the root was known before, or pinned by the caller.
    """

    digest: str
    length: int
    role: str
    keys: tuple[str, ...]
    root_version: int
    pinned: bool


class Client:
    """One repository of one server; `fetch` returns the file at a path below it, or None."""

    def __init__(
        self, server: str, name: str, fetch: Fetch, *, pins: tuple[bytes, ...] = ()
    ) -> None:
        need_library("cryptography", "sign")
        self.name = name
        self.fetch = fetch
        self.pins = pins
        self.memory = Memory(server, name)
        self.now = dt.datetime.now(dt.UTC)
        self.versions: dict[str, int] = {}
        self.read: dict[str, tuple[Targets, Signed]] = {}
        self.known = bool(pins) or self.memory.root is not None

    def look_up(self, tag: str, roles: tuple[str, ...] = DEFAULT_ROLES) -> Found:
        """Return what `tag` is; raises TrustError where that cannot be shown.

        What was seen is kept, also where the tag is not there, and never where a proof failed.
        """
        with Reading(f"metadata of {self.name}"):
            root = self._root()
            snapshot = self._snapshot(root)
            found = None
            for role in roles:
                found = self._in_role(root, snapshot, role, tag)
                if found is not None:
                    break
        self.memory.save(root.data, root.version, self.versions)
        if found is None:
            raise TrustError(f"{self.name} has no signed tag {tag!r}")
        return found

    # The root.

    def _need(self, path: str) -> bytes:
        data = self.fetch(path)
        if data is None:
            raise TrustError(f"{self.name}: the server has no {path}")
        return data

    def _root(self) -> Root:
        if self.memory.root is not None:
            root = Root(self.memory.root)
            if self.pins:
                self._check_pins(root)
        else:
            root = self._first_root()
        root = self._rotate(root)
        root.file.check_expiry(self.now)
        self._check_certificates(root)
        return root

    def _first_root(self) -> Root:
        """Take the root on first use, or as it is pinned; it must be signed by its own keys."""
        root = Root(self._need("root.json"))
        root.file.check_signatures(root.roles["root"])
        if self.pins:
            self._check_pins(root)
        return root

    def _check_pins(self, root: Root) -> None:
        """Raise TrustError unless a key of the root is a pinned certificate, or issued by one."""
        from cryptography.exceptions import InvalidSignature

        from ..certificates import load_certificates

        pinned = [one for data in self.pins for one in load_certificates(data, "pinned root")]
        for key in root.roles["root"].keys:
            certificate = key.certificate()
            if certificate is None:
                continue
            if certificate in pinned:
                return
            for one in pinned:
                try:
                    certificate.verify_directly_issued_by(one)
                except (ValueError, TypeError, InvalidSignature):
                    continue
                return
        raise TrustError(f"{self.name}: no key of the root is one of those that are pinned")

    def _check_certificates(self, root: Root) -> None:
        """Raise TrustError unless the root's certificates are for this name, and in force."""
        good = 0
        for key in root.roles["root"].keys:
            certificate = key.certificate()
            if certificate is None:
                continue
            names = [str(part.value) for part in certificate.subject]
            valid = certificate.not_valid_before_utc <= self.now <= certificate.not_valid_after_utc
            good += self.name in names and valid
        if good < root.roles["root"].threshold:
            raise TrustError(f"{self.name}: the root has no valid certificate for this name")

    def _rotate(self, root: Root) -> Root:
        """Follow the roots after `root`, each signed by the keys of the one before and its own."""
        for _ in range(MAX_ROTATIONS):
            data = self.fetch(f"{root.version + 1}.root.json")
            if data is None:
                return root
            following = Root(data)
            if following.version != root.version + 1:
                raise TrustError(f"root version {following.version} does not follow {root.version}")
            following.file.check_signatures(root.roles["root"])
            following.file.check_signatures(following.roles["root"])
            self._forget(root, following)
            root = following
        raise TrustError(f"{self.name}: more than {MAX_ROTATIONS} roots were rotated")

    def _forget(self, before: Root, after: Root) -> None:
        """Forget versions that a key signed which is trusted no longer: it may have lied."""
        for role in ("timestamp", "snapshot"):
            if before.roles[role] != after.roles[role]:
                self.memory.versions.pop(role, None)

    # What the root's keys sign.

    def _open(self, path: str, name: str, kind: str, role: Role, entry: Entry | None) -> Signed:
        data = self._need(path)
        if entry is not None:
            entry.check(data, f"{name}.json")
        signed = open_signed(data, f"{name}.json", kind, role)
        signed.check_expiry(self.now)
        self.memory.check(name, signed.version)
        self.versions[name] = signed.version
        return signed

    def _snapshot(self, root: Root) -> dict[str, Entry]:
        stamp = self._open(
            "timestamp.json", "timestamp", "timestamp", root.roles["timestamp"], None
        )
        entry = _entry(read_meta(stamp), "snapshot", "the timestamp")
        role = root.roles["snapshot"]
        meta = read_meta(
            self._open(_address("snapshot", entry), "snapshot", "snapshot", role, entry)
        )
        _entry(meta, "root", "the snapshot").check(root.data, "root.json")
        return meta

    def _targets(self, meta: dict[str, Entry], name: str, role: Role) -> tuple[Targets, Signed]:
        if name not in self.read:
            entry = _entry(meta, name, "the snapshot")
            signed = self._open(_address(name, entry), name, "targets", role, entry)
            self.read[name] = (Targets(signed), signed)
        return self.read[name]

    def _in_role(self, root: Root, meta: dict[str, Entry], role: str, tag: str) -> Found | None:
        """Return what `role` says of `tag`, None where it says nothing or does not exist."""
        signers, name = root.roles["targets"], "targets"
        targets, signed = self._targets(meta, name, signers)
        for part in role.split("/")[1:]:
            name = f"{name}/{part}"
            step = _delegation(targets, name)
            if step is not None and name not in meta and name in self.memory.versions:
                raise TrustError(
                    f"{name}: the snapshot names it no more, but it was seen before",
                    hint=f"somebody hides it; if that is meant, remove {self.memory.path}",
                )
            if step is None or name not in meta or not step.covers(tag):
                return None
            signers = step.role
            targets, signed = self._targets(meta, name, signers)
        if tag not in targets.entries:
            return None
        entry = targets.entries[tag]
        if "sha256" not in entry.hashes:
            raise TrustError(f"{name}: {tag!r} has no sha256")
        return Found(
            f"sha256:{entry.hashes['sha256']}",
            entry.length,
            name,
            signed.check_signatures(signers),
            root.version,
            self.known,
        )


def _entry(meta: dict[str, Entry], name: str, of: str) -> Entry:
    if name not in meta:
        raise TrustError(f"{of} does not name {name}")
    return meta[name]


def _address(name: str, entry: Entry) -> str:
    """Return the path of a file by its hash, so that a change meanwhile does no harm."""
    value = entry.hashes.get("sha256")
    return f"{name}.{value}.json" if value else f"{name}.json"


def _delegation(targets: Targets, name: str) -> Delegation | None:
    return next((each for each in targets.delegations if each.name == name), None)
