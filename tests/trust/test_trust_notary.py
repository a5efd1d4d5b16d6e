"""Notary v1, judged against the real server, signer and client of Debian."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import pathlib
from typing import TYPE_CHECKING

import certificates
import notary_service
import pytest

from needs import needs
from viscum.errors import TrustError
from viscum.trust.notary.client import Client, Found
from viscum.trust.notary.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from notary_service import Notary

pytestmark = needs("notary")
ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64
_numbers = itertools.count()


@pytest.fixture(scope="module")
def notary(shop: pathlib.Path) -> Iterator[Notary]:
    with notary_service.notary(shop / "notary") as service:
        yield service


@pytest.fixture
def name(notary: Notary) -> str:
    """A repository with the tag `v1`."""
    made = f"example.com/team/app{next(_numbers)}"
    notary.client("init", "-p", made)
    notary.add(made, "v1", ONE)
    return made


def look_up(notary: Notary, name: str, tag: str = "v1", **options: object) -> Found:
    return Client(notary.url, name, notary.fetch(name), **options).look_up(tag)


def recorded(notary: Notary, name: str) -> dict[str, bytes]:
    """Return the files as the server has them now; looked at with a memory of no consequence."""
    kept: dict[str, bytes] = {}
    client = Client("http://recorder.invalid", f"{name}", notary.fetch(name, kept))
    client.memory.root, client.memory.versions = None, {}
    client.look_up("v1")
    return kept


def test_notary_tag_is_found(notary: Notary, name: str) -> None:
    found = look_up(notary, name)
    assert (found.digest, found.length, found.role) == (ONE, 10, "targets")
    assert not found.pinned
    assert look_up(notary, name).pinned  # it was seen before


def test_notary_tag_that_is_not_there_is_refused(notary: Notary, name: str) -> None:
    with pytest.raises(TrustError, match="no signed tag 'v9'"):
        look_up(notary, name, "v9")


def test_notary_name_that_is_not_there_is_refused(notary: Notary) -> None:
    with pytest.raises(TrustError, match=r"no root\.json"):
        look_up(notary, "example.com/nothing")


def delegate(notary: Notary, name: str, role: str, paths: str = "--all-paths") -> None:
    made = certificates.make_authority("delegate")
    crt, key = notary.folder / "delegate.crt", notary.folder / "delegate.key"
    crt.write_bytes(made.pem())
    key.write_bytes(made.secret())
    notary.client("delegation", "add", "-p", name, role, str(crt), paths)
    notary.client("key", "import", str(key), "--role", "delegate")


def test_notary_delegated_role_goes_first(notary: Notary, name: str) -> None:
    delegate(notary, name, "targets/releases")
    notary.add(name, "v1", TWO, "-r", "targets/releases")
    found = look_up(notary, name)
    assert (found.digest, found.role) == (TWO, "targets/releases")


def test_notary_other_delegated_role_does_not_count(notary: Notary, name: str) -> None:
    delegate(notary, name, "targets/strangers")
    notary.add(name, "v2", TWO, "-r", "targets/strangers")
    with pytest.raises(TrustError, match="no signed tag"):
        look_up(notary, name, "v2")


def test_notary_delegated_role_speaks_for_its_paths_alone(notary: Notary, name: str) -> None:
    delegate(notary, name, "targets/releases", "--paths=v2")
    notary.add(name, "v2", TWO, "-r", "targets/releases")
    assert look_up(notary, name, "v2").role == "targets/releases"
    found = look_up(notary, name)
    assert (found.digest, found.role) == (ONE, "targets")


def test_notary_delegation_that_was_taken_away_does_not_count(notary: Notary, name: str) -> None:
    delegate(notary, name, "targets/releases")
    notary.add(name, "v1", TWO, "-r", "targets/releases")
    assert look_up(notary, name).digest == TWO
    notary.client("delegation", "remove", "-p", "-y", name, "targets/releases")
    found = look_up(notary, name)
    assert (found.digest, found.role) == (ONE, "targets")


def test_notary_delegated_role_is_not_rolled_back(notary: Notary, name: str) -> None:
    delegate(notary, name, "targets/releases")
    notary.add(name, "v1", TWO, "-r", "targets/releases")
    look_up(notary, name)
    client = Client(notary.url, name, notary.fetch(name))
    client.memory.versions["targets/releases"] += 5
    with pytest.raises(TrustError, match=r"targets/releases: version .* older"):
        client.look_up("v1")


def test_notary_delegated_role_is_not_hidden(notary: Notary, name: str) -> None:
    """Who holds the server's keys could leave it out of the snapshot, so that targets decides."""
    delegate(notary, name, "targets/releases")  # nothing is published in it, so it is not there
    client = Client(notary.url, name, notary.fetch(name))
    client.memory.versions["targets/releases"] = 1
    with pytest.raises(TrustError, match="names it no more"):
        client.look_up("v1")


