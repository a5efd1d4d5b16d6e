"""Fixtures of the tests of trust: services and keys that are made once for all of them."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
import trust_parts

import viscum.trust
from viscum.trust.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def shop() -> Iterator[pathlib.Path]:
    """A folder for what is made once; its path is short, for the sockets of gpg-agent."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="vt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def registry(shop: pathlib.Path) -> Iterator[str]:
    """Debian's registry on loopback."""
    with trust_parts.registry(shop) as host:
        yield host


@pytest.fixture(scope="session")
def keys(shop: pathlib.Path) -> Iterator[trust_parts.Keys]:
    """OpenPGP keys: good, other, old (expired), gone (revoked)."""
    made = trust_parts.Keys(shop / "gnupg")
    try:
        made.make("good", "rsa2048")
        made.make("other")
        made.make("old", expires="2024-02-01", at="20240101T000000")
        made.make("gone")
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Point everything that would be read from or written to the host elsewhere."""
    monkeypatch.setenv("VISCUM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VISCUM_REGISTRIES_D", str(tmp_path / "registries.d"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "registries.d").mkdir()
    return tmp_path


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> pathlib.Path:
    """An OCI layout with an empty image, tag `v1`."""
    path = tmp_path / "layout"
    trust_parts.make_layout(path)
    return path


@pytest.fixture
def judge() -> Callable[..., viscum.trust.Decision]:
    """Check an image against rules for everything, as JSON."""

    def run(reference: str, rules: str, *, manifest: bytes | None = None) -> viscum.trust.Decision:
        sources = trust_parts.open_sources(reference)
        data = sources.top() if manifest is None else manifest
        policy = parse_policy(b'{"default": [%s]}' % rules.encode(), "test policy")
        digest = trust_parts.digest_of(data)
        return viscum.trust.check(reference, digest, data, sources, policy=policy)

    return run
