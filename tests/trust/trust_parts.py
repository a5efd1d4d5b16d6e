"""Real parts for the tests of trust: a registry, skopeo, GnuPG; each started once and ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from viscum.cli.trust.local import DirectorySources, LayoutSources
from viscum.cli.trust.remote import RegistrySources
from viscum.image.registries import Endpoint
from viscum.image.registry import Repository
from viscum.image.transport import Settings
from viscum.trust.references import parse_image

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}")


@contextlib.contextmanager
def running(words: list[str], port: int, **options: object) -> Iterator[None]:
    """Run a service until the end of the block."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
    try:
        wait_for_port(port, process)
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)


@contextlib.contextmanager
def registry(folder: pathlib.Path) -> Iterator[str]:
    """Run Debian's registry on loopback; yields its host and port."""
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with running(["docker-registry", "serve", str(config)], port):
        yield f"127.0.0.1:{port}"


def call(*words: str, ok: bool = True, env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, **(env or {})},
    )
    assert (done.returncode == 0) == ok, f"{words}: {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout + done.stderr


class Keys:
    """A GnuPG home with keys of every sort; the agent is ended with it."""

    def __init__(self, home: pathlib.Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        self.environment = {"GNUPGHOME": str(home)}

    def gpg(self, *words: str, ok: bool = True) -> str:
        return call(
            "gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", *words,
            env=self.environment, ok=ok,
        )  # fmt: skip

    def make(self, name: str, kind: str = "ed25519", expires: str = "never", at: str = "") -> str:
        """Make a key that signs, and return its fingerprint."""
        clock = ["--faked-system-time", at] if at else []
        self.gpg(*clock, "--quick-gen-key", f"{name}@example.com", kind, "sign", expires)
        return self.fingerprint(name)

    def fingerprint(self, name: str) -> str:
        listed = self.gpg("--list-keys", "--with-colons", f"{name}@example.com")
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def revoke(self, name: str) -> None:
        path = self.home / "openpgp-revocs.d" / f"{self.fingerprint(name)}.rev"
        path.write_text(path.read_text().replace("\n:-----", "\n-----"))
        self.gpg("--import", str(path))

    def sign(self, name: str, payload: bytes, *options: str) -> bytes:
        source, target = self.home / "payload", self.home / "signed"
        source.write_bytes(payload)
        target.unlink(missing_ok=True)
        user = () if "-u" in options else ("-u", f"{name}@example.com")
        self.gpg(*options, *user, "--output", str(target), "--sign", str(source))
        return target.read_bytes()

    def public(self, *names: str) -> bytes:
        target = self.home / "exported"
        target.unlink(missing_ok=True)
        self.gpg("--output", str(target), "--export", *(f"{name}@example.com" for name in names))
        return target.read_bytes()

    def secret(self, name: str) -> bytes:
        target = self.home / "exported-secret"
        target.unlink(missing_ok=True)
        self.gpg("--output", str(target), "--export-secret-keys", f"{name}@example.com")
        return target.read_bytes()

    def close(self) -> None:
        call("gpgconf", "--kill", "all", env=self.environment)


def podman(shop: pathlib.Path) -> list[str]:
    """Return the first words of a podman that keeps to a folder of its own."""
    return [
        "podman", "--root", str(shop / "p"), "--runroot", str(shop / "r"), "--tmpdir",
        str(shop / "t"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
    ]  # fmt: skip


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def make_layout(path: pathlib.Path, text: str = "one", tag: str = "v1") -> str:
    """Write an OCI layout of an empty image; returns the digest of its manifest."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest.partition(":")[2]).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    config["config"] = {"Labels": {"text": text}}
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {"mediaType": f"{kind}.config.v1+json", **put(json.dumps(config).encode())},
        "layers": [],
    }
    entry = {"mediaType": f"{kind}.manifest.v1+json", **put(json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(entry["digest"])


def open_sources(reference: str, *, writes: bool = False) -> DirectorySources | RegistrySources:
    """Return the sources of an image; registries of these tests have no TLS."""
    image = parse_image(reference)
    if image.transport == "docker":
        return RegistrySources(image.name, Settings(tls_verify=False), writes=writes)
    return LayoutSources(image) if image.transport == "oci" else DirectorySources(image)


def push(layout: pathlib.Path, target: str) -> None:
    """Push the image `v1` of a layout to a registry without TLS."""
    source, name = open_sources(f"oci:{layout}:v1"), parse_image(target).name
    endpoint = Endpoint(name.registry, name.path)
    sink = Repository(endpoint, Settings(tls_verify=False), writes=True)
    manifest = source.top()
    top = json.loads(manifest)
    for part in (top["config"], *top["layers"]):
        sink.put_blob(source.blob(part["digest"]))
    sink.put_manifest(name.tag, manifest, top["mediaType"])
    sink.close()
