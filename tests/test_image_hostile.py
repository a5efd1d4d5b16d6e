"""A registry that is an enemy: one clear error for each trick, and the store as it was."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import time
from typing import TYPE_CHECKING

import pytest

import viscum.trust
from imaging import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Layout,
    Server,
    archive,
    digest,
    keep_as_folders,
    link,
    member,
    packed,
)
from viscum import folders, image_pulling, images
from viscum.errors import ImageError, ViscumError
from viscum.image import unpacking
from viscum.image.platforms import own_platform, parse_platform
from viscum.image.transport import Settings

if TYPE_CHECKING:
    import http.server
    from collections.abc import Iterator

PLAIN = Settings(tls_verify=False)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    (folder / "registries.conf").write_text("")
    (folder / "auth.json").write_text("{}")
    keep_as_folders(folder / "data")
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(folder / "auth.json"))
    monkeypatch.setattr("viscum.image.transport.FIRST_DELAY", 0.01)
    monkeypatch.setattr("viscum.image.registry.STALLED_SECONDS", 0.01)
    yield folder / "data"
    folders.remove_tree(str(folder / "data"))


@pytest.fixture
def layout(folder: pathlib.Path) -> Layout:
    return Layout(folder / "layout")


@pytest.fixture
def enemy() -> Iterator[Server]:
    with Server() as server:
        yield server


GOOD = archive(member("file", b"content" * 1000))


def pull(server: Server, name: str = "x", settings: Settings = PLAIN) -> images.Image:
    return image_pulling.pull(f"{server.host}/r:{name}", parse_platform(None), settings)


def serve(server: Server, layout: Layout) -> dict[str, object]:
    """Serve a good image; return its manifest."""
    entry = layout.image("x", [GOOD])
    server.serve(layout, "r")
    return json.loads((layout.path / "blobs/sha256" / entry["digest"][7:]).read_bytes())


def refuse(server: Server, match: str, settings: Settings = PLAIN) -> str:
    """The pull fails with one clear error; nothing of it is in the store."""
    with pytest.raises(ImageError, match=match) as caught:
        pull(server, settings=settings)
    store = images.own_store()
    assert store.names() == {}
    assert [name for name in os.listdir(store.layers) if name[0] != "."] == []
    assert len(str(caught.value)) < 700
    return str(caught.value)


def manifest(server: Server, data: bytes, kind: str = MANIFEST) -> None:
    server.answers["/v2/r/manifests/x"] = (200, {"Content-Type": kind}, data)


def guard(server: Server, challenge: str) -> None:
    """Have the manifest answered only to those who say who they are."""
    path = "/v2/r/manifests/x"
    known = server.answers[path]
    refusal = (401, {"WWW-Authenticate": challenge}, b"{}")
    server.answers[path] = lambda handler: (
        known if handler.headers.get("Authorization") else refusal
    )


def blob(layer: dict[str, object]) -> str:
    return f"/v2/r/blobs/{layer['digest']}"


# Bytes.


def test_a_blob_of_another_digest_is_refused(enemy: Server, layout: Layout) -> None:
    layer = serve(enemy, layout)["layers"][0]
    good = enemy.answers[blob(layer)][2]
    enemy.answers[blob(layer)] = (200, {}, b"x" * len(good))
    refuse(enemy, "has the digest")
    assert not os.listdir(images.own_store().pulls)
    enemy.answers[blob(layer)] = (200, {}, good)
    assert pull(enemy).name


def test_a_manifest_of_another_digest_is_refused(enemy: Server, layout: Layout) -> None:
    made = layout.image("x", [GOOD])
    enemy.serve(layout, "r")
    enemy.answers[f"/v2/r/manifests/{made['digest']}"] = (200, {}, b'{"schemaVersion":2}')
    with pytest.raises(ImageError, match="has the digest"):
        image_pulling.pull(f"{enemy.host}/r@{made['digest']}", parse_platform(None), PLAIN)
    known = enemy.answers["/v2/r/manifests/x"]
    said = {"Docker-Content-Digest": "sha256:" + "0" * 64, **known[1]}
    enemy.answers["/v2/r/manifests/x"] = (200, said, known[2])
    refuse(enemy, "as it says")


def test_a_config_of_another_digest_is_refused(enemy: Server, layout: Layout) -> None:
    config = serve(enemy, layout)["config"]
    enemy.answers[blob(config)] = (200, {}, b"x" * config["size"])
    refuse(enemy, "has the digest")


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        handler.wfile.write(b"x" * 65536)


def test_endless_bodies_are_cut(enemy: Server, layout: Layout) -> None:
    made = serve(enemy, layout)
    for path in ("/v2/r/manifests/x", blob(made["config"]), blob(made["layers"][0])):
        known, enemy.answers[path] = enemy.answers[path], (200, {}, endless)
        started = time.monotonic()
        refuse(enemy, "longer than|more than")
        assert time.monotonic() - started < 15
        enemy.answers[path] = known


def test_a_short_blob_is_asked_for_again_and_then_refused(enemy: Server, layout: Layout) -> None:
    layer = serve(enemy, layout)["layers"][0]
    enemy.answers[blob(layer)] = (200, {}, b"")
    refuse(enemy, "ended after 0 bytes")


def test_a_broken_connection_goes_on_by_range(enemy: Server, layout: Layout) -> None:
    layer = serve(enemy, layout)["layers"][0]
    whole = (layout.path / "blobs/sha256" / layer["digest"][7:]).read_bytes()
    ranges: list[str] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        asked = handler.headers.get("Range", "")
        ranges.append(asked)
        start = int(asked[6:-1]) if asked else 0
        rest = whole[start:]
        headers = {"Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        return 206 if start else 200, headers, lambda h: h.wfile.write(rest[: len(whole) // 3])

    enemy.answers[blob(layer)] = answer
    assert pull(enemy).name
    third = len(whole) // 3
    assert ranges[:2] == ["", f"bytes={third}-"]


def test_a_registry_without_ranges_starts_anew(enemy: Server, layout: Layout) -> None:
    layer = serve(enemy, layout)["layers"][0]
    whole = (layout.path / "blobs/sha256" / layer["digest"][7:]).read_bytes()
    store = images.own_store()
    pathlib.Path(store.pulls, layer["digest"].replace(":", "-")).write_bytes(b"wrong" * 3)
    enemy.answers[blob(layer)] = (200, {}, whole)
    assert pull(enemy).name


def test_a_busy_registry_is_asked_again(enemy: Server, layout: Layout) -> None:
    serve(enemy, layout)
    known = enemy.answers["/v2/r/manifests/x"]
    count = iter(range(10))

    def answer(_handler: object) -> object:
        return (503, {"Retry-After": "0"}, b"") if next(count) < 2 else known

    enemy.answers["/v2/r/manifests/x"] = answer
    assert pull(enemy).name


# Documents.


def test_documents_of_enemies_are_refused(enemy: Server, layout: Layout) -> None:
    made = serve(enemy, layout)
    bad = {
        b'{"schemaVersion":2,' + b" " * (5 << 20) + b"}": "more than",
        b"[" * 100_000: "nested too deep|no usable JSON",
        b'{"schemaVersion":2,"schemaVersion":2}': "twice",
        json.dumps({**made, "mediaType": "text/plain"}).encode(): "and says it is",
        json.dumps({**made, "manifests": []}).encode(): "and has",
    }
    for data, match in bad.items():
        manifest(enemy, data)
        refuse(enemy, match)
    manifest(
        enemy,
        json.dumps({**made, "layers": [{**made["layers"][0], "mediaType": "image/png"}]}).encode(),
    )
    refuse(enemy, "is of media type")
    manifest(enemy, json.dumps({**made, "layers": made["layers"] * 2}).encode())
    refuse(enemy, "names 1 layers, the manifest 2")
    manifest(enemy, json.dumps({**made, "layers": []}).encode())
    refuse(enemy, "names 1 layers")


def test_an_index_of_itself_ends(enemy: Server) -> None:
    inner = {
        "mediaType": INDEX,
        "size": 0,
        "digest": "",
        "platform": {"os": "linux", "architecture": own_platform().architecture},
    }
    second = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    inner.update(digest=digest(second), size=len(second))
    first = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner]}).encode()
    manifest(enemy, first, INDEX)
    enemy.answers[f"/v2/r/manifests/{digest(second)}"] = (200, {"Content-Type": INDEX}, second)
    refuse(enemy, "leads to another index")
    wrong = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**inner, "size": 5}]}
    ).encode()
    manifest(enemy, wrong, INDEX)
    refuse(enemy, "the index says 5")


def test_other_platforms_are_named(enemy: Server) -> None:
    rows = [
        {
            "mediaType": MANIFEST,
            "size": 5,
            "digest": "sha256:" + "1" * 64,
            "platform": {"os": "windows", "architecture": "amd64"},
        }
    ]
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode()
    manifest(enemy, data, INDEX)
    assert "windows/amd64" in refuse(enemy, "nothing for linux/")


def test_a_scratch_image_without_layers_is_refused(enemy: Server, layout: Layout) -> None:
    layout.image("x", [])
    enemy.serve(layout, "r")
    refuse(enemy, "has no layer")


# Layers.


def test_bad_layers_are_refused(
    enemy: Server, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr("viscum.unpacker.MAX_BYTES", 1 << 20)
    bomb = archive(member("zeros", b"\0" * (2 << 20)))
    cases = {
        "leads out": (archive(member("../x", b"x")), packed),
        "more than": (bomb, packed),
        "unpacks to": (GOOD, lambda _: packed(GOOD + b"\0" * 512)),
        "gzip data is damaged": (GOOD, lambda raw: packed(raw)[:50] + b"\xff" * 100),
        "ends too early": (GOOD, lambda raw: packed(raw)[:-20]),
        "header of its tar|unpacks to": (b"no archive" * 100, packed),
        "which no layer has": (archive(link("l", "none", b"1")), packed),
        "where a folder is needed": (archive(member("a"), member("a/b")), packed),
    }
    for match, (raw, pack) in cases.items():
        layout.entries.clear()
        layout.image("x", [raw], pack=pack)
        enemy.serve(layout, "r")
        assert digest(b"") not in refuse(enemy, match)


def test_one_bad_layer_of_many_leaves_nothing_named(enemy: Server, layout: Layout) -> None:
    layers = [archive(member(f"f{n}", b"x")) for n in range(5)]
    layout.image("x", [*layers, archive(member("..")), *layers[:1]])
    enemy.serve(layout, "r")
    with pytest.raises(ImageError, match="leads out"):
        pull(enemy)
    store = images.own_store()
    assert store.names() == {}
    assert not [name for name in os.listdir(store.layers) if name.startswith("new-")]
    assert images.check(store) == []
    images.collect(store, everything=True)
    assert list(store.blobs()) == []
    assert not [name for name in os.listdir(store.layers) if name[0] != "."]


def test_a_wrong_media_type_of_a_layer_does_no_harm(enemy: Server, layout: Layout) -> None:
    layout.image("x", [GOOD], pack=lambda raw: gzip.compress(raw)[:0] + raw, kind=LAYER)
    enemy.serve(layout, "r")
    assert pull(enemy).name  # plain, though it says gzip: every engine takes it


# Redirects and credentials.


def test_redirects_in_a_circle_end(enemy: Server, layout: Layout) -> None:
    layer = serve(enemy, layout)["layers"][0]
    enemy.answers[blob(layer)] = (307, {"Location": blob(layer)}, b"")
    refuse(enemy, "redirects")


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x", "http://[x"]
)
def test_redirects_to_no_web_address_are_refused(
    enemy: Server, layout: Layout, target: str
) -> None:
    layer = serve(enemy, layout)["layers"][0]
    enemy.answers[blob(layer)] = (302, {"Location": target}, b"")
    refuse(enemy, "no web address")


def test_credentials_go_to_no_other_host(enemy: Server, layout: Layout) -> None:
    """Neither by a redirect nor to a token server of somebody else."""
    made = serve(enemy, layout)
    mine = Settings(False, None, None, "me:secret")
    with Server() as other:
        for part in (made["layers"][0], made["config"]):
            other.answers[blob(part)] = enemy.answers[blob(part)]
            enemy.answers[blob(part)] = (307, {"Location": f"http://{other.host}{blob(part)}"}, b"")
        guard(enemy, 'Basic realm="r"')
        assert pull(enemy, settings=mine).name
        assert other.asked
        assert any("Authorization" in headers for _, _, headers in enemy.asked)
        assert not [h for _, _, h in other.asked if "Authorization" in h or "secret" in str(h)]


def test_passwords_go_to_no_strange_token_server(
    enemy: Server, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(enemy, layout)
    mine = Settings(False, None, None, "me:secret")
    with Server() as other:
        strange = other.host.replace("127.0.0.1", "localhost")
        guard(enemy, f'Bearer realm="http://{strange}/token"')
        other.answers["/token"] = (200, {}, b'{"token":"t"}')
        assert pull(enemy, settings=mine).name
        assert other.asked
        assert not [h for _, _, h in other.asked if "Authorization" in h]


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Negotiate",
        "Bearer",
        'Bearer realm="file:///x"',
        'Bearer realm="http://[::1"',
        "Digest x=y",
    ],
)
def test_strange_challenges_are_refused(enemy: Server, layout: Layout, challenge: str) -> None:
    serve(enemy, layout)
    guard(enemy, challenge)
    refuse(enemy, "authentication of the kind|no web address")


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'{"token":5}', b'{"token":"a\\nb"}', b'{"x":"y"}', b"x" * (2 << 20)]
)
def test_strange_tokens_are_refused(enemy: Server, layout: Layout, answer: bytes) -> None:
    serve(enemy, layout)
    guard(enemy, f'Bearer realm="http://{enemy.host}/token"')
    enemy.answers["/token"] = (200, {}, answer)
    refuse(enemy, "token")


def test_errors_of_a_registry_are_told_without_control_characters(enemy: Server) -> None:
    body = json.dumps({"errors": [{"message": "\x1b[2Jgone\nviscum: fine"}]}).encode()
    enemy.answers["/v2/r/manifests/x"] = (403, {}, body)
    text = refuse(enemy, "gone")
    assert "\x1b" not in text
    assert "\n" not in text


# Trust.


def test_nothing_is_unpacked_that_is_not_trusted(
    enemy: Server, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is asked with the name, the digest and the bytes, before any layer is fetched."""
    serve(enemy, layout)
    asked: list[tuple[str, str, bytes]] = []

    class Refusal(ViscumError):
        pass

    def check(reference: str, found: str, data: bytes, sources: object) -> None:
        asked.append((reference, found, data))
        assert sources.referrers(found, "") == []
        assert sources.manifest("none") is None
        assert sources.signature_extension(found) == []
        assert sources.lookaside(f"http://{enemy.host}/nothing") is None
        assert sources.lookaside("file:///nonexistent") is None
        raise Refusal("not signed")

    monkeypatch.setattr(viscum.trust, "check", check, raising=False)
    with pytest.raises(Refusal, match="not signed"):
        pull(enemy)
    name, found, data = asked[0]
    assert name == f"docker://{enemy.host}/r:x"
    assert found == digest(data)
    assert not [path for _, path, _ in enemy.asked if "/blobs/" in path]
    assert images.own_store().names() == {}
    assert CONFIG