def test_notary_delegated_role_that_expired_is_refused(
    notary: Notary, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delegate(notary, name, "targets/releases")
    notary.add(name, "v1", TWO, "-r", "targets/releases")
    client = Client(notary.url, name, notary.fetch(name))
    client.now += dt.timedelta(days=1200)
    kept = client._open
    monkeypatch.setattr(client, "_open", lambda path, own, *rest: kept(path, own, *rest)
                        if own == "targets/releases" else _unexpired(client, path, own, *rest))  # fmt: skip
    with pytest.raises(TrustError, match=r"targets/releases.json: expired"):
        client.look_up("v1")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "root"])
def test_notary_keys_can_be_rotated(role: str, notary: Notary, name: str) -> None:
    before = look_up(notary, name)
    remote = ["-r"] if role in ("snapshot", "timestamp") else []
    notary.client("key", "rotate", name, role, *remote, stdin="yes\n")
    notary.add(name, "v2", TWO)
    after = look_up(notary, name, "v2")
    assert after.digest == TWO
    assert after.root_version > before.root_version


def test_notary_root_by_other_keys_is_refused(notary: Notary, name: str) -> None:
    """A second repository's root, well made and signed, does not follow the first one's."""
    look_up(notary, name)
    other = f"{name}-other"
    notary.client("init", "-p", other)
    notary.client("key", "rotate", other, "targets")
    strange = notary.fetch(other)("2.root.json")
    assert strange

    def fetch(path: str) -> bytes | None:
        return strange if path == "2.root.json" else notary.fetch(name)(path)

    with pytest.raises(TrustError, match="signatures that it needs"):
        Client(notary.url, name, fetch).look_up("v1")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_notary_rollback_is_refused(role: str, notary: Notary, name: str) -> None:
    old = recorded(notary, name)
    notary.add(name, "v1", TWO)
    assert look_up(notary, name).digest == TWO

    def fetch(path: str) -> bytes | None:
        if path.endswith(".root.json"):
            return None
        return old.get(path)  # all is as it was: signed, consistent, not expired

    client = Client(notary.url, name, fetch)
    client.memory.versions = {role: client.memory.versions[role]}
    with pytest.raises(TrustError, match=f"{role}: version .* older"):
        client.look_up("v1")
    assert look_up(notary, name).digest == TWO  # and nothing was forgotten over it


def test_notary_failed_proof_is_not_remembered(notary: Notary, name: str) -> None:
    look_up(notary, name)
    before = Client(notary.url, name, notary.fetch(name)).memory.versions
    notary.add(name, "v2", TWO)

    def fetch(path: str) -> bytes | None:
        return b"{}" if path.startswith("targets") else notary.fetch(name)(path)

    with pytest.raises(TrustError):
        Client(notary.url, name, fetch).look_up("v1")
    assert Client(notary.url, name, notary.fetch(name)).memory.versions == before


