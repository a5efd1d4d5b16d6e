"""Units for systemd, and what a service manager is told."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import hypothesis
import hypothesis.strategies as st
import pytest

import living
from needs import needs
from viscum.cli import living_options
from viscum.cli.generating.systemd import quote
from viscum.cli.generating.words import create_words
from viscum.cli.parser import parse
from viscum.cli.table import commands
from viscum.creating import make_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    import callers

TIMEOUT = 30


@pytest.fixture
def place(caller: callers.Caller, folder: pathlib.Path) -> Iterator[living.Place]:
    yield from living.places(caller, folder)


# Units.

ODD = ["sh", "-c", 'echo "a b" $HOME %n; true', "é", "tab\t", "back\\slash", ";", "", "#x", "'"]


@needs("systemd-analyze")
@pytest.mark.parametrize("new", [[], ["--new"]])
def test_unit_is_accepted_by_systemd(place: living.Place, new: list[str]) -> None:
    program = place.folder / "bin" / "viscum"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place.env["PATH"] = f"{program.parent}:/usr/bin:/bin"
    options = ["-e", "A=b c", "-m", "64m", "--label", "x=%i $y", "--stop-timeout", "3"]
    place("create", "--name", "web", *options, "--", *ODD)
    path = place("generate", "systemd", "--files", *new, "web").strip()
    assert path == str(place.folder / "viscum-web.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "viscum-web" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
    text = place("generate", "systemd", *new, "web")
    assert text == pathlib.Path(path).read_text()
    assert ("ExecStartPre=-" in text) == bool(new)
    assert "TimeoutStopSec=33\n" in text


def unquote(text: str) -> list[str]:
    """Return the words of a line as systemd.syntax(7) says, with C escapes."""
    words: list[str] = []
    for bare, quoted in re.findall(r'([^\s"]+)|"((?:[^"\\]|\\.)*)"', text):
        raw = bare or quoted
        data = re.sub(
            rb'\\(x..|[nt\\"])',
            lambda found: (
                bytes([int(found[1][1:], 16)])
                if found[1][:1] == b"x"
                else {b"n": b"\n", b"t": b"\t"}.get(found[1], found[1])
            ),
            raw.encode("utf-8", "surrogateescape"),
        )
        text = data.decode("utf-8", "surrogateescape")
        words.append(text.replace("%%", "%").replace("$$", "$"))
    return words


@hypothesis.given(st.lists(st.text().filter(lambda text: "\0" not in text), max_size=4))
def test_words_are_quoted_so_that_systemd_reads_them_back(words: list[str]) -> None:
    words = [word.encode("utf-8", "replace").decode() for word in words]
    line = " ".join(quote(word) for word in words)
    assert "\n" not in line
    assert unquote(line) == words


COMMANDS = {
    "plain": [],
    "limits": ["-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "7"],
    "bounds": ["--cpus", "0.5..1.25", "-m", "32m..64m", "--class", "batch"],
    "shares": ["-c", "512", "--cpuset-cpus", "0", "--ulimit", "nofile=10:unlimited"],
    "memory": [
        *("-m", "64m", "--memory-reservation", "32m", "--memory-swappiness", "7"),
        *("--memory-high", "60m", "--memory-min", "1m", "--memory-zswap", "2m", "--oom-group"),
        *("--oom-policy", "grow:128m"),
    ],
    "kept": ["--memory-low", "1m", "--oom-kill-disable", "--cpu-idle"],
    "cpu": [
        *("--cpu-quota", "20000", "--cpu-period", "50000", "--cpu-burst", "1000"),
        *("--cpu-weight", "50", "--cpuset-mems", "0"),
    ],
    "io": [
        *("--io-max", "/usr:rbps=1m,wbps=2m,riops=3,wiops=4", "--io-weight", "50"),
        *("--io-weight", "/usr:60", "--io-latency", "/usr:5ms"),
    ],
    "odd": ["--hugetlb", "2MB=4m", "--rdma", "mlx=hca_handle=2,hca_object=3", "--misc", "sev=1"],
    "identity": ["-u", "1000:1000", "-w", "/tmp", "--hostname", "h", "--group-add", "7"],
    "environment": ["-e", "A=b=c", "-e", "B=", "--add-host", "h:1.2.3.4", "--dns", "1.1.1.1"],
    "mounts": ["-v", "/etc:/e:ro", "-v", "/etc:/f:noexec", "--tmpfs", "/t:size=1m,mode=700,exec"],
    "volumes": ["-v", "data:/data"],
    "guard": ["--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--security-opt", "unmask=ALL"],
    "looser": ["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"],
    "namespaces": ["--network", "host", "--ipc", "host", "--uts", "host"],
    "switches": ["--read-only", "--init", "--strict", "-t", "-i"],
    "stopping": ["--stop-signal", "USR1", "--stop-timeout", "2.5", "--timeout", "9"],
    "living": ["--restart", "on-failure:3", "-l", "a=b", "--on-monitor-loss", "end"],
    "health": ["--health-cmd", "true && x", "--health-interval", "1m30s", "--health-retries", "5"],
    "log": ["--log-opt", "max-size=1m", "--log-opt", "max-file=3", "--log-opt", "max-rate=9k"],
    "link": ["--network", "private", "--network-max", "rx=1m,tx=-1"],
    "device": ["--device", "/dev/null:/dev/n:r", "--sysctl", "net.ipv4.ip_forward=1"],
}


def config(words: list[str]):
    parsed = parse(commands()["create"], words)
    arguments = living_options.create(parsed)
    names = "name labels restart health log interactive remove timeout share fixed".split()
    fixed = {name: arguments.pop(name) for name in names}
    return make_config(arguments.pop("command"), arguments, **fixed)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_found_again_from_what_was_written_down(name: str) -> None:
    made = config([*COMMANDS[name], "--", "sh", "-c", "echo $x"])
    again = config(create_words(made))
    same = {"id": made.id, "name": made.name, "created": made.created, "group": made.group}
    assert again.replace(**same, spec=again.spec.replace(layer=made.spec.layer)) == made


def test_options_that_units_need_are_all_known() -> None:
    """A new option of `create` has to be taken along."""
    told = " ".join(flag for words in COMMANDS.values() for flag in words)
    flags = {option.flags[-1]: option for option in commands()["create"].options}
    aside = {"--help", "--rm", "--name", "--env-file", "--mount", "--entrypoint", "--cidfile"}
    aside |= {
        "--rootfs",
        "--volumes-from",
        "--userns",
        "--pid",
        "--health-timeout",
        "--health-start-period",
        "--image",  # told with its entrypoint, see the test below
        *(
            "--pull",
            "--platform",
            "--storage",
            "--tls-verify",
            "--creds",
            "--authfile",
            "--cert-dir",
        ),
        "--blkio-weight",  # other names for what --io-max and --io-weight say
        "--blkio-weight-device",
        "--device-read-bps",
        "--device-write-bps",
        "--device-read-iops",
        "--device-write-iops",
    }
    for flag, option in flags.items():
        assert flag in aside or any(name in told.split() for name in option.flags), flag


def test_machine_of_an_image_is_told_with_its_entrypoint() -> None:
    made = config(["--", "sh", "-c", "echo $x"])
    made = made.replace(spec=made.spec.replace(image="docker.io/library/debian:12"))
    expected = ["--image", "docker.io/library/debian:12", "--entrypoint", "sh"]
    assert create_words(made)[-7:] == [*expected, "--", "-c", "echo $x"]


@pytest.mark.parametrize(
    "words", [[], ["absent"], ["m", "m"], ["--restart-policy", "maybe", "m"], ["--new"]]
)
def test_senseless_unit_is_one_clear_error(words: list[str], tmp_path: pathlib.Path) -> None:
    from commands import assert_refused, call

    env = {**os.environ, "VISCUM_DATA": str(tmp_path / "d"), "VISCUM_RUN": str(tmp_path / "r")}
    assert call("create", "--name", "m", "--", "true", env=env).returncode == 0
    assert_refused(call("generate", "systemd", *words, env=env))
    shutil.rmtree(tmp_path)


# What is told.


class Manager:
    """The socket of a service manager."""

    def __init__(self, place: living.Place) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = str(place.folder / "notify")
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.socket.settimeout(TIMEOUT)
        self.place = place
        place.env["NOTIFY_SOCKET"] = self.path

    def told(self) -> list[str]:
        """Return the lines that have come."""
        self.socket.setblocking(False)
        lines: list[str] = []
        try:
            while True:
                lines += self.socket.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines

    def close(self) -> None:
        self.socket.close()
        del self.place.env["NOTIFY_SOCKET"]


@pytest.fixture
def manager(place: living.Place) -> Iterator[Manager]:
    made = Manager(place)
    yield made
    made.close()


def monitor_of(place: living.Place) -> str:
    (told,) = json.loads(place("inspect", "m"))
    return str(told["State"]["MonitorPid"])


@needs("userns")
def test_monitor_is_told_of_when_a_machine_starts(place: living.Place, manager: Manager) -> None:
    for words in (
        ["run", "-d", "--name", "m", "--sdnotify", "monitor", "--", "sleep", "60"],
        ["start", "--sdnotify", "monitor", "m"],
    ):
        place(*words)
        assert manager.told() == [f"MAINPID={monitor_of(place)}", "READY=1"]
        place("stop", "-t", "0", "m")


@needs("userns")
def test_nothing_is_told_without_being_asked(place: living.Place, manager: Manager) -> None:
    place("run", "-d", "--name", "m", "--", "sh", "-c", "echo $NOTIFY_SOCKET.; sleep 60")
    assert manager.told() == []
    assert place("logs", "m") == ".\n"


READY = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"STATUS=warming up\\nMAINPID=1")
time.sleep(0.3)
s.send(b"READY=1\\nMAINPID=7")
time.sleep(60)
"""


