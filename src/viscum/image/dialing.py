"""Connections to servers: through proxies of the environment, and with TLS as certs.d says."""

from __future__ import annotations

import functools
import os
import socket

from ..errors import ImageError
from .addresses import authority, origin, split
from .http import READ, Broken, Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import TypeVar

    from .addresses import Place
    from .http import Channel
    from .transport import Settings

    T = TypeVar("T")

__all__ = ["Dialer"]

CONNECT_SECONDS, ANSWER_SECONDS = 20, 60
CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")


class Dialer:
    """Connects to a registry and to where that sends one."""

    def __init__(self, registry: str, settings: Settings, *, insecure: bool) -> None:
        self.registry = registry
        self.settings = settings
        self.insecure = insecure
        self._contexts: dict[tuple[str, int], ssl.SSLContext] = {}

    def dial(self, place: Place, idle: list[Line]) -> Line:
        """Return a new connection; raises OSError, and ImageError where trying again is vain."""
        scheme, host, port = place
        proxy = _proxy(place)
        if proxy is not None:
            return self._dial_through(proxy, place, idle)
        channel: Channel = _connect(host, port)
        if scheme == "https":
            channel = _tls(channel, self._context(host, port), host)
        return Line(channel, idle)

    def _dial_through(self, proxy: str, place: Place, idle: list[Line]) -> Line:
        scheme, host, port = origin(proxy)
        try:
            channel: Channel = _connect(host, port)
            if scheme == "https":
                import ssl

                channel = _tls(channel, ssl.create_default_context(), host)
        except OSError as error:
            raise Broken(f"proxy {host}:{port}: {error.strerror or error}") from None
        own = _proxy_credentials(proxy)
        if place[0] == "http":
            line = Line(channel, idle, through=f"http://{authority(place)}")
            line.headers = own
            return line
        tunnel, to = Line(channel, []), authority(place, full=True)
        answer = tunnel.ask("CONNECT", to, {"Host": to, **own})
        if answer.status != 200:
            answer.close()
            raise ImageError(f"proxy {host}:{port} answers {answer.status} for {to}")
        return Line(_tls(channel, self._context(*place[1:]), place[1]), idle)

    # Certificates.

    def _certificates(self, host: str, port: int) -> list[str]:
        """Return the folder with certificates for a host, where there is one."""
        if self.settings.cert_dir:
            return [self.settings.cert_dir]
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        tops = (f"{config}/containers/certs.d", *CERTIFICATES)
        names = [f"{host}:{port}", *([host] if port == 443 else [])]
        folders = [f"{top}/{name}" for name in names for top in tops]
        return [folder for folder in folders if os.path.isdir(folder)][:1]

    def _context(self, host: str, port: int) -> ssl.SSLContext:
        known = self._contexts.get((host, port))
        return known or self._contexts.setdefault((host, port), self._make_context(host, port))

    def _make_context(self, host: str, port: int) -> ssl.SSLContext:
        import ssl

        if self.insecure and host == origin(f"https://{self.registry}/")[1]:
            # Reading the host's authorities takes longer than all the rest of a short answer.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        for folder in self._certificates(host, port):
            try:
                for name in sorted(os.listdir(folder)):
                    path = f"{folder}/{name}"
                    if name.endswith(".crt"):
                        context.load_verify_locations(path)
                    elif name.endswith(".cert"):
                        context.load_cert_chain(path, path.removesuffix("cert") + "key")
            except (OSError, ssl.SSLError) as error:
                raise ImageError(f"certificates in {folder!r}: {error}") from None
        return context


def _connect(host: str, port: int) -> socket.socket:
    try:  # as bytes, a name is not encoded by a codec that takes long to import
        found = socket.create_connection((host.encode(), port), CONNECT_SECONDS)  # type: ignore[arg-type]
    except UnicodeError:
        raise ImageError(f"{host[:200]!r} is no name of a host") from None
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.settimeout(ANSWER_SECONDS)
    return found


def _tls(channel: Channel, context: ssl.SSLContext, host: str) -> Channel:
    """Return TLS over a connection, shaken hands; the connection ends where that fails."""
    import ssl

    try:
        if isinstance(channel, ssl.SSLSocket):
            return _Within(channel, context, host)
        return context.wrap_socket(channel, server_hostname=host)  # type: ignore[arg-type]
    except BaseException:
        channel.close()
        raise


class _Within:
    """TLS inside of TLS: to a registry, through a proxy that one speaks TLS to."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> None:
        import ssl

        self.outer = outer
        self.wanting, self.ending = ssl.SSLWantReadError, (ssl.SSLZeroReturnError, ssl.SSLEOFError)
        self.comes, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.inner = context.wrap_bio(self.comes, self.goes, server_hostname=host)
        self._drive(self.inner.do_handshake)

    def _drive(self, step: Callable[[], T]) -> T:
        """Take a step of TLS, with all that has to go and to come on the outer connection."""
        while True:
            try:
                done = step()
            except self.wanting:
                self.outer.sendall(self.goes.read())
                data = self.outer.recv(READ)
                if data:
                    self.comes.write(data)
                else:
                    self.comes.write_eof()
                continue
            self.outer.sendall(self.goes.read())
            return done

    def recv(self, size: int) -> bytes:
        try:
            return self._drive(lambda: self.inner.read(size))
        except self.ending:
            return b""

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._drive(functools.partial(self.inner.write, rest)) :]

    def fileno(self) -> int:
        return self.outer.fileno()

    def close(self) -> None:
        self.outer.close()


# Proxies.


def _proxy(place: Place) -> str | None:
    """Return the address of the proxy for a place, None for none."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import (  # type: ignore[attr-defined]
        getproxies_environment,
        proxy_bypass_environment,
    )

    scheme, host, port = place
    proxies = getproxies_environment()
    if proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    found: str | None = proxies.get(scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def _proxy_credentials(proxy: str) -> dict[str, str]:
    """Return the header for the user and password in the address of a proxy."""
    import base64
    from urllib.parse import unquote_to_bytes

    user = split(proxy)["user"]
    if not user:
        return {}
    return {"Proxy-Authorization": "Basic " + base64.b64encode(unquote_to_bytes(user)).decode()}
