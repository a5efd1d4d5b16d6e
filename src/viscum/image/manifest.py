"""Manifests, indexes and configurations, of OCI and of Docker's schema 2."""

from __future__ import annotations

import hashlib

from ..errors import ImageError
from ..frozen import Frozen
from . import document
from .platforms import Platform
from .reference import check_digest

__all__ = [
    "ACCEPTED",
    "Config",
    "Descriptor",
    "Index",
    "Manifest",
    "digest_of",
    "parse_config",
    "parse_descriptor",
    "parse_manifest",
    "plain_type",
]

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
OCI_MANIFEST, OCI_INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
DOCKER_MANIFEST = DOCKER + "distribution.manifest.v2+json"
DOCKER_LIST = DOCKER + "distribution.manifest.list.v2+json"
OCI_CONFIG, DOCKER_CONFIG = OCI + "config.v1+json", DOCKER + "container.image.v1+json"
ACCEPTED = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
INDEXES = (OCI_INDEX, DOCKER_LIST)

_OCI_LAYER = OCI + "layer.v1.tar"
_FOREIGN = OCI + "layer.nondistributable.v1.tar"
_DOCKER_LAYER = DOCKER + "image.rootfs.diff.tar"
_DOCKER_FOREIGN = DOCKER + "image.rootfs.foreign.diff.tar"
COMPRESSIONS = {
    base + suffix: kind
    for base in (_OCI_LAYER, _FOREIGN, _DOCKER_LAYER, _DOCKER_FOREIGN)
    for suffix, kind in (
        ("", "none"),
        ("+gzip", "gzip"),
        (".gzip", "gzip"),
        ("+zstd", "zstd"),
        (".zstd", "zstd"),
    )
}
"""How the layers of each media type are compressed."""

MAX_LAYERS = 1024
MAX_BLOB = 1 << 40
MAX_MANIFESTS = 4096


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of `data`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Descriptor(Frozen):
    """What a blob is: media type, digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: tuple[tuple[str, str], ...] = ()
    platform: Platform | None = None
    artifact_type: str = ""

    def note(self, key: str) -> str:
        """Return an annotation, empty where there is none."""
        return dict(self.annotations).get(key, "")

    def as_json(self) -> dict[str, object]:
        """Return the descriptor as documents hold it."""
        made: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        if self.artifact_type:
            made["artifactType"] = self.artifact_type
        if self.platform is not None:
            words = {"architecture": self.platform.architecture, "os": self.platform.os}
            variant = {"variant": self.platform.variant} if self.platform.variant else {}
            made["platform"] = {**words, **variant}
        return made


class Index(Frozen):
    """A list of manifests, for several platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]


