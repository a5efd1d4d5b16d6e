"""A small image of one static program, for engines to run."""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import platform
import tarfile

MACHINE = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}


def write_image(rootfs: pathlib.Path, path: pathlib.Path, name: str, command: list[str]) -> None:
    """Write an image of the files below `rootfs` as an OCI archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(rootfs, arcname=".")
    blobs = {}

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    prefix = "application/vnd.oci.image."
    layer_row = blob(layer.getvalue(), prefix + "layer.v1.tar")
    config = {
        "architecture": MACHINE[platform.machine()],
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_row["digest"]]},
    }
    config_row = blob(json.dumps(config).encode(), prefix + "config.v1+json")
    manifest = {"schemaVersion": 2, "config": config_row, "layers": [layer_row]}
    row = blob(json.dumps(manifest).encode(), prefix + "manifest.v1+json")
    row["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name,
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(archive, "index.json", index)
        for digest, data in blobs.items():
            _add(archive, f"blobs/sha256/{digest}", data)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
