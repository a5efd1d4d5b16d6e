"""Completion scripts, in the shells that they are for."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from callers import script
from commands import call
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20
SHELLS = (
    pytest.param("bash", marks=needs("bash")),
    pytest.param("zsh", marks=needs("zsh")),
    pytest.param("fish", marks=needs("fish")),
)
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='ready> '; "),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='ready> '; autoload -Uz compinit; compinit -u -D; ",
    ),
}


@pytest.fixture
def place(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """An environment with two volumes, and a folder with a file to complete."""
    (folder / "some-file").write_text("")
    own = {"VISCUM_DATA": str(folder / "data"), "VISCUM_RUN": str(folder / "run")}
    path = os.path.dirname(script("viscum")) + ":" + os.environ["PATH"]
    env = {**own, "PATH": path, "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8"}
    for name in ("alpha", "beta"):
        assert call("volume", "create", name, env=env).returncode == 0
    assert call("create", "--name", "machine-one", "--", "true", env=env).returncode == 0
    yield {**env, "PWD": str(folder)}


class Shell:
    """An interactive shell at the other end of a terminal."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        words, first = START[name]
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            words, env=env, cwd=env["PWD"], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.type(f"{first}source <(viscum completion {name}); echo set-up$((6 * 7))\r")
        self.until("set-up42")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str) -> str:
        """Return what is shown up to what `pattern` matches."""
        shown, end = "", time.monotonic() + PATIENCE
        while not re.search(pattern, shown):
            assert time.monotonic() < end, f"{pattern!r} is not in {shown!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                shown += os.read(self.master, 4096).decode(errors="replace")
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


# What is typed, and what it becomes.
UNIQUE = {
    "vers": "version",
    "volume ins": "volume inspect",
    "run --hostn": "run --hostname",
    "run --network pri": "run --network private",
    "volume rm al": "volume rm alpha",
    "volume inspect be": "volume inspect beta",
    "run --rootfs some": "run --rootfs some-file",
    "run -v al": "run -v alpha",
    "volume ls --no": "volume ls --no-trunc",
    "start mac": "start machine-one",
    "exec mac": "exec machine-one",
    "top mac": "top machine-one",
    "rm -f mac": "rm -f machine-one",
    "cp mac": "cp machine-one:",
    "run --rm -i --ipc pr": "run --rm -i --ipc private",
    "completion fi": "completion fish",
    "doctor --format js": "doctor --format json",
}


def completed(name: str, env: dict[str, str], line: str) -> list[str]:
    """Return what fish offers for `viscum LINE`."""
    text = "viscum completion fish | source; complete -C $argv[1]"
    words = [name, "--no-config", "-c", text, f"viscum {line}"]
    done = subprocess.run(
        words, env=env, cwd=env["PWD"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stderr == ""
    return [row.partition("\t")[0] for row in done.stdout.splitlines()]


BASH = """
source <(viscum completion bash)
COMP_LINE="viscum $1" COMP_POINT=$((${#1} + 7))
_viscum 2>&1
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(env: dict[str, str], line: str) -> list[str]:
    """Return what bash offers for `viscum LINE`."""
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", line],
        env=env, cwd=env["PWD"], capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@needs("bash")
@pytest.mark.parametrize("line", UNIQUE)
def test_bash_offers_what_the_table_has(place: dict[str, str], line: str) -> None:
    assert offered(place, line) == [UNIQUE[line].split(" ")[-1]]


@needs("bash")
def test_bash_offers_all_of_a_kind(place: dict[str, str]) -> None:
    assert {"run", "volume", "completion"} <= set(offered(place, ""))
    assert "__names" not in offered(place, "")
    assert offered(place, "volume ") == ["create", "ls", "inspect", "rm", "prune"]
    assert offered(place, "volume rm ") == ["alpha", "beta"]
    assert offered(place, "run --network=") == ["none", "host", "private"]
    assert offered(place, "run --network=ho") == ["host"]
    assert offered(place, "volume rm alpha --fo") == ["--force"]
    # What stands behind the machine's command is no option of ours.
    assert offered(place, "run -- ls --net") == []
    assert offered(place, "run ls some") == ["some-file"]
    assert offered(place, "exec machine-one some") == ["some-file"]
    assert offered(place, "cp some") == ["some-file"]
    assert offered(place, "frobnicate ") == []


@needs("fish")
@pytest.mark.parametrize("line", UNIQUE)
def test_fish_offers_what_the_table_has(place: dict[str, str], line: str) -> None:
    assert UNIQUE[line].split(" ")[-1] in completed("fish", place, line)


@needs("fish")
def test_fish_offers_all_of_a_kind(place: dict[str, str]) -> None:
    assert {"run", "volume", "completion"} <= set(completed("fish", place, ""))
    assert set(completed("fish", place, "volume ")) == {"create", "ls", "inspect", "rm", "prune"}
    assert completed("fish", place, "volume rm ") == ["alpha", "beta"]
    assert set(completed("fish", place, "run --network ")) == {"none", "host", "private"}


@pytest.mark.parametrize("name", SHELLS[:2])
def test_tab_completes_at_a_terminal(place: dict[str, str], name: str) -> None:
    shell = Shell(name, place)
    try:
        for line, becomes in UNIQUE.items():
            shell.type(f"viscum {line}\t")
            shell.until(re.escape(becomes.split(" ")[-1]) + "[ /]?")
            shell.type("\x15")
    finally:
        shell.close()


@pytest.mark.parametrize("shell", ["", "tcsh", "bash zsh"])
def test_shell_that_is_none_is_refused(shell: str) -> None:
    done = call("completion", *shell.split())
    assert done.returncode == 125
    assert done.stderr.decode().startswith("viscum: shell ")


def test_names_for_completion_are_quiet_about_what_is_not_there(tmp_path: pathlib.Path) -> None:
    env = {**os.environ, "VISCUM_DATA": str(tmp_path / "a"), "VISCUM_RUN": str(tmp_path / "b")}
    for kind in ("machines", "volumes", "paths", "nonsense"):
        done = call("__names", kind, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not list(tmp_path.iterdir())
