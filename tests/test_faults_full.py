"""Faults: a host that is full, or refuses, or has been left half-written."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

import callers
import viscum
import viscum.launching
from callers import make_caller
from needs import needs
from viscum.record import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callers import Caller

pytestmark = needs("userns")

TIMEOUT = 60


@needs("root", "namespace-tools")
@pytest.mark.parametrize(
    "mount",
    ["mount -t tmpfs -o ro none /var/lib", "mount -t tmpfs -o nr_inodes=3 none /var/lib"],
    ids=["read-only", "full"],
)
def test_state_folder_that_takes_nothing_is_one_clear_error(mount: str) -> None:
    words = [callers.script("viscum"), "run", "--name", "box", "--", "echo", "ran"]
    done = subprocess.run(
        callers.in_mounts(f"{mount};", words), capture_output=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 125
    assert done.stdout == b""
    assert_one_error(done.stderr)
    assert b"/var/lib/viscum" in done.stderr


@needs("root", "namespace-tools")
def test_full_state_disk_leaves_no_entry() -> None:
    """Four pages are gone before the record is written."""
    script = (
        "mount -t tmpfs -o size=8k none /var/lib; mkdir -p /var/lib/viscum; chmod 700 /var/lib/viscum;"
        " head -c 9000 /dev/zero > /var/lib/fill 2>/dev/null;"
    )
    viscum_script = callers.script("viscum")
    inner = f"{viscum_script} run --name box -- true; echo $?; find /var/lib/viscum -type l -o -name '*.json*'"
    done = subprocess.run(
        callers.in_mounts(script, ["sh", "-c", inner]),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stdout == b"125\n", (done.stdout, done.stderr)
    assert_one_error(done.stderr)


def assert_one_error(stderr: bytes) -> None:
    text = stderr.decode()
    assert "Traceback" not in text, text
    assert len(re.findall(r"^viscum: ", text, re.MULTILINE)) == 1, text


@pytest.fixture
def state(tmp_path: pathlib.Path) -> Iterator[list[str]]:
    """A command prefix with an empty state folder of its own, kept between commands."""
    if os.geteuid():
        pytest.skip("the folder of a user follows XDG_RUNTIME_DIR: see the next test")
    held = tmp_path / "lib"
    held.mkdir()
    yield callers.in_mounts(f"mount --bind {held} /var/lib;", [])


@needs("root", "namespace-tools")
def test_entry_of_a_caller_that_is_gone_is_cleared(
    state: list[str], tmp_path: pathlib.Path
) -> None:
    """As a crash of the caller leaves it: a name, a folder, a file half written."""
    held = tmp_path / "lib" / "viscum"
    spec = viscum.Spec(command=("true",))
    owner = f"{os.stat('/proc/self/ns/pid').st_ino:x}-1-ffffffffff"  # pid 1 did not start then
    config = Config("ab" * 32, "box", 1, spec, "viscum-x", owner=owner)
    folder = held / "machines" / config.id
    folder.mkdir(parents=True)
    (held / "names").mkdir()
    held.chmod(0o700)
    (folder / "config.json").write_bytes(config.encode())
    (folder / "status.json.new").touch()
    (held / "names" / "box").symlink_to(config.id)
    words = [*state, callers.script("viscum"), "run", "--name", "box", "--", "echo", "ran"]
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout == b"ran\n", done.stderr.decode()
    assert list((held / "machines").iterdir()) == []
    assert list((held / "names").iterdir()) == []


@needs("root", "namespace-tools")
def test_state_folder_of_somebody_else_is_refused(state: list[str], tmp_path: pathlib.Path) -> None:
    held = tmp_path / "lib" / "viscum"
    held.mkdir(mode=0o777)
    os.chown(held, callers.PLAIN_ID, callers.PLAIN_ID)
    words = [*state, callers.script("viscum"), "run", "--name", "box", "--", "true"]
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 125
    assert_one_error(done.stderr)


def test_disk_that_is_full_inside_fails_only_the_command(caller: Caller) -> None:
    mounts = [viscum.Mount("", "/scratch", kind="tmpfs", size=4096)]
    result = caller.run(["sh", "-c", "head -c 9999 /dev/zero > /scratch/x"], mounts=mounts)
    assert result.verdict == "failed"
    assert b"No space" in result.stderr


@pytest.mark.parametrize("command", ["plan -- true", "version", "doctor", "--help", "run --help"])
def test_full_output_of_the_command_line_is_one_error(command: str) -> None:
    with pathlib.Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [callers.script("viscum"), *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 125
    assert_one_error(done.stderr)


def test_closed_output_of_the_command_line_is_quiet() -> None:
    """As in `viscum plan … | head -1`."""
    words = f"{callers.script('viscum')} plan -- true | head -n 1"
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stderr == b""


NO_DESCRIPTORS = """
import os, resource, sys, viscum
kind = sys.argv[1]
viscum.run(["true"], env={"first": "1"})
if kind == "command":
    machine = viscum.Machine().start()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
