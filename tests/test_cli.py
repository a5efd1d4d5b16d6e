"""The command line, as it is installed: run, plan, doctor, version, and viscum-launch."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import termios
import time
import uuid
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import make_caller, script
from needs import needs
from terminals import Terminal
from viscum.cli.table import COMMANDS, MACHINE

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")

TIMEOUT = 60
VISCUM, LAUNCH = script("viscum"), script("viscum-launch")


def call(*words: str, **options: object) -> subprocess.CompletedProcess:
    """Run a command of this installation; its output is kept."""
    settings = {"capture_output": True, "timeout": TIMEOUT, "check": False, **options}
    if "input" not in settings:
        settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([VISCUM, *words], **settings)


def start(*words: str, **options: object) -> subprocess.Popen:
    settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    return subprocess.Popen([VISCUM, *words], **settings)


def assert_refused(done: subprocess.CompletedProcess, code: int = 125) -> None:
    """One clear error, nothing else."""
    text = done.stderr.decode()
    assert done.returncode == code, (done.returncode, text)
    assert "Traceback" not in text
    assert len(re.findall("^viscum: ", text, re.MULTILINE)) == 1, text
    assert done.stdout == b""


# What it is.


def test_version_is_printed() -> None:
    assert viscum.__version__ in call("version").stdout.decode()
    assert call("--version").stdout == call("version").stdout
    assert json.loads(call("version", "--format", "json").stdout)["viscum"] == viscum.__version__


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_help_names_every_command(words: list[str]) -> None:
    text = call(*words).stdout.decode()
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_every_option(name: str) -> None:
    done = call(name, "--help")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert all(flag in text for option in COMMANDS[name].options for flag in option.flags)


def test_doctor_says_what_this_host_offers(caller: Caller) -> None:
    done = caller.viscum("doctor")
    assert done.returncode == 0, done.stdout.decode()
    assert b"Linux" in done.stdout
    assert b"started, ok" in done.stdout


# run.


def test_run_passes_output_and_exit_code(caller: Caller) -> None:
    done = caller.viscum("run", "--rm", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)


def test_run_needs_no_dashes() -> None:
    assert call("run", "echo", "-n", "--rm").stdout == b"--rm"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 0"], 0),
        (["sh", "-c", "exit 255"], 255),
        (["no-such-command"], 127),
        (["/no/such/command"], 127),
        (["/usr"], 126),
        (["/etc/passwd"], 126),
        (["/usr/bin/python3", "-c", "import ctypes; ctypes.string_at(0)"], 128 + 11),
        (["--init", "sh", "-c", "kill -9 $$"], 128 + 9),
        (["--workdir", "/no/such/folder", "true"], 125),
        (["--timeout", "0.2", "sleep", "600"], 128 + 9),
    ],
    ids=str,
)
def test_run_ends_with_the_code_that_a_shell_would_have(words: list[str], code: int) -> None:
    assert call("run", *words).returncode == code


def test_run_keeps_stdin_only_when_asked() -> None:
    assert call("run", "-i", "cat", input=b"data").stdout == b"data"
    assert call("run", "cat", input=b"data").stdout == b""


def test_run_says_that_time_ran_out() -> None:
    done = call("run", "--timeout", "0.2", "--", "sleep", "600")
    assert b"0.2 s" in done.stderr


@needs("memory")
def test_run_says_that_memory_ran_out() -> None:
    command = ["/usr/bin/python3", "-c", "x = [bytearray(1 << 20) for _ in range(300)]"]
    done = call("run", "-m", "64m", "--memory-swap", "64m", *command)
    assert b"memory" in done.stderr
    assert done.returncode != 0


def test_run_leaves_the_output_to_others() -> None:
    """As in `viscum run -- yes | head -1`."""
    words = f"{VISCUM} run --init -- yes | head -n 1"
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=TIMEOUT, check=False)
    assert (done.stdout, done.stderr) == (b"y\n", b"")


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_with_closed_streams_gives_no_others(streams: str) -> None:
    inner = "for n in 0 1 2 3 4 5; do readlink /proc/self/fd/$n; done | grep -v pipe; ls /proc/self/fd/2/etc"
    words = f"exec 7>&1; {VISCUM} run -i -- sh -c '({inner}) 2>&1' {streams} | cat; true"
    done = subprocess.run(["sh", "-c", words], capture_output=True, timeout=TIMEOUT, check=False)
    assert b"cgroup" not in done.stdout
    assert b"passwd" not in done.stdout


# Signals.


def started(*words: str) -> subprocess.Popen:
    """Start a machine whose command says when it is ready."""
    process = start("run", *words)
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signal_ends_a_machine_that_does_not_handle_it(number: int) -> None:
    with started("--", "sh", "-c", "echo ready; exec sleep 600") as process:
        time.sleep(0.2)  # dash itself catches SIGINT
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 128 + number


@pytest.mark.parametrize("options", [[], ["--init"]], ids=["plain", "init"])
def test_signal_reaches_a_command_that_handles_it(options: list[str]) -> None:
    command = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with started(*options, "--", "sh", "-c", command) as process:
        process.terminate()
        assert process.wait(TIMEOUT) == 9


def test_signals_of_users_are_forwarded() -> None:
    command = "trap 'echo one' USR1; trap 'exit 5' USR2; echo ready; while :; do sleep 0.05; done"
    with started("--", "sh", "-c", command) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"one\n"
        process.send_signal(signal.SIGUSR2)
        assert process.wait(TIMEOUT) == 5


def test_stop_signal_is_what_term_becomes() -> None:
    command = "trap 'exit 8' USR1; echo ready; while :; do sleep 0.05; done"
    with started("--stop-signal", "USR1", "--", "sh", "-c", command) as process:
        process.terminate()
        assert process.wait(TIMEOUT) == 8


def test_stop_timeout_ends_what_does_not_stop() -> None:
    command = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    with started("--stop-timeout", "0.3", "--", "sh", "-c", command) as process:
        process.terminate()
        assert process.wait(TIMEOUT) in (128 + signal.SIGKILL, 128 + signal.SIGTERM)


# Names.


def test_name_is_taken_while_the_machine_runs() -> None:
    name = f"test-{uuid.uuid4().hex}"
    with started("--name", name, "--", "sh", "-c", "echo ready; sleep 600") as process:
        assert_refused(call("run", "--name", name, "--", "true"))
        process.terminate()
        process.wait(TIMEOUT)
    assert call("run", "--name", name, "--", "true").returncode == 0


def test_name_of_a_killed_caller_is_free() -> None:
    name = f"test-{uuid.uuid4().hex}"
    with started("--name", name, "--", "sh", "-c", "echo ready; sleep 600") as process:
        process.kill()
        process.wait(TIMEOUT)
    assert call("run", "--name", name, "--", "true").returncode == 0


def test_name_is_free_when_the_launch_failed() -> None:
    name = f"test-{uuid.uuid4().hex}"
    assert call("run", "--name", name, "--", "no-such-command").returncode == 127
    assert call("run", "--name", name, "--", "true").returncode == 0


def test_name_is_taken_by_one_of_many_that_want_it() -> None:
    name = f"test-{uuid.uuid4().hex}"
    words = ["run", "--name", name, "--", "sh", "-c", "echo mine; sleep 2"]
    processes = [start(*words, stderr=subprocess.DEVNULL) for _ in range(6)]
    outputs = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert sorted(outputs) == [b""] * 5 + [b"mine\n"]
    assert sorted(process.returncode for process in processes) == [0] + [125] * 5


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-x", "a/b", "a b", "ü", "a\nb", "x" * 129, "../x"]
)
def test_odd_name_is_refused(name: str) -> None:
    assert_refused(call("run", f"--name={name}", "--", "true"))


# Every option once.

PRINT_STATUS = ["grep", "-E", "^(Cap|No|Sec)", "/proc/self/status"]
OPTIONS: dict[str, tuple[list[str], list[str], str]] = {
    "-i": (["-i"], ["cat"], "^typed$"),
    "--interactive": (["--interactive"], ["cat"], "^typed$"),
    "-t": (["-t"], ["tty"], "/dev/pts/0"),
    "--tty": (["--tty"], ["sh", "-c", "test -t 1 && echo yes"], "yes"),
    "--rm": (["--rm"], ["echo", "x"], "^x$"),
    "--name": (["--name", f"test-{os.getpid()}"], ["echo", "x"], "^x$"),
    "-e": (["-e", "A=1", "-eB=2", "--env", "C=3"], ["env"], "(?s)A=1.*B=2.*C=3"),
    "--env": (["--env=PASSED"], ["env"], "PASSED=on"),
    "--env-file": (["--env-file", "{folder}/env"], ["env"], "FROM_FILE=a b"),
    "-v": (["-v", "{folder}:/data:ro"], ["cat", "/data/file"], "content"),
    "--volume": (["--volume", "{folder}:/data"], ["cat", "/data/file"], "content"),
    "--mount": (
        ["--mount", "type=bind,src={folder},dst=/data,ro"],
        ["sh", "-c", "cat /data/file; touch /data/x || echo closed"],
        "(?s)content.*closed",
    ),
    "--tmpfs": (["--tmpfs", "/s:size=64k,mode=700"], ["stat", "-c%a", "/s"], "700"),
    "-w": (["-w", "/usr"], ["pwd"], "^/usr$"),
    "--workdir": (["--workdir=/usr/bin"], ["pwd"], "^/usr/bin$"),
    "-u": (["-u", "0:0"], ["id", "-u"], "^0$"),
    "--user": (["--user", "root"], ["id", "-g"], "^0$"),
    "--group-add": (["--group-add", "0"], ["id", "-G"], "^0"),
    "--hostname": (["--hostname", "box"], ["hostname"], "^box$"),
    "--entrypoint": (["--entrypoint", "echo"], ["argument"], "^argument$"),
    "-m": (["-m", "64m"], ["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"], "67108864"),
    "--memory": (["--memory", "64M"], ["echo", "x"], "x"),
    "--memory-swap": (["-m", "64M", "--memory-swap", "-1"], ["echo", "x"], "x"),
    "--cpus": (["--cpus", "1.5"], ["echo", "x"], "x"),
    "-c": (["-c", "512"], ["echo", "x"], "x"),
    "--cpu-shares": (["--cpu-shares", "512"], ["echo", "x"], "x"),
    "--cpuset-cpus": (["--cpuset-cpus", "0"], ["nproc"], "^1$"),
    "--pids-limit": (["--pids-limit", "20"], ["echo", "x"], "x"),
    "--ulimit": (["--ulimit", "nofile=99:199"], ["sh", "-c", "ulimit -n; ulimit -Hn"], "99\n199"),
    "--read-only": (["--read-only"], ["sh", "-c", "touch /usr/x || echo closed"], "closed"),
    "--cap-add": (["--cap-add", "NET_ADMIN"], PRINT_STATUS, "CapEff:\t00000000800415fb"),
    "--cap-drop": (["--cap-drop", "ALL"], PRINT_STATUS, "CapEff:\t0000000000000000"),
    "--security-opt": (
        ["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"],
        PRINT_STATUS,
        "(?s)NoNewPrivs:\t0.*Seccomp:\t0",
    ),
    "--device": (["--device", "/dev/null:/opt/void"], ["stat", "-c%F", "/opt/void"], "character"),
    "--init": (["--init"], ["sh", "-c", "test $$ != 1 && echo yes"], "yes"),
    "--network": (["--network", "host"], ["readlink", "/proc/self/ns/net"], "{net}"),
    "--userns": (["--userns", "private"], ["id", "-u"], "^0$"),
    "--pid": (["--pid", "host"], ["readlink", "/proc/self/ns/pid"], "{pid}"),
    "--ipc": (["--ipc", "host"], ["readlink", "/proc/self/ns/ipc"], "{ipc}"),
    "--uts": (["--uts", "host"], ["readlink", "/proc/self/ns/uts"], "{uts}"),
    "--rootfs": (["--rootfs", "/usr", "-v", "/usr:/usr"], ["/bin/true"], "^$"),
    "-l": (["-l", "a=b"], ["echo", "x"], "x"),
    "--label": (["--label", "a=b"], ["echo", "x"], "x"),
    "--stop-signal": (["--stop-signal", "SIGINT"], ["echo", "x"], "x"),
    "--stop-timeout": (["--stop-timeout", "1.5"], ["echo", "x"], "x"),
    "--timeout": (["--timeout", "30"], ["echo", "x"], "x"),
    "--strict": (["--strict"], ["echo", "x"], "x"),
    "--sysctl": (
        ["--sysctl", "net.ipv4.ip_default_ttl=99"],
        ["cat", "/proc/sys/net/ipv4/ip_default_ttl"],
        "^99$",
    ),
    "--add-host": (["--add-host", "db:10.0.0.1"], ["cat", "/etc/hosts"], "10.0.0.1\tdb"),
    "--dns": (["--dns", "9.9.9.9"], ["cat", "/etc/resolv.conf"], "nameserver 9.9.9.9"),
    "-h": (["-h"], [], "usage: viscum run"),
    "--help": (["--help"], [], "usage: viscum run"),
}
NEEDS = {
    "-m": needs("cgroup-v1", "memory"),
    "--memory": needs("memory"),
    "--memory-swap": needs("memory-swap"),
    "--cpus": needs("cpu"),
    "-c": needs("cpu"),
    "--cpu-shares": needs("cpu"),
    "--cpuset-cpus": needs("cpuset"),
    "--pids-limit": needs("pids"),
    "--pid": needs("root"),
    "--rootfs": needs("root"),
}


@pytest.mark.parametrize(
    "flag", [pytest.param(flag, marks=NEEDS.get(flag, ())) for flag in OPTIONS]
)
def test_option_does_what_its_help_says(
    flag: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSED", "on")
    folder.chmod(0o777)
    (folder / "file").write_text("content\n")
    (folder / "env").write_text("# a comment\n\nFROM_FILE=a b\n")
    options, command, expected = OPTIONS[flag]
    words = [word.replace("{folder}", str(folder)) for word in options]
    for name in ("net", "pid", "ipc", "uts"):
        expected = expected.replace("{%s}" % name, re.escape(os.readlink(f"/proc/self/ns/{name}")))
    done = call("run", *words, *command, input=b"typed")
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(expected, done.stdout.decode().replace("\r", ""), re.MULTILINE), done.stdout


def test_every_option_is_tried() -> None:
    documented = {flag for option in MACHINE for flag in option.flags}
    assert documented == set(OPTIONS)


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["run"],
        ["run", "--"],
        ["run", "--no-such-option", "true"],
        ["run", "-Z", "true"],
        ["run", "--name"],
        ["run", "--read-only=maybe", "true"],
        ["run", "--entrypoint", "", "--"],
        ["run", ""],
        ["run", "-e", "=x", "true"],
        ["run", "--env-file", "/no/such/file", "true"],
        ["run", "--env-file", "/", "true"],
        ["run", "-v", "/usr", "true"],
        ["run", "-v", ":/x", "true"],
        ["run", "-v", "/usr:", "true"],
        ["run", "-v", "/usr:/x:fast", "true"],
        ["run", "-v", "/usr:/x:ro:ro", "true"],
        ["run", "-v", "/no/such/folder:/x", "true"],
        ["run", "-v", "named:/x", "true"],
        ["run", "-v", "/usr:/proc", "true"],
        ["run", "--mount", "nonsense", "true"],
        ["run", "--mount", "type=nfs,source=/usr,target=/x", "true"],
        ["run", "--mount", "type=bind,source=/usr", "true"],
        ["run", "--mount", "", "true"],
        ["run", "--tmpfs", "/x:size=-1", "true"],
        ["run", "--tmpfs", "/x:mode=999", "true"],
        ["run", "--tmpfs", "/x:fast", "true"],
        ["run", "--tmpfs", "relative", "true"],
        ["run", "--memory", "0", "true"],
        ["run", "--memory", "-1", "true"],
        ["run", "--memory", "1e400", "true"],
        ["run", "--memory", "9" * 500, "true"],
        ["run", "--cpus", "nan", "true"],
        ["run", "--cpus", "1e999", "true"],
        ["run", "--pids-limit", "many", "true"],
        ["run", "--pids-limit", "-7", "true"],
        ["run", "--cpuset-cpus", "²", "true"],
        ["run", "--ulimit", "nofile", "true"],
        ["run", "--ulimit", "nofile=2:1", "true"],
        ["run", "--ulimit", "cows=1", "true"],
        ["run", "--ulimit", "nofile=1e3", "true"],
        ["run", "--security-opt", "seccomp=", "true"],
        ["run", "--security-opt", "seccomp=/no/such/file", "true"],
        ["run", "--security-opt", "label=disable", "true"],
        ["run", "--security-opt", "apparmor=x", "true"],
        ["run", "--security-opt", "nonsense", "true"],
        ["run", "--network", "bridge", "true"],
        ["run", "--stop-signal", "SIGNOTHING", "true"],
        ["run", "--stop-signal", "0", "true"],
        ["run", "--stop-timeout", "soon", "true"],
        ["run", "--timeout", "-1", "true"],
        ["run", "--timeout", "inf", "true"],
        ["run", "--sysctl", "kernel.core_pattern=x", "true"],
        ["run", "--sysctl", "net.no.such.thing=1", "true"],
        ["run", "--sysctl", "x", "true"],
        ["run", "--add-host", "db", "true"],
        ["run", "--device", "/no/such/device", "true"],
        ["run", "--device", "/etc/passwd", "true"],
        ["run", "--device", "/dev/null:/x:q", "true"],
        ["run", "--rootfs", "/no/such/root", "true"],
        ["run", "--rootfs", "/etc/passwd", "true"],
        ["run", "--rootfs", "", "true"],
        ["run", "--user", "nobody-of-that-name", "true"],
        ["run", "--group-add", "no-such-group", "true"],
        ["run", "--hostname", "", "true"],
        ["run", "--hostname", "a\nb", "true"],
        ["run", "--label", "", "true"],
        ["plan", "--format", "xml", "true"],
        ["plan", "-t", "-o", "/tmp/viscum-none", "true"],
        ["plan", "-o", "/no/such/folder/plan", "true"],
        ["plan", "-o", "/", "true"],
        ["doctor", "--format", "xml"],
        ["version", "--format", "xml"],
    ],
    ids=lambda words: ascii(" ".join(words))[:60],
)
def test_senseless_words_are_one_clear_error(words: list[str]) -> None:
    assert_refused(call(*words))


def test_words_that_are_no_text_are_survived() -> None:
    done = subprocess.run(
        [VISCUM, "run", "--", "printf", "%s", b"\xff\xfe"],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stdout == b"\xff\xfe"


# plan.


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


def run_plan(*words: object, **options: object) -> subprocess.CompletedProcess:
    settings = {"capture_output": True, "timeout": TIMEOUT, "check": False, **options}
    if "input" not in settings:
        settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(word) for word in words], **settings)


def test_plan_file_runs_by_itself(plan: pathlib.Path) -> None:
    done = run_plan(plan, input=b"input")
    assert (done.stdout, done.returncode) == (b"from the plan\ninput", 6), done.stderr


def test_plan_file_runs_through_viscum_launch(plan: pathlib.Path) -> None:
    done = run_plan(LAUNCH, plan, input=b"input")
    assert (done.stdout, done.returncode) == (b"from the plan\ninput", 6), done.stderr


def test_plan_file_runs_again_and_again(plan: pathlib.Path) -> None:
    assert [run_plan(plan).returncode for _ in range(5)] == [6] * 5


def test_plan_file_of_an_ordinary_user_runs(user: Caller, folder: pathlib.Path) -> None:
    folder.chmod(0o777)
    path = folder / "job.plan"
    assert user.viscum("plan", "-o", str(path), "--", "id", "-u").returncode == 0
    done = run_plan(*user.command(LAUNCH if user.here else reachable(folder), str(path)))
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
    assert run_plan(LAUNCH, path).returncode == code


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
    import leftovers

    assert leftovers.groups(process.pid) == set()


def assert_launch_refuses(path: object, *words: str) -> str:
    done = run_plan(LAUNCH, path)
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
    assert run_plan(LAUNCH, path).returncode == 0
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
    done = run_plan(LAUNCH)
    assert done.returncode == 125
    assert b"viscum-launch FILE" in done.stderr


def test_killed_viscum_launch_leaves_no_machine(folder: pathlib.Path) -> None:
    import leftovers

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


# The terminal.


def shell(*options: str) -> Terminal:
    """A shell in a machine, on a terminal, at its prompt."""
    terminal = Terminal([VISCUM, "run", "-it", "-e", "PS1=at> ", *options, "--", "sh"])
    terminal.expect("at> ")
    return terminal


@needs("namespace-tools")
def test_terminal_works_as_in_a_shell() -> None:
    with shell() as terminal:
        terminal.type("echo $((6 * 7)); tty; test -t 0 && test -t 1 && test -t 2 && echo all\n")
        terminal.expect("42\r\n/dev/pts/0\r\nall")
        terminal.type("exit 7\n")
        assert terminal.wait() == 7


@needs("namespace-tools")
def test_terminal_follows_the_size_of_the_window() -> None:
    with shell() as terminal:
        terminal.type("stty size\n")
        terminal.expect("24 80")
        terminal.type("trap 'echo changed' WINCH\n")
        terminal.expect("at> ")
        terminal.resize(40, 133)
        time.sleep(0.3)
        terminal.type("stty size\n")
        terminal.expect("40 133")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_control_c_interrupts_the_command_and_not_the_machine() -> None:
    with shell() as terminal:
        terminal.type("sleep 600; echo status $?\n")
        terminal.expect("status \\$")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.expect("at> ")
        terminal.type("echo still here\n")
        terminal.expect("\nstill here")
        terminal.type("exit\n")
        assert terminal.wait() in (0, 130)


@needs("namespace-tools")
def test_control_z_stops_a_job_that_goes_on() -> None:
    with shell() as terminal:
        terminal.type("sleep 600\n")
        terminal.expect("600")
        time.sleep(0.3)
        terminal.type("\x1a")
        terminal.expect("(?i)(stopped|suspended)")
        terminal.type("jobs; kill %1; bg; wait; echo over\n")
        terminal.expect("\nover")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_control_d_ends_the_input() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "cat"]) as terminal:
        terminal.type("line\n")
        terminal.expect("line\r\nline")
        terminal.type("\x04")
        assert terminal.wait() == 0


@needs("namespace-tools")
def test_terminal_is_put_back(folder: pathlib.Path) -> None:
    for command, code in ((["true"], 0), (["sh", "-c", "stty raw -echo; exit 3"], 3)):
        with Terminal([VISCUM, "run", "-it", "--", *command]) as terminal:
            assert terminal.wait() == code
            assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_is_put_back_when_the_command_is_missing() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "no-such-command"]) as terminal:
        assert terminal.wait() == 127
        assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_is_put_back_when_the_caller_is_ended() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "sh", "-c", "echo up; exec sleep 600"]) as terminal:
        terminal.expect("up")
        terminal.process.terminate()
        assert terminal.wait() == 128 + signal.SIGTERM
        assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_has_colours_and_a_type() -> None:
    with shell() as terminal:
        terminal.type("printf '\\033[31mred\\033[0m\\n'; echo type=$TERM\n")
        terminal.expect("\x1b\\[31mred\x1b\\[0m")
        terminal.expect("type=[a-z]")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_terminal_full_of_output_loses_nothing() -> None:
    with Terminal([VISCUM, "run", "-t", "--", "seq", "20000"]) as terminal:
        terminal.expect("\n20000\r+\n")
        assert terminal.wait() == 0


@needs("namespace-tools")
def test_machine_without_a_terminal_does_not_get_the_callers() -> None:
    """It could read what is typed elsewhere, or change the terminal's settings."""
    command = "for n in 0 1 2; do test -t $n && echo terminal $n; done; echo end"
    with Terminal([VISCUM, "run", "--", "sh", "-c", command]) as terminal:
        terminal.expect("end")
        assert b"terminal" not in terminal.seen
        assert terminal.wait() == 0


