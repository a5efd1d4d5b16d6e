"""Manifests, indexes and configurations as an enemy writes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging import CONFIG, INDEX, LAYER, MANIFEST
from viscum.errors import ImageError
from viscum.image import document
from viscum.image.manifest import (
    Index,
    Manifest,
    layer_compression,
    parse_config,
    parse_descriptor,
    parse_manifest,
)

DIGEST = "sha256:" + "0" * 64
BLOB = {"mediaType": LAYER, "digest": DIGEST, "size": 3}
GOOD = {
    "schemaVersion": 2,
    "mediaType": MANIFEST,
    "config": {**BLOB, "mediaType": CONFIG},
    "layers": [BLOB],
}


def changed(**changes: object) -> bytes:
    made = {**GOOD, **changes}
    return json.dumps({key: value for key, value in made.items() if value is not None}).encode()


def test_manifest_is_read() -> None:
    made = parse_manifest(changed(), MANIFEST)
    assert isinstance(made, Manifest)
    assert made.layers[0].digest == DIGEST
    index = changed(mediaType=INDEX, config=None, layers=None, manifests=[BLOB])
    assert isinstance(parse_manifest(index), Index)


BAD = {
    "no JSON": b"{",
    "no object": b"[]",
    "a duplicate key": b'{"schemaVersion":2,"schemaVersion":2}',
    "deep nesting": b'{"a":' * 100_000,
    "deep lists": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    "not a number": b'{"schemaVersion":NaN}',
    "no UTF-8": b'{"a":"\xff"}',
    "too many bytes": b'{"a":"' + b"x" * document.MAX_DOCUMENT + b'"}',
    "schema 1": changed(schemaVersion=1),
    "a true version": changed(schemaVersion=True),
    "an unknown media type": changed(mediaType="application/x"),
    "a manifest that is an index too": changed(manifests=[]),
    "schema 1 inside": changed(fsLayers=[]),
    "an index that is a manifest too": changed(mediaType=INDEX, manifests=[]),
    "no config": changed(config=None),
    "layers of text": changed(layers=["x"]),
    "layers that are no list": changed(layers={}),
    "a layer without a digest": changed(layers=[{**BLOB, "digest": None}]),
    "a digest that leads out": changed(layers=[{**BLOB, "digest": "sha256:../../etc/passwd"}]),
    "a short digest": changed(layers=[{**BLOB, "digest": "sha256:00"}]),
    "a weak digest": changed(layers=[{**BLOB, "digest": "md5:" + "0" * 32}]),
    "a negative size": changed(layers=[{**BLOB, "size": -1}]),
    "a huge size": changed(layers=[{**BLOB, "size": 1 << 62}]),
    "a size with a point": changed(layers=[{**BLOB, "size": 1.5}]),
    "a true size": changed(layers=[{**BLOB, "size": True}]),
    "a long media type": changed(layers=[{**BLOB, "mediaType": "x" * 300}]),
    "control characters": changed(layers=[{**BLOB, "mediaType": "a\x1b[2J"}]),
    "too many layers": changed(layers=[BLOB] * 2000),
    "a huge config": changed(config={**BLOB, "size": 1 << 30}),
    "annotations of numbers": changed(annotations={"a": 1}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        parse_manifest(data, "", "manifest x")
    assert caught.value.message.startswith("manifest x")
    assert len(caught.value.message) < 500
    assert "\x1b" not in caught.value.message


def test_manifest_must_be_what_it_came_as() -> None:
    with pytest.raises(ImageError, match="came as"):
        parse_manifest(changed(), INDEX)


def test_layers_of_another_kind_are_refused() -> None:
    helm = parse_descriptor({**BLOB, "mediaType": "application/vnd.cncf.helm.chart"}, "x")
    with pytest.raises(ImageError, match="is of media type"):
        layer_compression(helm)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from("schemaVersion mediaType config layers digest size manifests".split())
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_any_document_is_read_or_refused(value: object) -> None:
    data = json.dumps(value).encode()
    for media_type in ("", MANIFEST, INDEX):
        try:
            made = parse_manifest(data, media_type)
        except ImageError:
            continue
        assert isinstance(made, (Manifest, Index))
    try:
        parse_config(data, 0)
    except ImageError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        document.parse(data, "x")
    except ImageError:
        return


def config(**fields: object) -> bytes:
    made = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [DIGEST]}}
    return json.dumps({**made, **fields}).encode()


def test_config_is_read() -> None:
    own = {
        "Cmd": ["sh"],
        "Env": ["A=b"],
        "Volumes": {"/data": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000, "Retries": 2},
        "StopSignal": "SIGQUIT",
        "Labels": None,
    }
    found = parse_config(config(config=own), 1)
    assert (found.command, found.env, found.volumes) == (("sh",), ("A=b",), ("/data",))
    assert found.health is not None
    assert (found.health.interval, found.health.retries, found.health.timeout) == (5.0, 2, 30.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"rootfs": {"diff_ids": []}},
        {"rootfs": {"diff_ids": [DIGEST, DIGEST]}},
        {"rootfs": {"diff_ids": ["x"]}},
        {"config": {"Env": "A=b"}},
        {"config": {"Cmd": [1]}},
        {"config": {"User": 5}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Healthcheck": {"Test": ["RUN", "x"]}}},
        {"config": []},
    ],
)
def test_config_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ImageError):
        parse_config(config(**fields), 1)
