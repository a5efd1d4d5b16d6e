"""Registries and images for tests: real ones, and such as an enemy would make."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Self

from viscum.image.platforms import own_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OCI = "application/vnd.oci.image."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
CONFIG, LAYER = OCI + "config.v1+json", OCI + "layer.v1.tar+gzip"
START_SECONDS = 20


def run(*words: object, **options: object) -> subprocess.CompletedProcess:
    """Run a command that has to succeed."""
    settings = {"capture_output": True, "timeout": 60, "check": False, **options}
    done = subprocess.run([str(word) for word in words], **settings)
    assert done.returncode == 0, (words, done.stderr)
    return done


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# Archives.


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of an archive; `fields` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder_of(name: str, mode: int = 0o755, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target, mode=0o777)


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return file.getvalue()


def busybox_layer() -> bytes:
    """A layer with a shell."""
    shell = pathlib.Path("/bin/busybox").read_bytes()
    names = "sh ls cat echo id sleep true env test stat touch rm readlink".split()
    links = [link(f"bin/{name}", "busybox") for name in names]
    rows = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
    return archive(
        folder_of("bin"),
        member("bin/busybox", shell, mode=0o755),
        *links,
        folder_of("etc"),
        member("etc/passwd", rows),
        folder_of("tmp", 0o1777),
    )


# Images.


def packed(data: bytes) -> bytes:
    """The same bytes for the same bytes."""
    return gzip.compress(data, mtime=0)


class Layout:
    """An OCI layout that is made by hand."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.entries: list[dict[str, object]] = []
        self.write()

    def write(self) -> None:
        index = {"schemaVersion": 2, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))

    def put(self, data: bytes, media_type: str, **more: object) -> dict[str, object]:
        (self.path / "blobs" / "sha256" / digest(data)[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def image(
        self,
        name: str,
        layers: list[bytes],
        *,
        pack: Callable[[bytes], bytes] = packed,
        kind: str = LAYER,
        architecture: str = own_platform().architecture,
        **config: object,
    ) -> dict[str, object]:
        """Add an image of tar archives under a name; none for an empty one."""
        made = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.put(json.dumps(made).encode(), CONFIG),
            "layers": [self.put(pack(layer), kind) for layer in layers],
        }
        entry = self.put(json.dumps(manifest).encode(), MANIFEST)
        if name:
            note = {"org.opencontainers.image.ref.name": name}
            self.entries.append({**entry, "annotations": note})
            self.write()
        return entry

    def index(self, name: str, images: dict[str, dict[str, object]]) -> dict[str, object]:
        """Add an index of images by their platforms."""
        rows = []
        for platform, entry in images.items():
            system, architecture, *variant = platform.split("/")
            place = {"os": system, "architecture": architecture}
            rows.append(
                {**entry, "platform": {**place, **({"variant": variant[0]} if variant else {})}}
            )
        data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode()
        entry = self.put(data, INDEX)
        self.entries.append({**entry, "annotations": {"org.opencontainers.image.ref.name": name}})
        self.write()
        return entry


# Registries.


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def registry(folder: pathlib.Path, *, http: str = "", auth: str = "") -> Iterator[str]:
    """A real registry on loopback; yields its host and port. `http` and `auth` are settings."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "registry.yml"
    settings.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}", secret: x{http}}}\n{auth}'
    )
    # Its own settings may come from variables of such names.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(settings)], stdout=log, stderr=log, env=environment
        )
    try:
        _await(f"{'https' if http else 'http'}://127.0.0.1:{port}/v2/", process, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _await(url: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    import ssl

    end = time.monotonic() + START_SECONDS
    context = ssl._create_unverified_context() if url.startswith("https") else None
    while True:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5, context=context).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        else:
            return


def certificates(folder: pathlib.Path) -> pathlib.Path:
    """Return a folder with ca.crt, and server.pem with server.key beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    run(
        *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1".split(),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", folder / "server.key", "-out", folder / "server.pem"),
    )
    trusted = folder / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes((folder / "server.pem").read_bytes())
    return folder


Answer = tuple[int, dict[str, str], "bytes | Callable[[http.server.BaseHTTPRequestHandler], None]"]


class Server:
    """A web server that answers as a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[
            str, Answer | Callable[[http.server.BaseHTTPRequestHandler], Answer]
        ] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                del words

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                self.body = self.rfile.read(length)
                outer.asked.append((self.command, self.path, dict(self.headers)))
                found = outer.answers.get(self.path.partition("?")[0])
                answer = found(self) if callable(found) else found or (404, {}, b"{}")
                status, headers, body = answer
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if callable(body):
                        self.end_headers()
                        body(self)
                        self.close_connection = True
                        return
                    if "Content-Length" not in headers:
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(body)

            do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815 - as http.server calls them

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *words: object) -> None:
                del words

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.answers["/v2/"] = (200, {}, b"{}")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, layout: Layout, repository: str) -> None:
        """Answer for what a layout has, by digests and by names."""
        for path in (layout.path / "blobs" / "sha256").iterdir():
            data = path.read_bytes()
            self.answers[f"/v2/{repository}/blobs/sha256:{path.name}"] = (200, {}, data)
            with contextlib.suppress(ValueError):
                kind = json.loads(data).get("mediaType", "")
                self.answers[f"/v2/{repository}/manifests/sha256:{path.name}"] = (
                    200,
                    {"Content-Type": kind},
                    data,
                )
        for entry in layout.entries:
            name = entry["annotations"]["org.opencontainers.image.ref.name"]
            known = self.answers[f"/v2/{repository}/manifests/{entry['digest']}"]
            self.answers[f"/v2/{repository}/manifests/{name}"] = known


def tree(top: pathlib.Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a folder: kind, mode, owner, time and content by path."""
    found = {}
    for path in sorted(top.rglob("*")):
        is_ = path.lstat()
        content: object = is_.st_rdev
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (oct(is_.st_mode), is_.st_uid, is_.st_gid, content)
    return found


def keep_as_folders(data: pathlib.Path) -> None:
    """Have a store keep images as folders, whatever is faster on this host."""
    data.mkdir(mode=0o700)
    (data / "store.json").write_text('{"storage": "overlay"}')
