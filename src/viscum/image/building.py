"""Images made here: of an archive, or of what a machine changed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
import zlib

from ..errors import ImageError
from . import compression, document
from .manifest import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from .platforms import Platform
    from .store import Store

__all__ = ["add_history", "add_layer", "extend", "new_config"]

READ = 1 << 20
LEVEL = 1
LAYER = "application/vnd.oci.image.layer.v1.tar"


def add_layer(store: Store, path: str) -> tuple[Descriptor, str]:
    """Keep a tar archive as a layer; return what it is, and its diff id. A plain one is
    compressed by gzip, a compressed one stays as it is.
    """
    temporary = f"{store.pulls}/layer-{os.getpid()}-{id(path):x}"
    try:
        with open(path, "rb", buffering=0) as file, open(temporary, "xb") as out:
            kind = compression.detect(file.read(8))
            file.seek(0)
            made = _keep(file, out) if kind == "none" else _recognise(file, out, kind)
        digest, size, diff_id = made
        suffix = {"gzip": "+gzip", "zstd": "+zstd", "none": "+gzip"}[kind]
        target = store.blob_path(digest)
        os.chmod(temporary, 0o644)
        os.rename(temporary, target)
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return Descriptor(LAYER + suffix, digest, size), diff_id


def _keep(file: BinaryIO, out: BinaryIO) -> tuple[str, int, str]:
    diff, whole, size = hashlib.sha256(), hashlib.sha256(), 0
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    while True:
        data = file.read(READ)
        diff.update(data)
        packed = packer.compress(data) if data else packer.flush()
        whole.update(packed)
        size += out.write(packed)
        if not data:
            return f"sha256:{whole.hexdigest()}", size, f"sha256:{diff.hexdigest()}"


def _recognise(file: BinaryIO, out: BinaryIO, kind: str) -> tuple[str, int, str]:
    diff, whole, size = hashlib.sha256(), hashlib.sha256(), 0
    while data := file.read(READ):
        whole.update(data)
        size += out.write(data)
    file.seek(0)
    for piece in compression.decompressed(iter(lambda: file.read(READ), b""), kind):
        diff.update(piece)
    return f"sha256:{whole.hexdigest()}", size, f"sha256:{diff.hexdigest()}"


def now() -> str:
    """Return this moment as images write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def new_config(platform: Platform, changes: Sequence[str]) -> dict[str, object]:
    """Return the configuration of an image without layers."""
    own: dict[str, object] = {}
    for change in changes:
        apply_change(own, change)
    return {
        "created": now(),
        "architecture": platform.architecture,
        "os": platform.os,
        "config": own,
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [],
    }


def add_history(config: dict[str, object], diff_id: str, command: str, comment: str = "") -> None:
    """Add a layer to a configuration."""
    config["rootfs"]["diff_ids"].append(diff_id)  # type: ignore[index]
    row = {"created": now(), "created_by": command}
    config["history"].append({**row, **({"comment": comment} if comment else {})})  # type: ignore[attr-defined]


def extend(
    config: dict[str, object],
    diff_id: str,
    command: str,
    comment: str,
    changes: Sequence[str],
) -> None:
    """Add a layer, and changes, to the configuration of an image that there is."""
    own = document.fields(config, "config", "configuration")
    config["config"], config["created"] = own, now()
    for change in changes:
        apply_change(own, change)
    config.setdefault("history", [])
    add_history(config, diff_id, command, comment)


def _words(text: str) -> list[str]:
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise ImageError(f"{text!r} is no JSON list of words")
        return found
    return ["/bin/sh", "-c", text]


def apply_change(own: dict[str, object], change: str) -> None:
    """Apply an instruction of a Dockerfile to the part `config` of a configuration."""
    word, *tail = change.split(maxsplit=1) or [""]
    rest = tail[0] if tail else ""
    if "=" in word:  # CMD=["sh"], as Podman takes it too
        word, _, rest = change.strip().partition("=")
    word, rest = word.upper(), rest.strip()
    plain = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}
    if word in ("CMD", "ENTRYPOINT"):
        own["Cmd" if word == "CMD" else "Entrypoint"] = _words(rest)
    elif word in plain and rest:
        own[plain[word]] = rest
    elif word in ("ENV", "LABEL") and rest:
        for pair in shlex.split(rest):
            name, equals, value = pair.partition("=")
            if not equals or not name:
                raise ImageError(f"change {change!r} has no NAME=VALUE")
            _set(own, word, name, value)
    elif word in ("EXPOSE", "VOLUME") and rest:
        key = "ExposedPorts" if word == "EXPOSE" else "Volumes"
        names = _words(rest) if rest.startswith("[") else rest.split()
        own[key] = {**dict(own.get(key) or {}), **{name: {} for name in names}}  # type: ignore[call-overload]
    else:
        raise ImageError(
            f"change {change!r} is unknown",
            hint="CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR",
        )


def _set(own: dict[str, object], word: str, name: str, value: str) -> None:
    if word == "LABEL":
        own["Labels"] = {**dict(own.get("Labels") or {}), name: value}  # type: ignore[call-overload]
        return
    kept = [p for p in own.get("Env") or [] if p.partition("=")[0] != name]  # type: ignore[attr-defined]
    own["Env"] = [*kept, f"{name}={value}"]
