"""`viscum plan` and `viscum-launch`: programs that are printed, kept and run."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import stat
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

import leftovers
from commands import LAUNCH, TIMEOUT, call, run_words
from needs import needs

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


def test_plan_prints_every_operation() -> None:
    text = call("plan", "--", "true").stdout.decode()
    assert [line for line in text.splitlines() if not line.startswith(" ")][0] == "load:"
    assert "seccomp program=<" in text
    assert "exec file=true" in text


def test_plan_prints_json() -> None:
    plan = json.loads(call("plan", "--format", "json", "--", "true").stdout)
    assert plan[-1]["section"] in ("exec", "release")
    assert {row["operation"] for row in plan} >= {"clone", "pivot", "seccomp", "exec"}


def test_plan_starts_nothing() -> None:
    done = call("plan", "--", "sh", "-c", "echo ran; touch /tmp/viscum-ran")
    assert b"\nran" not in done.stdout


@pytest.fixture
def plan(folder: pathlib.Path) -> pathlib.Path:
    path = folder / "job.plan"
    done = call("plan", "-o", str(path), "--", "sh", "-c", "echo from the plan; cat; exit 6")
    assert done.returncode == 0, done.stderr.decode()
    return path


def test_plan_file_runs_by_itself(plan: pathlib.Path) -> None:
    done = run_words(plan, input=b"input")
    assert (done.stdout, done.returncode) == (b"from the plan\ninput", 6), done.stderr


def test_plan_file_runs_through_viscum_launch(plan: pathlib.Path) -> None:
    done = run_words(LAUNCH, plan, input=b"input")
    assert (done.stdout, done.returncode) == (b"from the plan\ninput", 6), done.stderr


def test_plan_file_runs_again_and_again(plan: pathlib.Path) -> None:
    assert [run_words(plan).returncode for _ in range(5)] == [6] * 5


def test_plan_file_of_an_ordinary_user_runs(user: Caller, folder: pathlib.Path) -> None:
    folder.chmod(0o777)
    path = folder / "job.plan"
    assert user.viscum("plan", "-o", str(path), "--", "id", "-u").returncode == 0
    done = run_words(*user.command(LAUNCH if user.here else reachable(folder), str(path)))
    assert done.stdout == b"0\n", done.stderr


def reachable(folder: pathlib.Path) -> pathlib.Path:
    """Return a copy of viscum-launch that every user can run."""
    copy = folder / "viscum-launch"
    copy.write_bytes(pathlib.Path(LAUNCH).read_bytes())
    copy.chmod(0o755)
    return copy


def test_plan_file_is_not_writable_for_others(plan: pathlib.Path) -> None:
    mode = plan.stat().st_mode
    assert mode & stat.S_IXUSR
    assert not mode & 0o22


def test_plan_file_replaces_an_older_one_whole(plan: pathlib.Path) -> None:
    before = plan.read_bytes()
    assert call("plan", "-o", str(plan), "--", "no-such", "--memory", "x").returncode == 0
    assert plan.read_bytes() != before
    assert sorted(path.name for path in plan.parent.iterdir()) == ["job.plan"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["true"], 0),
        (["no-such-command"], 127),
        (["/usr"], 126),
        (["--init", "sh", "-c", "kill -9 $$"], 137),
    ],
    ids=str,
)
def test_viscum_launch_ends_with_the_code_that_a_shell_would_have(
    words: list[str], code: int, folder: pathlib.Path
) -> None:
    path = folder / "job.plan"
    call("plan", "-o", str(path), "--", *words) if words[0] != "--init" else call(
        "plan", "-o", str(path), *words
    )
    assert run_words(LAUNCH, path).returncode == code


def test_viscum_launch_forwards_signals(folder: pathlib.Path) -> None:
    path = folder / "job.plan"
    command = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    call("plan", "-o", str(path), "--", "sh", "-c", command)
    with subprocess.Popen([LAUNCH, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait(TIMEOUT) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_viscum_launch_is_ended_by_signals_that_nobody_handles(
    number: int, folder: pathlib.Path
) -> None:
    path = folder / "job.plan"
    call("plan", "-o", str(path), "--", "sh", "-c", "echo ready; exec sleep 600")
    with subprocess.Popen([LAUNCH, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)  # dash itself catches SIGINT
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 128 + number


@needs("memory")
def test_viscum_launch_holds_the_limits_and_removes_the_groups(folder: pathlib.Path) -> None:
    path = folder / "job.plan"
    source = "x = [bytearray(1 << 20) for _ in range(300)]"
    words = ["-m", "64m", "--memory-swap", "64m", "/usr/bin/python3", "-c", source]
    call("plan", "-o", str(path), *words)
    with subprocess.Popen([LAUNCH, str(path)], stderr=subprocess.DEVNULL) as process:
        assert process.wait(TIMEOUT) != 0
    assert leftovers.groups(process.pid) == set()


def assert_launch_refuses(path: object, *words: str) -> str:
    done = run_words(LAUNCH, path)
    text = done.stderr.decode()
    assert done.returncode == 125, (done.returncode, text)
    assert done.stdout == b""
    assert text.startswith("viscum-launch: ")
    assert len(text.splitlines()) == 1
    for word in words:
        assert word in text
    return text


@needs("root")
def test_stale_plan_is_refused(folder: pathlib.Path) -> None:
    """A volume that is another folder by now."""
    volume = folder / "volume"
    volume.mkdir()
    path = folder / "job.plan"
    call("plan", "-o", str(path), "-v", f"{volume}:/data", "--", "true")
    assert run_words(LAUNCH, path).returncode == 0
    volume.rename(folder / "old")
    volume.mkdir()
    assert_launch_refuses(path, "compile")


def test_plan_whose_volume_is_gone_is_refused(folder: pathlib.Path) -> None:
    volume = folder / "volume"
    volume.mkdir()
    path = folder / "job.plan"
    call("plan", "-o", str(path), "-v", f"{volume}:/data", "--", "true")
    volume.rmdir()
    assert_launch_refuses(path)


def test_plan_of_another_kernel_is_refused(plan: pathlib.Path) -> None:
    release = os.uname().release.encode()
    data = plan.read_bytes()
    assert data.count(b"\0" + release + b"\0") == 1
    other = b"9" + release[1:] if release[:1] != b"9" else b"8" + release[1:]
    plan.write_bytes(data.replace(b"\0" + release + b"\0", b"\0" + other + b"\0"))
    assert_launch_refuses(plan, "kernel")


def test_plan_of_another_format_is_refused(plan: pathlib.Path) -> None:
    data = bytearray(plan.read_bytes())
    data[data.index(b"VISCUMPL") + 8] ^= 0x7F
    plan.write_bytes(data)
    assert_launch_refuses(plan, "format")


@pytest.mark.parametrize("kept", [0, 1, 10, 40, 100, 1000, -1])
def test_plan_that_was_cut_short_is_refused(kept: int, plan: pathlib.Path) -> None:
    plan.write_bytes(plan.read_bytes()[:kept])
    assert_launch_refuses(plan)


@pytest.mark.parametrize(
    "content", [b"", b"#!", b"#!\n", b"#!/x", b"\0" * 99, b"VISCUMPL", b"x" * 999]
)
def test_file_that_is_no_plan_is_refused(content: bytes, folder: pathlib.Path) -> None:
    (folder / "file").write_bytes(content)
    assert_launch_refuses(folder / "file")


@pytest.mark.parametrize(
    "path", ["/no/such/file", "/", "/dev/null", "/dev/zero", "/etc/passwd", ""]
)
def test_path_that_is_no_plan_is_refused(path: str) -> None:
    assert_launch_refuses(path)


def test_viscum_launch_without_a_file_says_how() -> None:
    done = run_words(LAUNCH)
    assert done.returncode == 125
    assert b"viscum-launch FILE" in done.stderr


def test_killed_viscum_launch_leaves_no_machine(folder: pathlib.Path) -> None:
    mark = f"VISCUM_TEST_{uuid.uuid4().hex}"
    path = folder / "job.plan"
    call("plan", "-o", str(path), "-e", f"{mark}=1", "--", "sh", "-c", "echo ready; sleep 600")
    with subprocess.Popen([LAUNCH, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.wait(TIMEOUT)
    assert call("run", "--", "true").returncode == 0
    assert leftovers.await_none(mark) == {}
    assert leftovers.groups(process.pid) == set()
