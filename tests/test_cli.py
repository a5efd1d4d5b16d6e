"""The command line, as it is installed: run, doctor, version."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import make_caller
from commands import TIMEOUT, VISCUM, assert_refused, call, start
from imaging import Layout, busybox_layer
from needs import needs
from viscum.cli.table import commands, names
from viscum.cli.tables.images import IMAGE as IMAGE_OPTIONS
from viscum.cli.tables.launching import MACHINE
from viscum.image.platforms import own_platform

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


# What it is.


def test_version_is_printed() -> None:
    assert viscum.__version__ in call("version").stdout.decode()
    assert call("--version").stdout == call("version").stdout
    assert json.loads(call("version", "--format", "json").stdout)["viscum"] == viscum.__version__


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_help_names_every_command(words: list[str]) -> None:
    text = call(*words).stdout.decode()
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in names())


@pytest.mark.parametrize("name", names())
def test_help_of_a_command_names_every_option(name: str) -> None:
    done = call(*name.split(), "--help")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert all(flag in text for option in commands()[name].options for flag in option.flags)


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
GROW = ["/usr/bin/python3", "-c", "x = bytearray(40 << 20); print('done')"]
SHOW_IO = ["sh", "-c", "cat /sys/fs/cgroup/blkio/blkio.throttle.$0_device"]
IMAGE, ARCHITECTURE = "oci:{folder}/layout", own_platform().architecture
IMAGES = tuple(option.flags[0] for option in IMAGE_OPTIONS)
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
    "--memory-reservation": (["--memory-reservation", "32M"], ["echo", "x"], "x"),
    "--memory-high": (["--memory-high", "48M"], ["echo", "x"], "x"),
    "--memory-low": (["--memory-low", "16M"], ["echo", "x"], "x"),
    "--memory-min": (["--memory-min", "16M"], ["echo", "x"], "x"),
    "--memory-zswap": (["--memory-zswap", "16M"], ["echo", "x"], "x"),
    "--memory-swappiness": (
        ["--memory-swappiness", "7"],
        ["cat", "/sys/fs/cgroup/memory/memory.swappiness"],
        "^7$",
    ),
    "--oom-group": (["--oom-group"], ["echo", "x"], "x"),
    "--oom-policy": (["--oom-policy", "grow:64M", "-m", "32M"], GROW, "^done$"),
    "--oom-kill-disable": (
        ["--oom-kill-disable", "-m", "64M"],
        ["cat", "/sys/fs/cgroup/memory/memory.oom_control"],
        "oom_kill_disable 1",
    ),
    "--cpu-quota": (
        ["--cpu-quota", "25000"],
        ["cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"],
        "^25000$",
    ),
    "--cpu-period": (
        ["--cpu-period", "50000"],
        ["cat", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"],
        "^50000$",
    ),
    "--cpu-burst": (
        ["--cpu-quota", "25000", "--cpu-burst", "5000"],
        ["cat", "/sys/fs/cgroup/cpu/cpu.cfs_burst_us"],
        "^5000$",
    ),
    "--cpu-weight": (
        ["--cpu-weight", "200"],
        ["cat", "/sys/fs/cgroup/cpu/cpu.shares"],
        "^5220$",
    ),
    "--cpu-idle": (["--cpu-idle"], ["cat", "/sys/fs/cgroup/cpu/cpu.idle"], "^1$"),
    "--cpuset-mems": (
        ["--cpuset-mems", "0"],
        ["grep", "Mems_allowed_list", "/proc/self/status"],
        "0$",
    ),
    "--io-max": (["--io-max", "/usr:wbps=5M,riops=100"], [*SHOW_IO, "write_bps"], " 5242880$"),
    "--device-read-bps": (["--device-read-bps", "/usr:1m"], [*SHOW_IO, "read_bps"], " 1048576$"),
    "--device-write-bps": (["--device-write-bps", "/usr:2m"], [*SHOW_IO, "write_bps"], " 2097152$"),
    "--device-read-iops": (["--device-read-iops", "/usr:70"], [*SHOW_IO, "read_iops"], " 70$"),
    "--device-write-iops": (["--device-write-iops", "/usr:80"], [*SHOW_IO, "write_iops"], " 80$"),
    "--io-weight": (
        ["--io-weight", "50"],
        ["cat", "/sys/fs/cgroup/blkio/blkio.bfq.weight"],
        "50$",
    ),
    "--blkio-weight": (
        ["--blkio-weight", "10"],
        ["cat", "/sys/fs/cgroup/blkio/blkio.bfq.weight"],
        "1$",
    ),
    "--blkio-weight-device": (
        ["--blkio-weight-device", "/usr:19"],
        ["cat", "/sys/fs/cgroup/blkio/blkio.bfq.weight_device"],
        " 91$",
    ),
    "--io-latency": (["--io-latency", "/usr:5ms"], ["echo", "x"], "x"),
    "--network-max": (
        ["--network", "private", "--network-max", "rx=1M,tx=2M"],
        ["ls", "/sys/class/net"],
        "ifb0",
    ),
    "--hugetlb": (["--hugetlb", "2MB=4M"], ["echo", "x"], "x"),
    "--rdma": (["--rdma", "none=hca_handle=2"], ["echo", "x"], "x"),
    "--misc": (["--misc", "none=2"], ["echo", "x"], "x"),
    "--class": (["--cpus", "0.5..1", "--class", "batch"], ["echo", "x"], "x"),
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
    "--image": (["--image", IMAGE], ["cat", "/etc/passwd"], "app:x:1000"),
    "--pull": (["--pull", "always", IMAGE], ["cat", "/etc/passwd"], "app:x:1000"),
    "--platform": (["--platform", f"linux/{ARCHITECTURE}", IMAGE], ["id", "-u"], "^0$"),
    "--storage": (["--storage", "overlay", IMAGE], ["id", "-u"], "^0$"),
    "--tls-verify": (["--tls-verify=false", IMAGE], ["id", "-u"], "^0$"),
    "--creds": (["--creds", "me:secret", IMAGE], ["id", "-u"], "^0$"),
    "--authfile": (["--authfile", "/nonexistent", IMAGE], ["id", "-u"], "^0$"),
    "--cert-dir": (["--cert-dir", "/nonexistent", IMAGE], ["id", "-u"], "^0$"),
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
    "--class": needs("cpu"),
    "--cpuset-cpus": needs("cpuset"),
    "--cpuset-mems": needs("cpuset"),
    **dict.fromkeys(("--memory-swappiness", "--oom-kill-disable"), needs("cgroup-v1", "memory")),
    **dict.fromkeys(
        ("--cpu-quota", "--cpu-period", "--cpu-burst", "--cpu-weight", "--cpu-idle"),
        needs("cgroup-v1", "cpu"),
    ),
    **dict.fromkeys(
        (
            "--io-max --device-read-bps --device-write-bps --device-read-iops --device-write-iops "
            "--io-weight --blkio-weight"
        ).split(),
        needs("cgroup-v1", "io"),
    ),
    "--oom-policy": needs("memory", "memory-swap", "python"),
    "--blkio-weight-device": needs("cgroup-v1", "io", "bfq"),
    "--pids-limit": needs("pids"),
    "--network-max": needs("root", "pasta", "link-shaping"),
    "--pid": needs("root"),
    "--rootfs": needs("root"),
    **dict.fromkeys(IMAGES, needs("image-tools")),
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
    if flag in IMAGES:
        monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
        layout = Layout(folder / "layout")
        layout.image("test", [busybox_layer()], architecture=ARCHITECTURE)
    options, command, expected = OPTIONS[flag]
    words = [word.replace("{folder}", str(folder)) for word in options]
    for name in ("net", "pid", "ipc", "uts"):
        expected = expected.replace("{%s}" % name, re.escape(os.readlink(f"/proc/self/ns/{name}")))
    done = call("run", *words, *command, input=b"typed")
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(expected, done.stdout.decode().replace("\r", ""), re.MULTILINE), done.stdout


@needs("cgroup-v1", "io")
def test_weight_of_a_disk_without_a_scheduler_for_it_is_one_clear_error() -> None:
    done = call("run", "--io-weight", "/usr:50", "--", "true")
    if done.returncode:
        assert_refused(done)
        assert b"bfq" in done.stderr


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
        ["run", "-v", "usr", "true"],
        ["run", "-v", ":/x", "true"],
        ["run", "-v", "/usr:", "true"],
        ["run", "-v", "/usr:/x:fast", "true"],
        ["run", "-v", "/usr:/x:ro:ro", "true"],
        ["run", "-v", "/no/such/folder:/x", "true"],
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
