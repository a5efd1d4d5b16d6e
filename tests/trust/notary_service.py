"""Debian's notary-server and notary-signer on loopback, and its client."""

from __future__ import annotations

import contextlib
import json
import pathlib
from typing import TYPE_CHECKING

import certificates
import trust_parts

from viscum.image.signatures import fetch
from viscum.image.transport import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROLES = ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")
PASSWORDS = {f"NOTARY_{role}_PASSPHRASE": "passphrase" for role in ROLES}


class Notary:
    """A running service."""

    def __init__(self, folder: pathlib.Path, port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"

    def client(self, *words: str, stdin: str = "") -> str:
        return trust_parts.call(
            "notary", "-s", self.url, "-d", str(self.folder / "home"), *words,
            env=PASSWORDS, stdin=stdin,
        )  # fmt: skip

    def add(self, name: str, tag: str, digest: str, *options: str, size: int = 10) -> None:
        value = digest.removeprefix("sha256:")
        self.client("addhash", "-p", name, tag, str(size), "--sha256", value, *options)

    def fetch(
        self, name: str, kept: dict[str, bytes] | None = None
    ) -> Callable[[str], bytes | None]:
        """Return what fetches files, and keeps them in `kept`."""

        def get(path: str) -> bytes | None:
            found = fetch(f"{self.url}/v2/{name}/_trust/tuf/{path}", Settings(), 16 << 20)
            if kept is not None and found is not None:
                kept[path] = found
            return found

        return get


def _write_certificates(folder: pathlib.Path) -> None:
    authority = certificates.make_authority("service authority")
    (folder / "ca.crt").write_bytes(authority.pem())
    for name in ("server", "signer"):
        made = certificates.make_service(authority, name)
        (folder / f"{name}.crt").write_bytes(made.pem())
        (folder / f"{name}.key").write_bytes(made.secret())


@contextlib.contextmanager
def notary(folder: pathlib.Path) -> Iterator[Notary]:
    """Run the service until the end of the block."""
    folder.mkdir()
    _write_certificates(folder)
    grpc, http = trust_parts.free_port(), trust_parts.free_port()
    common = {"logging": {"level": "error"}, "storage": {"backend": "memory"}}
    signer = {
        "grpc_addr": f"127.0.0.1:{grpc}",
        "tls_cert_file": "signer.crt",
        "tls_key_file": "signer.key",
        "client_ca_file": "ca.crt",
    }
    service = {
        "type": "remote",
        "hostname": "localhost",
        "port": str(grpc),
        "key_algorithm": "ecdsa",
        "tls_ca_file": "ca.crt",
        "tls_client_cert": "server.crt",
        "tls_client_key": "server.key",
    }
    server = {"server": {"http_addr": f"127.0.0.1:{http}"}, "trust_service": service}
    (folder / "signer.json").write_text(json.dumps({"server": signer, **common}))
    (folder / "server.json").write_text(json.dumps({**server, **common}))
    with (
        trust_parts.running(["notary-signer", "-config", str(folder / "signer.json")], grpc),
        trust_parts.running(["notary-server", "-config", str(folder / "server.json")], http),
    ):
        yield Notary(folder, http)