answers = set()
for more in range(64):
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    used = max(int(name) for name in os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1 + more, hard))
    try:
        if kind == "run":
            ok = viscum.run(["true"], env={"more": str(more)}, timeout=20).ok
        elif kind == "machine":
            with viscum.Machine(env={"more": str(more)}) as other:
                ok = other.pid > 0
        else:
            ok = machine.run(["true"], timeout=20).ok
        answers.add("ok" if ok else "wrong")
    except viscum.ViscumError as error:
        answers.add(type(error).__name__)
    except OSError as error:
        answers.add(f"bare {error!r}")
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
assert viscum.run(["true"]).ok
if kind == "command":
    assert machine.run(["true"]).ok
    machine.close()
print(sorted(answers))
"""


@pytest.mark.parametrize("kind", ["run", "machine", "command"])
def test_lack_of_descriptors_is_a_clear_error(kind: str, caller: Caller) -> None:
    """However many are left: it works, or says what is missing, and works again afterwards."""
    done = caller.python(NO_DESCRIPTORS, kind)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    answers = set(eval(done.stdout))
    assert answers <= {"ok", "LaunchError", "HostError", "SpecError", "ViscumError"}, answers
    assert len(answers) > 1


def test_lack_of_processes_is_a_clear_error(user: Caller) -> None:
    """No free process for this user: `ulimit -u`."""
    source = (
        "import resource, viscum\n"
        "viscum.run(['true'])\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "try:\n"
        "    viscum.run(['true'], env={'A': '1'})\n"
        "except viscum.ViscumError as error:\n"
        "    print('error', error)\n"
        "try:\n"
        "    viscum.Machine().start()\n"
        "except viscum.ViscumError as error:\n"
        "    print('error', error)\n"
    )
    done = user.python(source)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"error") == 2
    assert b"ulimit -u" in done.stdout


@needs("root", "cgroup-v1", "pids")
def test_lack_of_process_ids_is_a_clear_error() -> None:
    """No free pid in the caller's own group."""
    folder = dict(viscum.launching.this_host().cgroups.v1)["pids"]
    group = pathlib.Path(folder, f"viscumtest-{uuid.uuid4().hex}")
    source = (
        "import pathlib, sys, viscum\n"
        "viscum.run(['true'])\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text('0')\n"
        "pathlib.Path(sys.argv[1], 'pids.max').write_text('1')\n"
        "try:\n"
        "    viscum.run(['true'])\n"
        "except viscum.LaunchError as error:\n"
        "    print('error', error)\n"
    )
    group.mkdir()
    try:
        done = make_caller("root").python(source, str(group))
    finally:
        group.rmdir()
    assert done.stdout.startswith(b"error"), done.stderr.decode()


def test_lack_of_processes_inside_fails_only_the_command() -> None:
    limits = [viscum.Rlimit("nproc", 1, 1)]
    result = viscum.run(["sh", "-c", "true & true & wait"], rlimits=limits, user="1000")
    assert result.verdict in ("failed", "ok")
    assert viscum.run(["true"]).ok


@needs("root")
def test_lack_of_user_namespaces_is_a_clear_error() -> None:
    """In a user namespace whose own limit is used up."""
    source = (
        "import viscum\n"
        "try:\n"
        "    viscum.run(['true'])\n"
        "except viscum.ViscumError as error:\n"
        "    print('error', error.exit_code)\n"
    )
    words = make_caller("root").python_command(source)
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", *words],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stdout == b"error 125\n", done.stderr.decode()


def test_memory_of_the_caller_that_is_short_is_survived() -> None:
    """No address space left for the child's stack."""
    source = (
        "import resource, viscum\n"
        "viscum.run(['true'])\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "for more in (0, 4096, 65536, 1 << 18, 1 << 20):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (size + more, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        viscum.run(['true'], env={'A': str(more)})\n"
        "    except (viscum.ViscumError, MemoryError):\n"
        "        pass\n"
        "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\n"
        "print(viscum.run(['true']).ok)\n"
    )
    done = make_caller("subids" if os.geteuid() else "root").python(source)
    assert done.stdout == b"True\n", done.stderr.decode()[-2000:]


def test_doctor_output_is_data(caller: Caller) -> None:
    done = caller.viscum("doctor", "--format", "json")
    findings = json.loads(done.stdout)
    assert {finding["subject"] for finding in findings} >= {"kernel", "control groups"}
    assert all(finding["state"] in ("ok", "limited", "missing") for finding in findings)