class Manifest(Frozen):
    """One image: its configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


def parse_descriptor(value: dict[str, object], what: str) -> Descriptor:
    """Return a checked descriptor; raises ImageError."""
    media_type = document.field(value, "mediaType", str, "", what)
    size = document.field(value, "size", int, -1, what)
    digest = check_digest(value.get("digest"), f"{what}: digest")
    if not 0 <= size <= MAX_BLOB:
        raise ImageError(f"{what}: {digest} has the size {size}")
    if not media_type or len(media_type) > 255 or not media_type.isprintable():
        raise ImageError(f"{what}: {digest} has the media type {media_type[:100]!r}")
    notes = document.text_map(value, "annotations", what)
    artifact = document.field(value, "artifactType", str, "", what)
    place = value.get("platform")
    platform = _platform(place, what) if isinstance(place, dict) else None
    return Descriptor(media_type, digest, size, tuple(notes.items()), platform, artifact)


def _platform(value: dict[str, object], what: str) -> Platform:
    words = [document.field(value, key, str, "", what) for key in ("os", "architecture", "variant")]
    return Platform(*words)


def _own_type(value: dict[str, object], given: str, what: str) -> str:
    """Return the media type, on which header, document and content have to agree: a document
    that could be read in two ways is refused (CVE-2021-41190).
    """
    inside = document.field(value, "mediaType", str, "", what)
    if given and inside and given != inside and given in ACCEPTED:
        raise ImageError(f"{what} came as {given!r} and says it is {inside!r}")
    kind = inside or (given if given in ACCEPTED else "")
    if not kind:
        kind = OCI_INDEX if "manifests" in value else OCI_MANIFEST
    if kind not in ACCEPTED:
        raise ImageError(
            f"{what} is of media type {kind[:100]!r}",
            hint="Viscum reads manifests and indexes of OCI and of Docker's schema 2",
        )
    mixed = ("layers", "config") if kind in INDEXES else ("manifests", "fsLayers")
    for key in mixed:
        if key in value:
            raise ImageError(f"{what} is of media type {kind!r} and has {key!r}")
    return kind


def plain_type(media_type: str) -> str:
    """Return a media type, empty for the one that says nothing."""
    return "" if media_type == "application/octet-stream" else media_type


def parse_manifest(data: bytes, media_type: str = "", what: str = "manifest") -> Index | Manifest:
    """Return the checked manifest or index; `media_type` is what it came as, empty if unknown."""
    value = document.parse(data, what)
    version = document.field(value, "schemaVersion", int, 0, what)
    if version != 2:
        raise ImageError(f"{what} has schema version {version}", hint="version 2 is understood")
    kind = _own_type(value, media_type, what)
    if kind in INDEXES:
        found = document.list_of(value, "manifests", dict, what)
        if len(found) > MAX_MANIFESTS:
            raise ImageError(f"{what} lists {len(found)} manifests")
        return Index(kind, tuple(parse_descriptor(each, what) for each in found))
    config = parse_descriptor(document.fields(value, "config", what), f"{what}: config")
    layers = document.list_of(value, "layers", dict, what)
    if len(layers) > MAX_LAYERS:
        raise ImageError(f"{what} has {len(layers)} layers, more than {MAX_LAYERS}")
    checked = tuple(parse_descriptor(each, f"{what}: layer") for each in layers)
    if config.size > document.MAX_DOCUMENT:
        raise ImageError(f"{what}: the configuration has {config.size} bytes")
    notes = document.text_map(value, "annotations", what)
    return Manifest(kind, config, checked, tuple(notes.items()))


def layer_compression(layer: Descriptor) -> str:
    """Return how a layer is compressed; raises ImageError for what is no layer."""
    kind = COMPRESSIONS.get(layer.media_type)
    if kind is None:
        raise ImageError(
            f"layer {layer.digest} is of media type {layer.media_type!r}",
            hint="layers are tar archives, plain or compressed by gzip or zstd",
        )
    return kind


class Health(Frozen):
    """How an image wants to be asked whether it is well; times in seconds."""

    test: tuple[str, ...] = ()
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    retries: int = 3


class Config(Frozen):
    """What an image says about running it."""

    architecture: str
    os: str
    diff_ids: tuple[str, ...]
    created: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    health: Health | None = None
    history: tuple[tuple[str, str, str, bool], ...] = ()
    """When, by which command, with which comment, and whether it made no layer."""


def _words(value: dict[str, object], key: str, what: str) -> tuple[str, ...]:
    if isinstance(value.get(key), str):  # very old images
        return ("/bin/sh", "-c", str(value[key]))
    return tuple(document.list_of(value, key, str, what))


def _health(value: dict[str, object], what: str) -> Health | None:
    found = document.fields(value, "Healthcheck", what)
    test = tuple(document.list_of(found, "Test", str, what))
    if not test or test[0] == "NONE":
        return None
    if test[0] not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise ImageError(f"{what}: health check {test[0]!r} is unknown", hint="CMD or CMD-SHELL")
    numbers = {
        name: document.field(found, key, int, 0, what) / 1e9
        for name, key in (("interval", "Interval"), ("timeout", "Timeout"))
    }
    given = {name: value for name, value in numbers.items() if value > 0}
    start = document.field(found, "StartPeriod", int, 0, what) / 1e9
    retries = document.field(found, "Retries", int, 0, what) or 3
    return Health(test, start_period=start, retries=retries, **given)


def _history(value: dict[str, object], what: str) -> tuple[tuple[str, str, str, bool], ...]:
    rows = []
    for row in document.list_of(value, "history", dict, what):
        texts = [document.field(row, key, str, "", what) for key in ("created", "created_by")]
        comment = document.field(row, "comment", str, "", what)
        rows.append((*texts, comment, document.field(row, "empty_layer", bool, False, what)))
    return tuple(rows)  # type: ignore[arg-type]


def parse_config(data: bytes, layers: int, what: str = "configuration") -> Config:
    """Return the checked configuration of an image that has so many layers."""
    value = document.parse(data, what)
    root = document.fields(value, "rootfs", what)
    diff_ids = tuple(
        check_digest(each, f"{what}: diff id")
        for each in document.list_of(root, "diff_ids", str, what)
    )
    if len(diff_ids) != layers:
        raise ImageError(f"{what} names {len(diff_ids)} layers, the manifest {layers}")
    own = document.fields(value, "config", what)
    return Config(
        architecture=document.field(value, "architecture", str, "", what),
        os=document.field(value, "os", str, "", what),
        diff_ids=diff_ids,
        created=document.field(value, "created", str, "", what),
        entrypoint=_words(own, "Entrypoint", what),
        command=_words(own, "Cmd", what),
        env=tuple(document.list_of(own, "Env", str, what)),
        user=document.field(own, "User", str, "", what),
        workdir=document.field(own, "WorkingDir", str, "", what),
        volumes=tuple(document.fields(own, "Volumes", what)),
        ports=tuple(document.fields(own, "ExposedPorts", what)),
        labels=tuple(document.text_map(own, "Labels", what).items()),
        stop_signal=document.field(own, "StopSignal", str, "", what),
        health=_health(own, what),
        history=_history(value, what),
    )
