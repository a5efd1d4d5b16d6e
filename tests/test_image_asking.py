"""How registries are asked: answers, addresses, proxies, and lists that come in parts."""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging import CONFIG, Server, certificates
from needs import needs
from viscum.errors import ImageError
from viscum.image.addresses import join, origin, target
from viscum.image.http import Answer, Broken, Line
from viscum.image.registries import Endpoint
from viscum.image.registry import Repository
from viscum.image.together import work_together
from viscum.image.transport import Connection, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = Settings(tls_verify=False)
DIGEST = "sha256:" + "0" * 64
FAMILIES = {"127.0.0.1": socket.AF_INET, "[::1]": socket.AF_INET6}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> None:
    (folder / "auth.json").write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(folder / "auth.json"))
    monkeypatch.setattr("viscum.image.transport.FIRST_DELAY", 0.001)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Wire:
    """The other side of a connection: what it says comes in pieces, and then no more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.sent = b""
        self.closed = False

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece[size:]:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


def answer(*pieces: bytes, method: str = "GET") -> tuple[Answer, Line]:
    line = Line(Wire(list(pieces)), [])  # type: ignore[arg-type]
    return line.ask(method, "/", {"Host": "h"}), line


def body(got: Answer) -> bytes:
    return b"".join(iter(lambda: got.read(7), b""))


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "expected", "lasts"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end", False),
        (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 204 No\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", b"", True),
        (
            CHUNKED + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
            b"abc0123456789",
            True,
        ),
    ],
)
def test_answers_are_read(said: bytes, expected: bytes, lasts: bool) -> None:
    for pieces in ([said], [said[n : n + 1] for n in range(len(said))]):
        got, line = answer(*pieces)
        assert body(got) == expected
        got.finish()
        assert (line in line.idle) is lasts
        assert line.channel.closed is not lasts  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
        HEAD + b"Content-Length: 3\r\n\r\nab",
        HEAD + b"Content-Length: -3\r\n\r\n",
        HEAD + b"Content-Length: 3, 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + "Content-Length: \u0663\r\n\r\n".encode(),
        HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        HEAD + b"Name\r\n\r\n",
        HEAD + b" folded: x\r\n\r\n",
        HEAD + b"Name : x\r\n\r\n",
        HEAD + b"x: " + b"y" * (1 << 17) + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"f" * 17 + b"\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"0\r\n" + b"x: y\r\n" * 500 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_one_error(said: bytes) -> None:
    with pytest.raises(Broken):
        body(answer(said)[0])


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_an_answer_or_one_error(data: bytes, size: int) -> None:
    for start in (b"", HEAD, CHUNKED):
        said = start + data
        with contextlib.suppress(Broken):
            got, _ = answer(*(said[n : n + size] for n in range(0, len(said), size)))
            body(got)
            got.finish()


@pytest.mark.parametrize("header", ["a\r\nb: c", "\n", "é", "\0"])
def test_no_header_is_smuggled_in(header: str) -> None:
    wire = Wire([])
    with pytest.raises(Broken):
        Line(wire, []).ask("GET", "/", {"Name": header})  # type: ignore[arg-type]
    assert wire.sent == b""


# Addresses.


@pytest.mark.parametrize(
    ("url", "place", "path"),
    [
        ("http://h", ("http", "h", 80), "/"),
        ("HTTPS://H:5000/v2/?a=b#c", ("https", "h", 5000), "/v2/?a=b"),
        ("http://user:pass@[::1]:80/x", ("http", "::1", 80), "/x"),
        ("http://h?x=y", ("http", "h", 80), "/?x=y"),
        ("http://h/a b\u00e9\r\nX: y", ("http", "h", 80), "/a%20b%C3%A9%0D%0AX:%20y"),
        ("https://b\u00fccher.example/", ("https", "xn--bcher-kva.example", 443), "/"),
    ],
)
def test_addresses_are_taken_apart(url: str, place: tuple[str, str, int], path: str) -> None:
    assert (origin(url), target(url)) == (place, path)


@pytest.mark.parametrize(
    "url",
    [
        *("", "h", "ftp://h/", "http://", "http:///x", "http://h:x/", "http://h:99999/"),
        *("http://[::1", "http://a b/", "http://h\r\n/", "http://a@b@c:1:2/", "file:///x"),
        *("http\u017f://h/", "http://h\u3000x/", "http://h\u2048x/", "http://\u00a8/", "//h/x"),
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ImageError, match="no web address"):
        origin(url)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_one_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://h/{text}"):
        with contextlib.suppress(ImageError):
            scheme, host, port = origin(join("http://h/x", url))
            assert scheme in ("http", "https")
            assert host.isascii()
            assert " " not in host
            assert port < 1 << 16
            path = target(url)
            assert path.isascii()
            assert path.isprintable()
            assert " " not in path


# Proxies.


class Proxy:
    """A proxy that remembers what it was asked for; it speaks TLS with a `context`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            self.ends.append(client)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            first, *lines = head.decode().split("\r\n")[:-2]
            method, url, _ = first.split(" ")
            self.asked.append((f"{method} {url}", dict(one.split(": ", 1) for one in lines)))
            host, _, port = (url if method == "CONNECT" else url.split("/")[2]).partition(":")
            server = socket.create_connection((host, int(port)))
            self.ends.append(server)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Established\r\nContent-Length: 99\r\n\r\n")
            else:
                server.sendall(head.replace(url.encode(), f"/{url.split('/', 3)[3]}".encode(), 1))
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            _pass_on(client, server)

    def close(self) -> None:
        for end in (self.socket, *self.ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            to.sendall(data)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, pathlib.Path]:
    """The context of a server, and the folder with its certificate."""
    made = certificates(tmp_path_factory.mktemp("certificates"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "server.pem", made / "server.key")
    return context, made / "trusted"


@contextlib.contextmanager
def through(proxy: Proxy) -> Iterator[Proxy]:
    try:
        yield proxy
    finally:
        proxy.close()


def read(url: str, settings: Settings = PLAIN) -> bytes:
    connection = Connection(origin(url)[1], settings)
    try:
        got = connection.request("GET", url)
        data = body(got)
        got.finish()
        return data
    finally:
        connection.close()


def test_plain_requests_go_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server, through(Proxy()) as proxy:
        server.answers["/x"] = (200, {}, b"there")
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert read(f"http://{server.host}/x") == b"there"
        ((asked, headers),) = proxy.asked
        assert asked == f"GET http://{server.host}/x"
        assert headers["Host"] == server.host
        pair = base64.b64encode(b"me:p@ss").decode()
        assert headers["Proxy-Authorization"] == f"Basic {pair}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read(f"http://{server.host}/x") == b"there"
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_goes_through_the_proxy_and_is_checked(
    own: tuple[ssl.SSLContext, pathlib.Path], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Also through one that is spoken to by TLS itself. It sees neither request nor answer."""
    context, trusted = own
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted / "ca.crt"))
    with (
        Server() as server,
        through(Proxy(context if scheme == "https" else None)) as proxy,
    ):
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        server.answers["/x"] = (200, {}, b"there" * 100_000)
        monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{proxy.port}")
        url = f"https://{server.host}/x"
        assert read(url, Settings()) == b"there" * 100_000
        assert proxy.asked == [(f"CONNECT {server.host}", {"Host": server.host})]
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(ImageError, match="certificate"):
            read(url, Settings())


def test_a_proxy_that_refuses_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.host}")
        with pytest.raises(ImageError, match=rf"proxy {proxy.host} answers 501"):
            read("https://registry.invalid/v2/", Settings())


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("[::1]", marks=needs("ipv6"))])
def test_an_insecure_registry_with_tls_is_not_checked(
    own: tuple[ssl.SSLContext, pathlib.Path], host: str
) -> None:
    """Nor asked in plain words for more than whether it speaks them."""
    listening = socket.create_server((host.strip("[]"), 0), family=FAMILIES[host])
    begun: list[bytes] = []
    manifest = b'{"schemaVersion":2}'

    def serve() -> None:
        for _ in range(2):
            client, _ = listening.accept()
            with client, contextlib.suppress(OSError):
                begun.append(client.recv(64, socket.MSG_PEEK))
                with own[0].wrap_socket(client, server_side=True) as spoken:
                    spoken.recv(1 << 16)
                    length = b"Content-Length: %d\r\n\r\n" % len(manifest)
                    spoken.sendall(b"HTTP/1.1 200 OK\r\n" + length + manifest)

    with listening:
        thread = threading.Thread(target=serve)
        thread.start()
        registry = f"{host}:{listening.getsockname()[1]}"
        repository = Repository(Endpoint(registry, "secret/name"), PLAIN)
        try:
            assert repository.manifest("tag")[0] == manifest
        finally:
            repository.close()
            thread.join()
    assert begun[0].startswith(b"GET /v2/ HTTP/1.1\r\n")
    assert begun[1].startswith(b"\x16\x03")


# Referrers in parts.


def referrers(server: Server, **links: str) -> list[str]:
    """Return the digests of what refers to DIGEST, of parts that lead to others by `links`."""
    for number, part in enumerate(("first", "second", "third")):
        row = {"mediaType": CONFIG, "digest": f"sha256:{number:064}", "size": 1}
        headers = {"Link": links[part]} if part in links else {}
        path = f"/v2/r/referrers/{DIGEST}" if number == 0 else f"/v2/r/{part}"
        server.answers[path] = (200, headers, json.dumps({"manifests": [row]}).encode())
    repository = Repository(Endpoint(server.host, "r"), PLAIN)
    try:
        found = repository.referrers(DIGEST, "")
    finally:
        repository.close()
    return [str(row["digest"])[-1] for row in found]


def test_referrers_that_come_in_parts_are_read_to_the_end() -> None:
    with Server() as server:
        links = {
            "first": '</v2/r/second?n=1&last=x>; rel="next"',
            "second": f"<http://{server.host}/v2/r/third>;rel=next",
            "third": '</v2/r/first>; rel="prev"',
        }
        assert referrers(server, **links) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("link", "error"),
    [
        ('</v2/r/second>; rel="next"', "more than 100 parts"),
        ('<http://other.invalid/>; rel="next"', "another host"),
        ('<ftp://x>; rel="next"', "no web address"),
        ('<http://[::1>; rel="next"', "no web address"),
    ],
)
def test_referrers_without_an_end_or_elsewhere_are_refused(link: str, error: str) -> None:
    with Server() as server, pytest.raises(ImageError, match=error):
        referrers(server, first=link, second=link)


# Many at once.


def test_the_first_failure_ends_work_together() -> None:
    begun: list[int] = []
    stopped = threading.Event()

    def task(number: int) -> Callable[[], None]:
        def work() -> None:
            begun.append(number)
            if number == 1:
                raise ValueError("the first")
            stopped.wait(10)

        return work

    def stop() -> None:
        stopped.set()

    with pytest.raises(ValueError, match="the first"):
        work_together((2, [task(number) for number in range(50)]), stop=stop)
    assert len(begun) < 50