@pytest.mark.parametrize(("role", "days"), [("timestamp", 20), ("snapshot", 1200), ("root", 3700)])
def test_notary_expired_file_is_refused(
    role: str, days: int, notary: Notary, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(notary.url, name, notary.fetch(name))
    client.now += dt.timedelta(days=days)
    if role == "snapshot":
        kept = client._open
        monkeypatch.setattr(client, "_open", lambda path, own, *rest: kept(path, own, *rest)
                            if own != "timestamp" else _unexpired(client, path, own, *rest))  # fmt: skip
    with pytest.raises(TrustError, match=f"{role}.json: expired"):
        client.look_up("v1")


def _unexpired(client: Client, path: str, *rest: object) -> object:
    later, client.now = client.now, dt.datetime.now(dt.UTC)
    try:
        return Client._open(client, path, *rest)
    finally:
        client.now = later


@pytest.mark.parametrize("path", ["root.json", "timestamp.json", "snapshot.", "targets."])
def test_notary_changed_file_is_refused(path: str, notary: Notary, name: str) -> None:
    def fetch(asked: str) -> bytes | None:
        data = notary.fetch(name)(asked)
        if data is None or not asked.startswith(path):
            return data
        top = json.loads(data)
        top["signed"]["expires"] = "2099-01-01T00:00:00Z"
        return json.dumps(top).encode()

    with pytest.raises(TrustError):
        Client(notary.url, name, fetch).look_up("v1")


def test_notary_root_of_another_name_is_refused(notary: Notary, name: str) -> None:
    with pytest.raises(TrustError, match="no valid certificate for this name"):
        Client(notary.url, "example.com/victim", notary.fetch(name)).look_up("v1")


def test_notary_pinned_root_decides(notary: Notary, name: str) -> None:
    root = json.loads(notary.fetch(name)("root.json") or b"")
    (identifier,) = root["signed"]["roles"]["root"]["keyids"]
    import base64

    own = base64.b64decode(root["signed"]["keys"][identifier]["keyval"]["public"])
    stranger = certificates.make_authority("stranger").pem()
    with pytest.raises(TrustError, match="pinned"):
        look_up(notary, name, pins=(stranger,))
    assert look_up(notary, name, pins=(own,)).pinned


def test_notary_method_of_another_kind_of_key_is_refused(notary: Notary, name: str) -> None:
    def fetch(path: str) -> bytes | None:
        data = notary.fetch(name)(path)
        return data.replace(b'"method":"ecdsa"', b'"method":"eddsa"') if data else data

    with pytest.raises(TrustError, match="0 of 1"):
        Client(notary.url, name, fetch).look_up("v1")


def test_notary_memory_is_private(notary: Notary, name: str, tmp_path: pathlib.Path) -> None:
    look_up(notary, name)
    folder = tmp_path / "data" / "trust" / "notary"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".lock"]
    assert folder.stat().st_mode & 0o77 == 0


def test_notary_older_state_does_not_replace_a_newer_one() -> None:
    """Two look-ups side by side: the one that saw less ends last."""
    first, second = (Memory("https://n.example.com", "example.com/a") for _ in range(2))
    first.save(b"root", 3, {"timestamp": 9, "targets": 4})
    second.save(b"root", 3, {"timestamp": 7, "snapshot": 2})
    assert Memory("https://n.example.com/", "example.com/a").versions == {
        "root": 3, "timestamp": 9, "targets": 4, "snapshot": 2,
    }  # fmt: skip
    second.save(b"old root", 2, {"timestamp": 20})
    kept = Memory("https://n.example.com", "example.com/a")
    assert (kept.root, kept.versions["timestamp"]) == (b"root", 9)
    kept.save(b"new root", 4, {"timestamp": 1})
    kept = Memory("https://n.example.com", "example.com/a")
    assert (kept.root, kept.versions["root"]) == (b"new root", 4)


def test_notary_client_agrees(notary: Notary, name: str) -> None:
    listed = notary.client("list", name)
    assert look_up(notary, name).digest.removeprefix("sha256:") in listed


def test_notary_answers_that_are_no_metadata_are_refused(notary: Notary, name: str) -> None:
    for answer in (b"", b"[]", b'{"signed":{},"signatures":[]}', b"\xff", b"[" * 200_000):
        fetch: Callable[[str], bytes | None] = lambda _path, answer=answer: answer  # noqa: E731
        with pytest.raises(TrustError):
            Client(notary.url, name, fetch).look_up("v1")