def test_a_lot_can_be_pasted() -> None:
    data = b"".join(b"line %d\n" % number for number in range(30000))
    process = start("run", "-i", "-t", "--", "cat", stdin=subprocess.PIPE)
    out, _ = process.communicate(data, timeout=TIMEOUT)
    assert process.returncode == 0
    assert out.count(b"line 29999\r\n") == 2, "once echoed, once from cat"


def test_terminal_of_a_machine_is_an_ordinary_users_too(user: Caller) -> None:
    words = [*user.command(*user_words(user)), "run", "-t", "--", "tty"]
    done = run_plan(*words, env=user.environment(), cwd="/")
    assert done.stdout.strip() == b"/dev/pts/0", done.stderr


def user_words(user: Caller) -> list[str]:
    from callers import python_words

    return [VISCUM] if user.here else [*python_words(False), "-m", "viscum"]


# Rootless and nested faces of the same commands.


def test_run_warns_once_of_what_is_lost(user: Caller) -> None:
    done = user.viscum("run", "--memory", "64M", "--", "echo", "ran")
    assert done.stdout == b"ran\n"
    if b"warning" in done.stderr:
        assert done.stderr.count(b"warning") == 1
        refused = user.viscum("run", "--strict", "--memory", "64M", "--", "echo", "ran")
        assert (refused.returncode, refused.stdout) == (125, b"")


def test_commands_of_root_are_the_same() -> None:
    """The words of this file in the caller's own way: the fixture and the script agree."""
    who = make_caller("subids" if os.geteuid() else "root")
    assert who.viscum("version").stdout == call("version").stdout