@needs("userns", "python")
def test_machine_tells_that_it_is_ready_itself(place: living.Place, manager: Manager) -> None:
    begun = time.monotonic()
    words = ["--name", "m", "--sdnotify", "machine", "--", "/usr/bin/python3", "-c", READY]
    place("run", "-d", *words)
    assert time.monotonic() - begun >= 0.3
    assert manager.told() == [f"MAINPID={monitor_of(place)}", "STATUS=warming up", "READY=1"]
    assert os.listdir(place.folder / "run" / "notify") == []


@needs("userns")
def test_machine_that_ends_unready_is_one_clear_error(
    place: living.Place, manager: Manager
) -> None:
    words = ["--name", "m", "--sdnotify", "container", "--", "true"]
    assert "ended unready" in place("run", "-d", *words, code=125)
    assert "READY=1" not in manager.told()


@needs("userns")
def test_manager_that_does_not_listen_is_one_clear_error(place: living.Place) -> None:
    place.env["NOTIFY_SOCKET"] = "/nonexistent/socket"
    words = ["run", "-d", "--name", "m", "--sdnotify", "monitor", "--", "sleep", "60"]
    assert "NOTIFY_SOCKET '/nonexistent/socket'" in place(*words, code=125)
    assert "--sdnotify 'x' is unknown" in place("run", "-d", "--sdnotify", "x", "true", code=125)
