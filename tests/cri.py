"""A small client of the Kubernetes container runtime interface, by hand-made protocol buffers."""

from __future__ import annotations

import base64
import os
import socket
import urllib.parse
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "/runtime.v1.RuntimeService/"
NODE, POD, CONTAINER = 2, 0, 1


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def pack(*fields: tuple[int, object]) -> bytes:
    """Return a message of (number, value): whole numbers, text, bytes of a message."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def unpack(data: bytes) -> dict[int, list]:
    """Return the values of a message by number; what is nested stays bytes."""
    found: dict[int, list] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(varint())
        elif key & 7 == 2:
            size = varint()
            found.setdefault(key >> 3, []).append(data[at : at + size])
            at += size
        else:
            at += 8 if key & 7 == 1 else 4
    return found


def exchange(connection: socket.socket, path: str, data: bytes) -> bytes:
    """Speak WebSocket (RFC 6455) with a kubelet's streams: channel 0 has the bytes of a port."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline()
    assert b" 101 " in status, status
    while stream.readline().strip():
        pass
    payload = b"\0" + data
    connection.sendall(bytes((0x82, 0x80 | len(payload))) + bytes(4) + payload)  # a mask of zeros
    ports, received = {0, 1}, b""  # each channel begins with the number of its port
    while len(received) < len(data):
        _, size = stream.read(2)
        frame = stream.read(size)
        if frame[0] in ports:
            ports.remove(frame[0])
        elif frame[0] == 0:
            received += frame[1:]
        else:
            raise AssertionError(frame)
    return received


class Cri:
    """Calls the runtime service over its socket."""

    def __init__(self, socket: str, handler: str, image: str, logs: str) -> None:
        self.channel = grpc.insecure_channel(f"unix://{socket}")
        self.handler = handler
        self.image = image
        self.logs = logs
        self.configs: dict[str, bytes] = {}
        self.parent = f"/viscum-cri-{os.getpid()}"
        """The group of all pods."""

    def call(
        self, method: str, *fields: tuple[int, object], timeout: float = 30
    ) -> dict[int, list]:
        """Call a method and return its answer."""
        stub = self.channel.unary_unary(SERVICE + method)
        return unpack(stub(pack(*fields), timeout=timeout))

    def run_pod(self, name: str, *, pid: int = CONTAINER) -> str:
        """Run a pod's sandbox in the host's network and return its id."""
        metadata = pack((1, name), (2, name + "-uid"), (3, "default"))
        options = pack((1, NODE), (2, pid), (3, POD))
        linux = pack((1, self.parent), (2, pack((1, options))))
        config = pack((1, metadata), (3, self.logs), (8, linux))
        answer = self.call("RunPodSandbox", (1, config), (2, self.handler))
        pod = answer[1][0].decode()
        self.configs[pod] = config
        return pod

    def create(self, pod: str, name: str, command: list[str]) -> str:
        """Create a container in a pod and return its id."""
        metadata = pack((1, name))
        image = pack((1, self.image))
        words = [(3, word) for word in command]
        namespaces = pack((1, NODE), (2, CONTAINER), (3, POD))
        linux = pack((2, pack((3, namespaces))))
        fields = [(1, metadata), (2, image), *words, (11, f"{name}.log"), (12, 1), (15, linux)]
        config = pack(*fields)
        answer = self.call("CreateContainer", (1, pod), (2, config), (3, self.configs[pod]))
        return answer[1][0].decode()

    def exec(self, container: str, *command: str) -> tuple[int, bytes]:
        """Run a command in a container; return its exit code and output."""
        answer = self.call("ExecSync", (1, container), *((2, word) for word in command), (3, 20))
        return answer.get(3, [0])[0], answer.get(1, [b""])[0]

    def forward(self, pod: str, port: int, data: bytes) -> bytes:
        """Send `data` to a port of a pod, and return as many bytes of what comes back."""
        url = urllib.parse.urlsplit(self.call("PortForward", (1, pod), (2, port))[1][0].decode())
        with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
            return exchange(connection, f"{url.path}?port={port}", data)

    def state(self, container: str) -> int:
        """Return a container's state: 0 created, 1 running, 2 exited."""
        status = unpack(self.call("ContainerStatus", (1, container))[1][0])
        return int(status.get(3, [0])[0])

    def pods(self) -> Iterator[str]:
        """Yield the ids of all pods."""
        for row in self.call("ListPodSandbox").get(1, []):
            yield unpack(row)[1][0].decode()

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()
