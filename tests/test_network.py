"""The bandwidth of a machine's link, to a peer that is another network namespace."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from commands import VISCUM, assert_refused, call, run_words
from needs import needs
from viscum import HostError, SpecError
from viscum.limits import Limits
from viscum.request import make_limits, make_spec
from viscum.resources.changing import write_all_or_none
from viscum.resources.link import shaping

PEER = """
import os, socket
with socket.create_server(("10.9.0.2", 7000)) as server:
    print("ready", flush=True)
    while True:
        client, _ = server.accept()
        if os.fork():
            client.close()
            continue
        order = client.makefile("rb", buffering=0).readline().split()
        if order[0] == b"give":
            client.sendall(bytes(int(order[1])))
        else:
            left = int(order[1])
            while left and (got := len(client.recv(min(left, 1 << 20)))):
                left -= got
            client.sendall(b".")
        os._exit(0)
"""
CLIENT = """
import socket, sys, time
what, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begun = time.monotonic()
clients = [socket.create_connection(("10.9.0.2", 7000), timeout=50) for _ in range(count)]
for client in clients:
    client.sendall(f"{what} {size // count}\\n".encode())
for client in clients if what == "take" else ():
    client.sendall(bytes(size // count))
for client in clients:
    left = size // count if what == "give" else 1
    while left:
        got = len(client.recv(1 << 20))
        assert got, "the peer has gone"
        left -= got
print(time.monotonic() - begun)
"""
MIB = 1 << 20
BURST = 160 << 10


class Net:
    """A host of its own network, with a peer at 10.9.0.2 that gives and takes bytes."""

    def __init__(self, stack: contextlib.ExitStack, folder: pathlib.Path) -> None:
        (folder / "client.py").write_text(CLIENT)
        self.mount = f"{folder}/client.py:/net/client.py:ro"
        own = {"VISCUM_DATA": f"{folder}/data", "VISCUM_RUN": f"{folder}/run"}
        self.environment = {**os.environ, **own}
        self.here, there = self._namespace(stack), self._namespace(stack)
        ours, theirs = self.entering(self.here), self.entering(there)
        for words in (
            f"ip link add out type veth peer name far netns {there}",
            "ip addr add 10.9.0.1/24 dev out",
            "ip link set lo up",
            "ip link set out up",
            "ip route add default via 10.9.0.2",
        ):
            subprocess.run([*ours, *words.split()], check=True)
        for words in ("addr add 10.9.0.2/24 dev far", "link set far up"):
            subprocess.run([*theirs, "ip", *words.split()], check=True)
        peer = subprocess.Popen([*theirs, sys.executable, "-c", PEER], stdout=subprocess.PIPE)
        stack.callback(self._end, peer)
        assert peer.stdout.readline() == b"ready\n"

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        with process:
            process.kill()

    def _namespace(self, stack: contextlib.ExitStack) -> int:
        process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        stack.callback(self._end, process)
        own = pathlib.Path("/proc/self/ns/net").readlink()
        while pathlib.Path(f"/proc/{process.pid}/ns/net").readlink() == own:
            time.sleep(0.01)
        return process.pid

    @staticmethod
    def entering(pid: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def viscum(self, *words: str) -> subprocess.CompletedProcess:
        return run_words(*self.entering(self.here), VISCUM, *words, env=self.environment)

    def seconds(self, *words: str, what: str, size: int, count: int = 1) -> float:
        """Return how long a machine needs for so many bytes."""
        done = self.viscum(*words, "python3", "/net/client.py", what, str(size), str(count))
        assert done.returncode == 0, done.stderr.decode()
        return float(done.stdout)


@pytest.fixture
def net(tmp_path: pathlib.Path) -> Iterator[Net]:
    with contextlib.ExitStack() as stack:
        yield Net(stack, tmp_path)


@needs("root", "pasta", "link-shaping", "python")
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize(("what", "limit"), [("give", "rx"), ("take", "tx")])
def test_link_is_held_to_its_bandwidth(net: Net, what: str, limit: str, count: int) -> None:
    """Also by several connections at once. What comes in time is little less than was allowed."""
    words = ("run", "-v", net.mount, "--network", "private", "--network-max", f"{limit}=2M", "--")
    spent = net.seconds(*words, what=what, size=4 * MIB, count=count)
    assert spent > (4 * MIB - BURST) / (2 * MIB) * 0.9


@needs("root", "pasta", "link-shaping", "python")
def test_bandwidth_of_a_running_machine_changes(net: Net) -> None:
    done = net.viscum(
        "run", "-d", "--name", "m", "-v", net.mount, "--network", "private", "--", "sleep", "600"
    )
    assert done.returncode == 0, done.stderr.decode()
    try:
        assert net.viscum("update", "--network-max", "rx=1M", "m").returncode == 0
        assert net.seconds("exec", "m", what="give", size=2 * MIB) > 1.5
        assert net.viscum("update", "--network-max", "rx=max,tx=1M", "m").returncode == 0
        assert net.seconds("exec", "m", what="take", size=2 * MIB) > 1.5
        assert _qdiscs(net) == ["eth0 tbf"]
        assert net.viscum("update", "--network-max", "tx=-1,rx=3M", "m").returncode == 0
        assert _qdiscs(net) == ["eth0 ingress", "ifb0 tbf"]
        assert net.viscum("restart", "--time", "0", "m").returncode == 0
        assert _qdiscs(net) == ["eth0 ingress", "ifb0 tbf"]
    finally:
        assert net.viscum("rm", "-f", "m").returncode == 0


@needs("root", "pasta", "link-shaping", "python")
def test_what_a_limited_link_carries_is_counted_once(net: Net) -> None:
    words = ("run", "-d", "--name", "m", "-v", net.mount, "--network", "private")
    assert net.viscum(*words, "--network-max", "rx=50M", "--", "sleep", "600").returncode == 0
    try:
        net.seconds("exec", "m", what="give", size=4 * MIB)
        told = net.viscum("stats", "--no-stream", "--format", "{{.NetIO}}", "m").stdout.decode()
        received, sent = told.split(" / ")
        assert received.startswith("4.") and received.endswith("MB")
        assert "MB" not in sent
    finally:
        assert net.viscum("rm", "-f", "m").returncode == 0


def _qdiscs(net: Net) -> list[str]:
    """Return device and kind of what shapes the machine `m`, in order."""
    pid = net.viscum("inspect", "--format", "{{.State.Pid}}", "m").stdout.decode().strip()
    listed = run_words(*net.entering(int(pid)), "tc", "qdisc").stdout.decode().splitlines()
    words = [line.split() for line in listed]
    return sorted(f"{each[4]} {each[1]}" for each in words if each[1] in ("tbf", "ingress"))


@needs("root", "pasta", "link-shaping", "python")
def test_machine_cannot_lift_its_bandwidth(net: Net) -> None:
    script = "tc qdisc del dev eth0 root || ip link set ifb0 down || ip link del ifb0"
    words = (
        "run",
        "--network",
        "private",
        "--network-max",
        "rx=1M,tx=1M",
        "--",
        "sh",
        "-c",
        script,
    )
    done = net.viscum(*words)
    assert done.returncode
    assert done.stderr.decode().count("Operation not permitted") == 3, done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--network-max", "rx=1M"), "--network private"),
        (("--network", "host", "--network-max", "tx=1M"), "'host'"),
        (("--network", "private", "--network-max", "rx=5"), "5 bytes"),
        (("--network", "private", "--network-max", "rx=-2"), "-2"),
        (("--network", "private", "--network-max", "in=5M"), "'in'"),
        (("--network", "private", "--network-max", ""), "''"),
        (("--network", "private", "--network-max", "rx=1M,"), "''"),
        (("--network", "private", "--network-max", "rx=fast"), "'fast'"),
        (
            ("--network", "private", "--cap-add", "NET_ADMIN", "--network-max", "rx=1M"),
            "NET_ADMIN",
        ),
        (("--network", "private", "--cap-add", "ALL", "--network-max", "rx=1M"), "NET_ADMIN"),
    ],
)
def test_senseless_bandwidth_is_one_clear_error(words: tuple[str, ...], said: str) -> None:
    done = call("run", *words, "--", "true")
    assert_refused(done)
    assert said in done.stderr.decode()


def test_link_that_cannot_be_bounded_leaves_the_other_limits(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pids.max").write_text("10")

    def refuse() -> None:
        raise HostError("no")

    with pytest.raises(HostError):
        write_all_or_none([(str(tmp_path), "pids.max", "20")], refuse)
    assert (tmp_path / "pids.max").read_text() == "10"


def test_bandwidth_in_python() -> None:
    limits = make_limits({"network_rx": "10M", "network_tx": -1})
    assert (limits.network_rx, limits.network_tx) == (10 * MIB, -1)
    with pytest.raises(SpecError, match="network private"):
        make_spec(["true"], {"network_rx": "10M"})


@pytest.mark.parametrize("rate", [1024, 5_000_000, 1 << 40])
def test_queues_hold_what_the_windows_let_come(rate: int) -> None:
    """64 connections at once lose nothing, and each window holds a packet."""
    words = shaping([], Limits(network_rx=rate))
    receive, send, burst, queue, *_, window = words[words.index("sh") + 1 :]
    assert (receive, send) == (str(rate), "")
    assert int(queue) >= 64 * int(window)
    assert int(window) >= 65536
    assert int(burst) >= 65536 + 14
    assert int(queue) < 1 << 32
