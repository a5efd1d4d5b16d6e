"""Signatures over HTTP: lookaside storage, the registry's extension, and servers that lie."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trust_parts

import viscum.trust
from needs import needs
from viscum.errors import ImageError, TrustError
from viscum.image import transport
from viscum.image.manifest import OCI_MANIFEST
from viscum.trust import simple
from viscum.trust.policy import parse_policy

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from trust_parts import Keys

MANIFEST = b'{"schemaVersion": 2, "layers": []}'
DIGEST = trust_parts.digest_of(MANIFEST)


class Server:
    """Answers with what is in `answers`, by path; counts what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {"/v2/": (200, {}, b"{}")}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name is the library's
                outer.asked.append(self.path)
                status, headers, body = outer.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Clients that read enough hang up."""

        self.service = Quiet(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.service.server_address[1]}"
        self.thread = threading.Thread(target=self.service.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.service.shutdown()
        self.thread.join()
        self.service.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def check(server: Server, keys: Keys) -> viscum.trust.Decision:
    reference = f"{server.host}/team/app:v1"
    data = base64.b64encode(keys.public("good")).decode()
    rule = {"type": "signedBy", "keyType": "GPGKeys", "keyData": data}
    policy = parse_policy(json.dumps({"default": [rule]}).encode(), "policy")
    server.answers["/v2/team/app/manifests/v1"] = (200, {"Content-Type": OCI_MANIFEST}, MANIFEST)
    sources = trust_parts.open_sources(reference)
    server.asked.clear()
    with contextlib.closing(sources):
        return viscum.trust.check(reference, DIGEST, MANIFEST, sources, policy=policy)


def message(server: Server, keys: Keys) -> bytes:
    claim = simple.make_claim(DIGEST, f"{server.host}/team/app:v1", simple.ATOMIC)
    return keys.sign("good", claim)


def lookaside(server: Server, folders: pathlib.Path) -> str:
    text = f"default-docker:\n  lookaside: http://{server.host}/kept\n"
    (folders / "registries.d" / "default.yaml").write_text(text)
    return f"/kept/team/app@{DIGEST.replace(':', '=')}/signature-"


@needs("gpg")
def test_lookaside_over_http_is_read(server: Server, keys: Keys, own_folders: pathlib.Path) -> None:
    path = lookaside(server, own_folders)
    server.answers[f"{path}1"] = (200, {}, message(server, keys))
    assert "good@example.com" in check(server, keys).identity
    assert server.asked == [f"{path}1"]  # nothing more than was needed


@needs("gpg")
def test_lookaside_ends_at_the_first_that_is_not_there(
    server: Server, keys: Keys, own_folders: pathlib.Path
) -> None:
    path = lookaside(server, own_folders)
    server.answers[f"{path}1"] = (200, {}, keys.sign("other", b"{}"))
    server.answers[f"{path}3"] = (200, {}, message(server, keys))
    with pytest.raises(TrustError, match="not among the trusted ones"):
        check(server, keys)
    assert f"{path}3" not in server.asked


@needs("gpg")
def test_endless_signatures_come_to_an_end(
    server: Server, keys: Keys, own_folders: pathlib.Path
) -> None:
    path = lookaside(server, own_folders)
    other = keys.sign("other", b"{}")
    for number in range(1, 400):
        server.answers[f"{path}{number}"] = (200, {}, other)
    with pytest.raises(TrustError, match="and 125 more"):
        check(server, keys)


@needs("gpg")
@pytest.mark.parametrize("status", [401, 403, 500])
def test_lookaside_that_fails_is_an_error(
    status: int,
    server: Server,
    keys: Keys,
    own_folders: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "FIRST_DELAY", 0.001)
    path = lookaside(server, own_folders)
    server.answers[f"{path}1"] = (status, {}, b"")
    server.answers[f"{path}2"] = (200, {}, message(server, keys))
    with pytest.raises(ImageError, match=f"status {status}"):
        check(server, keys)
    assert server.asked.count(f"{path}1") == (5 if status == 500 else 1)  # what may pass, again


@needs("gpg")
def test_lookaside_that_is_elsewhere_is_read_there_and_nowhere_else(
    server: Server, keys: Keys, own_folders: pathlib.Path
) -> None:
    path = lookaside(server, own_folders)
    server.answers[f"{path}1"] = (301, {"Location": f"http://{server.host}/elsewhere"}, b"")
    server.answers["/elsewhere"] = (200, {}, message(server, keys))
    assert "good@example.com" in check(server, keys).identity
    server.answers["/elsewhere"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(ImageError, match="no web address"):
        check(server, keys)


@needs("gpg")
def test_lookaside_that_has_no_end_is_refused(
    server: Server, keys: Keys, own_folders: pathlib.Path
) -> None:
    path = lookaside(server, own_folders)
    server.answers[f"{path}1"] = (200, {}, b"\x99" * (17 << 20))
    with pytest.raises(ImageError, match="more than"):
        check(server, keys)


def extension(server: Server, signatures: object) -> None:
    server.answers["/v2/"] = (200, {"X-Registry-Supports-Signatures": "1"}, b"{}")
    body = (
        signatures
        if isinstance(signatures, bytes)
        else json.dumps({"signatures": signatures}).encode()
    )
    server.answers[f"/extensions/v2/team/app/signatures/{DIGEST}"] = (200, {}, body)


def kept(data: bytes, **changes: object) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "name": f"{DIGEST}@{'0' * 32}",
        "type": "atomic",
        "content": base64.b64encode(data).decode(),
        **changes,
    }


@pytest.fixture
def no_lookaside(own_folders: pathlib.Path) -> None:
    text = "default-docker:\n  use-sigstore-attachments: false\n"
    (own_folders / "registries.d" / "default.yaml").write_text(text)


@needs("gpg")
@pytest.mark.usefixtures("no_lookaside")
def test_registry_extension_is_read(server: Server, keys: Keys) -> None:
    good = message(server, keys)
    extension(server, [kept(good, type="other"), kept(b"nonsense"), kept(good)])
    assert "good@example.com" in check(server, keys).identity


@needs("gpg")
@pytest.mark.usefixtures("no_lookaside")
def test_registry_without_the_extension_is_not_asked(server: Server, keys: Keys) -> None:
    with pytest.raises(TrustError, match="no signature of simple signing"):
        check(server, keys)
    assert server.asked == ["/v2/"]  # which does not offer it


@needs("gpg")
@pytest.mark.usefixtures("no_lookaside")
@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b'{"signatures": 1}', b'{"signatures": [1]}', b"[" * 100_000,
     b'{"signatures": [{"schemaVersion": 2, "type": "atomic", "content": "%%%%"}]}'],
)  # fmt: skip
def test_registry_extension_that_is_malformed_is_an_error(
    answer: bytes, server: Server, keys: Keys
) -> None:
    extension(server, answer)
    with pytest.raises(ImageError, match=r"signatures|base64"):
        check(server, keys)
