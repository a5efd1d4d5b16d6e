"""`viscum.run`: what comes back, what the options do, and what is refused."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import KINDS, make_caller
from needs import needs

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")

TIMEOUT = 30


def sh(script: str, **options: object) -> viscum.Result:
    """Run a shell script in a machine of this process."""
    return viscum.run(["sh", "-c", script], **{"timeout": TIMEOUT, **options})


def output(script: str, **options: object) -> str:
    result = sh(script, **options)
    assert result.ok, (result.exit_code, result.verdict, result.stderr)
    return result.text.strip()


@pytest.fixture
def rootfs(folder: pathlib.Path, probe: pathlib.Path) -> pathlib.Path:
    """A root of our own with nothing but the probe and folders in it."""
    root = folder / "root"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    program = root / "bin" / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    return root


# What comes back.


def test_run_returns_both_streams(caller: Caller) -> None:
    result = caller.run(["sh", "-c", "echo out; echo err >&2"], timeout=TIMEOUT)
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_run_says_ok(caller: Caller) -> None:
    result = caller.run(["true"], timeout=TIMEOUT)
    assert (result.exit_code, result.verdict, result.ok) == (0, "ok", True)


@pytest.mark.parametrize("code", [1, 2, 125, 126, 127, 128, 255])
def test_run_gives_the_exit_code_of_the_command(code: int) -> None:
    result = sh(f"exit {code}")
    assert (result.exit_code, result.verdict, result.ok) == (code, "failed", False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_run_gives_128_and_the_signal(number: int, probe: pathlib.Path) -> None:
    """The first process of a pid namespace is spared from its own signals, but not from faults."""
    source = "import os; pid = os.fork(); pid or os.abort(); print(os.waitpid(pid, 0)[1] & 127)"
    assert viscum.run(["/usr/bin/python3", "-c", source]).text.strip() == str(int(signal.SIGABRT))
    result = sh(f"kill -{int(number)} $$; exit 7", pid="private", init=True)
    assert result.exit_code == 128 + number


def test_run_calls_a_fault_signaled(probe: pathlib.Path) -> None:
    source = "import ctypes; ctypes.string_at(0)"
    result = viscum.run(["/usr/bin/python3", "-c", source], timeout=TIMEOUT)
    assert (result.exit_code, result.verdict) == (128 + signal.SIGSEGV, "signaled")


def test_run_ends_at_the_timeout(caller: Caller) -> None:
    start = time.monotonic()
    result = caller.run(["sleep", "600"], timeout=0.3)
    assert result.verdict == "timeout"
    assert result.exit_code == 128 + signal.SIGKILL
    assert time.monotonic() - start < TIMEOUT


def test_run_keeps_the_output_from_before_the_timeout() -> None:
    result = sh("echo before; sleep 600", timeout=0.5)
    assert (result.verdict, result.stdout) == ("timeout", b"before\n")


def test_run_ends_at_the_timeout_whatever_is_ignored() -> None:
    result = sh("trap '' TERM INT HUP; (setsid sleep 600 &); sleep 600", timeout=0.3)
    assert result.verdict == "timeout"


def test_run_with_no_time_at_all_is_a_timeout() -> None:
    assert viscum.run(["sleep", "600"], timeout=0).verdict == "timeout"


def test_run_feeds_the_input(caller: Caller) -> None:
    assert caller.run(["cat"], input=b"\0\xff words", timeout=TIMEOUT).stdout == b"\0\xff words"


def test_run_takes_text_as_input() -> None:
    assert viscum.run(["cat"], input="größer", timeout=TIMEOUT).text == "größer"


def test_run_without_input_reads_an_end() -> None:
    assert output("wc -c") == "0"


def test_run_feeds_more_than_a_pipe_holds() -> None:
    data = os.urandom(8 << 20)
    assert viscum.run(["cat"], input=data, timeout=TIMEOUT).stdout == data


def test_run_survives_a_command_that_does_not_read() -> None:
    result = viscum.run(["true"], input=b"x" * (4 << 20), timeout=TIMEOUT)
    assert result.ok


def test_run_keeps_a_hundred_megabytes() -> None:
    size = 100 << 20
    result = sh(f"head -c {size} /dev/zero", output_limit=size, timeout=60)
    assert (len(result.stdout), result.truncated) == (size, False)


def test_run_cuts_the_output_at_the_limit() -> None:
    result = sh("seq 100000; seq 100000 >&2", output_limit=1000)
    assert (len(result.stdout), len(result.stderr), result.truncated) == (1000, 1000, True)
    assert result.stdout.startswith(b"1\n2\n3\n")


def test_run_is_not_truncated_by_output_of_exactly_the_limit() -> None:
    result = sh("head -c 1000 /dev/zero", output_limit=1000)
    assert (len(result.stdout), result.truncated) == (1000, False)


def test_run_keeps_nothing_with_a_limit_of_zero() -> None:
    result = sh("echo word", output_limit=0)
    assert (result.stdout, result.truncated, result.ok) == (b"", True, True)


def test_run_reads_both_streams_flooded_at_once() -> None:
    script = "head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2 & wait"
    result = sh(script, timeout=60)
    assert (len(result.stdout), len(result.stderr)) == (20000000, 20000000)


def test_run_feeds_and_reads_at_once() -> None:
    data = b"line\n" * 2000000
    result = viscum.run(["sh", "-c", "tee /dev/stderr"], input=data, timeout=60)
    assert (result.stdout, result.stderr) == (data, data)


def test_run_without_capture_writes_to_the_caller(caller: Caller) -> None:
    source = "import viscum; viscum.run(['sh', '-c', 'echo out; echo err >&2'], capture=False)"
    done = caller.python(source)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_run_ends_with_the_command_while_others_hold_its_output() -> None:
    """What the command left running goes with the machine."""
    start = time.monotonic()
    result = sh("sleep 600 & echo done")
    assert (result.stdout, result.verdict) == (b"done\n", "ok")
    assert time.monotonic() - start < TIMEOUT


def test_run_counts_cpu_time() -> None:
    usage = sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").usage
    assert 0.01 < usage.cpu_seconds < TIMEOUT
    assert usage.cpu_seconds == pytest.approx(usage.user_seconds + usage.system_seconds, rel=0.5)


@needs("memory")
def test_run_counts_the_peak_of_memory() -> None:
    source = "x = bytearray(64 << 20)"
    usage = viscum.run(["/usr/bin/python3", "-c", source], memory="256M", timeout=TIMEOUT).usage
    assert 64 << 20 < usage.peak_bytes < 256 << 20


def test_result_knows_its_text() -> None:
    assert sh("printf '\\377a'").text == "\ufffda"


# Commands.


def test_missing_command_is_127(caller: Caller) -> None:
    with pytest.raises(viscum.CommandNotFound) as caught:
        caller.run(["no-such-command"])
    assert caught.value.exit_code == 127
    assert "no-such-command" in str(caught.value)
    assert caught.value.hint


def test_missing_command_by_its_path_is_127() -> None:
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["/no/such/command"])


def test_folder_as_command_is_126(caller: Caller) -> None:
    with pytest.raises(viscum.CommandNotExecutable) as caught:
        caller.run(["/usr"])
    assert caught.value.exit_code == 126


def test_file_that_is_not_executable_is_126() -> None:
    with pytest.raises(viscum.CommandNotExecutable):
        viscum.run(["/etc/passwd"])


def test_binary_of_another_architecture_is_126(folder: pathlib.Path) -> None:
    machine = 8  # EM_MIPS
    header = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, *[0] * 2, 64, 56, 0, 0, 0, 0)
    )
    program = folder / "foreign"
    program.write_bytes(header)
    program.chmod(0o755)
    with pytest.raises(viscum.CommandNotExecutable) as caught:
        viscum.run(["/opt/foreign"], mounts=[viscum.Mount(str(folder), "/opt")])
    assert "architecture" in caught.value.hint


def test_script_whose_interpreter_is_missing_is_127(folder: pathlib.Path) -> None:
    program = folder / "script"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["/opt/script"], mounts=[viscum.Mount(str(folder), "/opt")])


def test_command_is_looked_up_in_the_machines_path() -> None:
    result = viscum.run(["env"], env={"PATH": "/usr/bin"}, timeout=TIMEOUT)
    assert "PATH=/usr/bin\n" in result.text
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["env"], env={"PATH": "/nowhere"})


def test_arguments_arrive_as_they_are() -> None:
    words = ["", " ", "a b", "ü", "\udcff", "-x", "--", "$HOME", "\n", "'\"\\"]
    result = viscum.run(["printf", "%s\\0", *words], timeout=TIMEOUT)
    assert result.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_many_long_arguments_arrive() -> None:
    words = ["x" * 1000] * 1000
    result = viscum.run(
        ["sh", "-c", 'echo $#; shift 999; echo "$1"', "sh", *words], timeout=TIMEOUT
    )
    assert result.text.split() == ["1000", "x" * 1000]


def test_too_many_arguments_are_one_clear_error() -> None:
    with pytest.raises(viscum.ViscumError) as caught:
        viscum.run(["true", *["x"] * 10000])
    assert caught.value.exit_code in (125, 126)


# Options.


def test_env_reaches_the_command(caller: Caller) -> None:
    result = caller.run(["env"], env={"A": "1", "B": "two words"}, timeout=TIMEOUT)
    assert {"A=1", "B=two words"} <= set(result.text.splitlines())


def test_workdir_is_where_the_command_starts(caller: Caller) -> None:
    assert caller.run(["pwd"], workdir="/usr/bin", timeout=TIMEOUT).text == "/usr/bin\n"


def test_workdir_that_is_missing_is_a_clear_error() -> None:
    with pytest.raises(viscum.LaunchError) as caught:
        viscum.run(["pwd"], workdir="/no/such/folder")
    assert "/no/such/folder" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("user", ["1000", "1000:100", "nobody", "daemon:daemon", "0"])
def test_user_is_who_the_command_is(user: str, kind: str) -> None:
    result = make_caller(kind).run(["id"], user=user, timeout=TIMEOUT)
    name = user.partition(":")[0]
    assert f"={name}" in result.text or f"({name})" in result.text


@pytest.mark.parametrize("kind", KINDS[:2])
def test_user_other_than_root_has_no_capabilities(kind: str) -> None:
    result = make_caller(kind).run(["cat", "/proc/self/status"], user="1000", timeout=TIMEOUT)
    fields = dict(line.split(":\t") for line in result.text.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


@needs("root")
def test_groups_are_additional() -> None:
    result = viscum.run(["id", "-G"], user="1000:1000", groups=["7", 9], timeout=TIMEOUT)
    assert set(result.text.split()) == {"1000", "7", "9"}


def test_unknown_user_is_a_clear_error() -> None:
    with pytest.raises(viscum.SpecError) as caught:
        viscum.run(["true"], user="no-such-user")
    assert "no-such-user" in str(caught.value)


def test_volume_is_shared_both_ways(caller: Caller, folder: pathlib.Path) -> None:
    (folder / "there").write_text("host")
    folder.chmod(0o777)
    script = "cat /data/there; echo machine > /data/here"
    mounts = [viscum.Mount(str(folder), "/data")]
    assert caller.run(["sh", "-c", script], mounts=mounts, timeout=TIMEOUT).text == "host"
    assert (folder / "here").read_text() == "machine\n"


@needs("root")
@pytest.mark.parametrize(
    "target",
    ["/data", "/mnt/x", "/media/x", "/home/me/x", "/tmp/x", "/run/x", "/root/x", "/srv/x", "/a/b/c"]
    + ["/var/lib/x", "/etc/x", "/usr/local/x", "/mnt", "/home", "/tmp"],
)
def test_volume_goes_where_people_put_them(target: str, folder: pathlib.Path) -> None:
    (folder / "there").touch()
    mounts = [viscum.Mount(str(folder), target, read_only=True)]
    assert viscum.run(["ls", target], mounts=mounts, timeout=TIMEOUT).text == "there\n"


def test_volume_of_root_keeps_its_owner(caller: Caller, folder: pathlib.Path) -> None:
    """What the machine's root writes to a volume belongs to whoever started the machine."""
    folder.chmod(0o777)
    mounts = [viscum.Mount(str(folder), "/data")]
    caller.run(["touch", "/data/here"], mounts=mounts, timeout=TIMEOUT)
    assert (folder / "here").stat().st_uid == caller.uid


def test_read_only_volume_takes_no_writes(caller: Caller, folder: pathlib.Path) -> None:
    folder.chmod(0o777)
    mounts = [viscum.Mount(str(folder), "/data", read_only=True)]
    result = caller.run(["touch", "/data/here"], mounts=mounts, timeout=TIMEOUT)
    assert b"ead-only" in result.stderr
    assert list(folder.iterdir()) == []


def test_file_can_be_a_volume(caller: Caller, folder: pathlib.Path) -> None:
    (folder / "file").write_text("content")
    (folder / "file").chmod(0o644)
    mounts = [viscum.Mount(str(folder / "file"), "/opt/deep/down/file", read_only=True)]
    result = caller.run(["cat", "/opt/deep/down/file"], mounts=mounts, timeout=TIMEOUT)
    assert result.text == "content"


def test_volume_without_exec_runs_nothing(probe: pathlib.Path) -> None:
    mounts = [viscum.Mount(str(probe), "/opt/probe", exec=False)]
    with pytest.raises(viscum.CommandNotExecutable):
        viscum.run(["/opt/probe/probe"], mounts=mounts)


@needs("root")
def test_volume_shows_what_is_mounted_below(folder: pathlib.Path) -> None:
    """In a mount namespace of the test's own, so that nothing stays."""
    script = f"mkdir {folder}/sub && mount -t tmpfs none {folder}/sub && touch {folder}/sub/deep && exec "
    source = f"import viscum; print(viscum.run(['ls', '/data/sub'], mounts=[viscum.Mount('{folder}', '/data')]).text)"
    caller = make_caller("root")
    words = caller.python_command(source)
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script + quoted],
        capture_output=True,
        check=True,
        timeout=TIMEOUT,
    )
    assert done.stdout.strip() == b"deep"


def test_missing_volume_is_a_clear_error(caller: Caller) -> None:
    with pytest.raises(viscum.SpecError) as caught:
        caller.run(["true"], mounts=[viscum.Mount("/no/such/folder", "/data")])
    assert "/no/such/folder" in str(caught.value)


@pytest.mark.parametrize(
    "target", ["/", "//", "/proc", "/proc/sys", "/sys/fs", "relative", "/a/../..", "/.", ""]
)
def test_target_of_a_volume_is_checked(target: str, folder: pathlib.Path) -> None:
    mount = viscum.Mount(str(folder) if target else "relative", target)
    with pytest.raises(viscum.SpecError):
        viscum.run(["true"], mounts=[mount])


def test_tmpfs_is_empty_and_bounded(caller: Caller) -> None:
    mounts = [viscum.Mount("", "/scratch", kind="tmpfs", size=1 << 20)]
    script = "ls -A /scratch; head -c 2000000 /dev/zero > /scratch/big || stat -c %s /scratch/big"
    result = caller.run(["sh", "-c", script], mounts=mounts, timeout=TIMEOUT)
    assert result.text.strip() == str(1 << 20)


def test_tmpfs_has_its_mode(caller: Caller) -> None:
    mounts = [viscum.Mount("", "/scratch", kind="tmpfs", mode=0o750)]
    command = ["stat", "-c", "%a", "/scratch"]
    assert caller.run(command, mounts=mounts, timeout=TIMEOUT).text == "750\n"


def test_read_only_root_takes_no_writes(caller: Caller) -> None:
    script = "touch /etc/x /usr/x /x; echo tmp > /tmp/x && cat /tmp/x"
    result = caller.run(["sh", "-c", script], read_only=True, timeout=TIMEOUT)
    assert result.stderr.count(b"ead-only") + result.stderr.count(b"denied") == 3
    assert result.text == "tmp\n"


def test_root_is_writable_by_default(caller: Caller) -> None:
    script = "touch /usr/x && echo yes"
    assert caller.run(["sh", "-c", script], timeout=TIMEOUT).text == "yes\n"


def test_hostname_is_of_the_machine(caller: Caller) -> None:
    script = "hostname; cat /proc/sys/kernel/hostname; echo $HOSTNAME"
    result = caller.run(["sh", "-c", script], hostname="tester-1", timeout=TIMEOUT)
    assert result.text.split() == ["tester-1"] * 3
    assert socket.gethostname() != "tester-1"


def test_hostname_resolves() -> None:
    text = output("cat /etc/hosts /etc/hostname", hostname="box")
    assert "127.0.0.1\tlocalhost box" in text
    assert text.endswith("box")


def test_hosts_and_dns_are_written() -> None:
    text = output("cat /etc/hosts /etc/resolv.conf", hosts={"db": "10.0.0.1"}, dns=["9.9.9.9"])
    assert "10.0.0.1\tdb" in text
    assert "nameserver 9.9.9.9" in text


def test_rlimits_are_set(caller: Caller) -> None:
    limits = [viscum.Rlimit("nofile", 100, 200), viscum.Rlimit("core", 0, 0)]
    script = "ulimit -Sn; ulimit -Hn; ulimit -c"
    result = caller.run(["sh", "-c", script], rlimits=limits, timeout=TIMEOUT)
    assert result.text.split() == ["100", "200", "0"]


def test_sysctls_are_of_the_machine() -> None:
    before = pathlib.Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    sysctls = {"net.ipv4.ip_default_ttl": "99", "kernel.shm_rmid_forced": "1"}
    text = output(
        "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shm_rmid_forced", sysctls=sysctls
    )
    assert text.split() == ["99", "1"]
    assert pathlib.Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == before


def test_device_is_shown(caller: Caller) -> None:
    command = ["sh", "-c", "echo x > /opt/void && stat -c %F /opt/void"]
    result = caller.run(command, devices=["/dev/null:/opt/void"], timeout=TIMEOUT)
    assert result.text == "character special file\n", result.stderr


def test_capabilities_can_be_dropped() -> None:
    text = output("grep Cap /proc/self/status", cap_drop=["ALL"])
    assert {int(line.split()[1], 16) for line in text.splitlines()} == {0}


def test_capabilities_can_be_added() -> None:
    before = int(output("grep CapEff /proc/self/status").split()[1], 16)
    after = int(output("grep CapEff /proc/self/status", cap_add=["NET_ADMIN"]).split()[1], 16)
    assert after & ~before == 1 << 12


def test_default_capabilities_are_those_that_are_documented() -> None:
    from viscum.guard import capabilities

    has = int(output("grep CapEff /proc/self/status").split()[1], 16)
    assert has == capabilities.mask(capabilities.DEFAULT)


def test_no_new_privileges_is_on_unless_said() -> None:
    assert output("grep NoNewPrivs /proc/self/status").endswith("1")
    assert output("grep NoNewPrivs /proc/self/status", no_new_privileges=False).endswith("0")


def test_filter_is_on_unless_said() -> None:
    assert output("grep Seccomp: /proc/self/status").endswith("2")
    assert output("grep Seccomp: /proc/self/status", seccomp="unconfined").endswith("0")


def test_filter_can_be_a_profile(folder: pathlib.Path) -> None:
    profile = folder / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":'
        ' [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}'
    )
    result = sh("mkdir /tmp/x", seccomp=str(profile))
    assert b"not supported" in result.stderr


def test_filter_that_was_rewritten_counts_at_once(folder: pathlib.Path) -> None:
    """The same options, the same process, another profile in the file."""
    profile = folder / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}')
    assert sh("mkdir /tmp/x", seccomp=str(profile)).ok
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":'
        ' [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    assert not sh("mkdir /tmp/x", seccomp=str(profile)).ok


def test_init_reaps_orphans() -> None:
    script = "(sleep 0.05 &) ; (sleep 0.05 &) ; sleep 0.5; grep -l zombie /proc/[0-9]*/status"
    assert sh(script, init=True).stdout == b""


def test_init_is_the_first_process(caller: Caller) -> None:
    result = caller.run(["sh", "-c", "cat /proc/1/comm; echo $$"], init=True, timeout=TIMEOUT)
    name, pid = result.text.split()
    assert "init" in name or name.isdigit()
    assert pid != "1"


@pytest.mark.parametrize("name", ["pid", "ipc", "uts"])
def test_namespace_can_be_shared_with_the_host(name: str) -> None:
    script = f"readlink /proc/self/ns/{name}"
    assert output(script, **{name: "host"}) == os.readlink(f"/proc/self/ns/{name}")
    assert output(script) != os.readlink(f"/proc/self/ns/{name}")


@needs("root")
def test_user_namespace_can_be_the_hosts() -> None:
    assert output("readlink /proc/self/ns/user", userns="host") == os.readlink("/proc/self/ns/user")


def test_pid_namespace_of_the_host_leaves_no_process(caller: Caller) -> None:
    mark = f"VISCUM_TEST_{os.getpid()}_{time.monotonic_ns()}"
    command = ["sh", "-c", "(setsid sleep 600 >/dev/null 2>&1 &); sleep 0.1"]
    try:
        result = caller.run(command, pid="host", env={mark: "1"}, timeout=TIMEOUT)
    except viscum.HostError:
        return  # refused where there is no group to kill it by
    assert result.ok, result.stderr
    import leftovers

    left = leftovers.await_none(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}


# Network.


@needs("python")
def test_network_none_has_a_loopback_that_works(caller: Caller) -> None:
    source = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname(), timeout=5)\n"
        "client.send(b'x'); print(server.accept()[0].recv(1))\n"
        "six = socket.create_server(('::1', 0), family=socket.AF_INET6)\n"
        "socket.create_connection(six.getsockname()[:2], timeout=5); print('six')\n"
    )
    result = caller.run(["/usr/bin/python3", "-c", source], timeout=TIMEOUT)
    assert result.text == "b'x'\nsix\n", result.stderr


def test_network_none_has_nothing_else(caller: Caller) -> None:
    script = "ls /sys/class/net; tail -n +2 /proc/net/route"
    assert caller.run(["sh", "-c", script], timeout=TIMEOUT).text == "lo\n"


def test_network_host_is_the_hosts(caller: Caller) -> None:
    result = caller.run(["readlink", "/proc/self/ns/net"], network="host", timeout=TIMEOUT)
    assert result.text.strip() == os.readlink("/proc/self/ns/net")


@needs("root", "pasta", "python")
def test_network_private_has_a_way_out() -> None:
    """It reaches an address of the host that is not its loopback."""
    outside = _own_address()
    if not outside:
        pytest.skip("this host has no address but its loopback")
    with socket.create_server((outside, 0)) as server:
        host_port = server.getsockname()
        source = f"import socket; socket.create_connection({host_port!r}, timeout=5); print('out')"
        result = viscum.run(["/usr/bin/python3", "-c", source], network="private", timeout=TIMEOUT)
    assert (
        "lo"
        not in viscum.run(
            ["sh", "-c", "ls /sys/class/net | grep -v lo"], network="private", timeout=TIMEOUT
        ).text.split()
    )
    assert result.text in ("out\n", ""), result.stderr


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chooser:
        try:
            chooser.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return chooser.getsockname()[0]


# Limits.


@needs("memory")
def test_memory_limit_ends_in_oom() -> None:
    source = "x = [bytearray(1 << 20) for _ in range(400)]"
    command = ["/usr/bin/python3", "-c", source]
    result = viscum.run(command, memory="64M", memory_swap="64M", timeout=60)
    assert (result.verdict, result.ok) == ("oom", False)


@needs("memory")
def test_memory_limit_that_is_kept_is_no_oom() -> None:
    assert sh("exit 3", memory="64M").verdict == "failed"


@needs("memory")
def test_memory_limit_is_seen_inside() -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    assert output(script, memory="64M") == str(64 << 20)


@needs("memory")
def test_memory_limit_counts_what_is_written_to_the_root() -> None:
    result = sh("head -c 200000000 /dev/zero > /usr/big", memory="64M", memory_swap="64M")
    assert result.verdict in ("oom", "failed")


@needs("memory")
def test_memory_too_small_to_start_is_a_clear_error() -> None:
    try:
        result = viscum.run(["true"], memory="512K", memory_swap="512K", timeout=TIMEOUT)
    except viscum.LaunchError as error:
        assert error.hint
        return
    assert result.verdict in ("ok", "oom")


@needs("pids")
def test_pids_limit_holds() -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; jobs | wc -l"
    result = sh(script, pids=6)
    assert b"fork" in result.stderr.lower()


@needs("cpu")
def test_cpu_limit_holds() -> None:
    """Half a second of work at half of a CPU takes a second of time, roughly."""
    source = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    start = time.monotonic()
    assert viscum.run(["/usr/bin/python3", "-c", source], cpus=0.4, timeout=TIMEOUT).ok
    assert time.monotonic() - start > 0.6


@needs("cpuset")
def test_cpuset_is_where_it_runs() -> None:
    assert output("nproc", cpuset_cpus="0") == "1"


# Roots.


def test_rootfs_is_the_root(caller: Caller, rootfs: pathlib.Path) -> None:
    result = caller.run(["/bin/probe", "ids"], rootfs=str(rootfs), timeout=TIMEOUT)
    assert result.text.startswith("0 0 0 "), result.stderr


def test_rootfs_is_not_written_to(rootfs: pathlib.Path) -> None:
    before = sorted(rootfs.rglob("*"))
    viscum.run(["/bin/probe", "chroot-escape"], rootfs=str(rootfs), timeout=TIMEOUT)
    viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), hosts={"a": "1.1.1.1"}, dns=["1.1.1.1"])
    assert sorted(rootfs.rglob("*")) == before


def test_rootfs_with_nothing_but_a_command_is_enough(
    folder: pathlib.Path, probe: pathlib.Path
) -> None:
    program = folder / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    assert viscum.run(["/probe", "ids"], rootfs=str(folder), timeout=TIMEOUT).ok


def test_rootfs_users_are_those_of_its_passwd(rootfs: pathlib.Path) -> None:
    (rootfs / "etc" / "passwd").write_text("alice:x:1234:1235::/home/alice:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("team:x:77:alice\n")
    result = viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), user="alice", timeout=TIMEOUT)
    assert result.text.startswith("1234 1234 1234 0")


def test_rootfs_that_is_missing_is_a_clear_error(caller: Caller) -> None:
    with pytest.raises(viscum.SpecError) as caught:
        caller.run(["true"], rootfs="/no/such/root")
    assert "/no/such/root" in str(caught.value)


def test_rootfs_that_is_a_file_is_a_clear_error(caller: Caller) -> None:
    with pytest.raises(viscum.SpecError) as caught:
        caller.run(["true"], rootfs="/etc/passwd")
    assert "not a folder" in str(caught.value)


def test_rootfs_that_cannot_be_read_is_a_clear_error(user: Caller, folder: pathlib.Path) -> None:
    (folder / "closed").mkdir(mode=0o700)
    with pytest.raises(viscum.ViscumError) as caught:
        user.run(["/bin/true"], rootfs=str(folder / "closed"))
    assert str(caught.value)


@needs("root")
def test_rootfs_that_was_replaced_is_the_new_one(folder: pathlib.Path, probe: pathlib.Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "probe").write_bytes((probe / "probe").read_bytes())
        (folder / name / "probe").chmod(0o755)
    (folder / "two" / "only-here").write_text("x")
    (folder / "one").rename(folder / "root")
    command = ["/probe", "readable", "/only-here"]
    assert viscum.run(command, rootfs=str(folder / "root"), timeout=TIMEOUT).text == ""
    (folder / "root").rename(folder / "old")
    (folder / "two").rename(folder / "root")
    assert viscum.run(command, rootfs=str(folder / "root"), timeout=TIMEOUT).text == "/only-here\n"


HOSTILE = ["proc", "sys", "dev", "etc", "etc/resolv.conf", "etc/hosts", "etc/hostname", "tmp"]
HOSTILE += ["bin/sub", "etc/passwd", "etc/group"]


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "upwards"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_link_in_a_rootfs_leads_nowhere(
    name: str, relative: bool, rootfs: pathlib.Path, folder: pathlib.Path
) -> None:
    outside = folder / "outside"
    outside.mkdir(mode=0o777)
    (outside / "passwd").write_text("eve:x:0:0::/:/bin/sh\n")
    before = sorted(outside.rglob("*"))
    place = rootfs / name
    if place.is_dir():
        place.rmdir()
    climb = "../" * 12 if relative else "/"
    target = f"{climb.rstrip('/')}{outside}" + ("/file" if "." in name else "")
    place.symlink_to(target)
    options = {"hosts": {"a": "1.1.1.1"}, "dns": ["1.1.1.1"], "hostname": "box", "user": "0"}
    mounts = [
        viscum.Mount("", "/tmp/scratch", kind="tmpfs"),
        viscum.Mount(str(outside), "/bin/sub/x"),
    ]
    try:
        command = ["/bin/probe", "writable", "/outside"]
        result = viscum.run(command, rootfs=str(rootfs), mounts=mounts, **options, timeout=TIMEOUT)
        assert result.ok
    except viscum.ViscumError as error:
        assert str(error)
    assert sorted(outside.rglob("*")) == before
    assert place.is_symlink()


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "long", "binary", "link"])
def test_hostile_user_file_in_a_rootfs_is_survived(
    name: str, kind: str, rootfs: pathlib.Path
) -> None:
    place = rootfs / name
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "long":
        place.write_bytes(b"x:" * (3 << 20))
    elif kind == "binary":
        place.write_bytes(os.urandom(65536) + b"\n:::::::\n")
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(viscum.SpecError):
        viscum.run(["/bin/probe", "ids"], rootfs=str(rootfs), user="alice:team", groups=["x"])


@pytest.mark.parametrize(
    "name", ["with space", "ümlaut", "comma,colon:", "new\nline", "-dash", "%s"]
)
def test_folder_with_an_odd_name_can_be_root_and_volume(
    name: str, folder: pathlib.Path, probe: pathlib.Path
) -> None:
    odd = folder / name
    odd.mkdir()
    program = odd / "probe"
    program.write_bytes((probe / "probe").read_bytes())
    program.chmod(0o755)
    result = viscum.run(
        [f"/{name}/probe", "ids"],
        rootfs=str(odd),
        mounts=[viscum.Mount(str(odd), f"/{name}", read_only=True)],
        timeout=TIMEOUT,
    )
    assert result.ok, result.stderr


# What is refused.


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 0},
        {"memory": "0"},
        {"memory": -1},
        {"memory": "-1"},
        {"memory": "1e400"},
        {"memory": "1"},
        {"memory": 10**400},
        {"memory": "nonsense"},
        {"memory": ""},
        {"memory": float("inf")},
        {"memory": float("nan")},
        {"memory": True},
        {"memory": "64M", "memory_swap": "32M"},
        {"memory_swap": "64M"},
        {"memory_swap": -2},
        {"cpus": 0},
        {"cpus": -1},
        {"cpus": "1e400"},
        {"cpus": 10**400},
        {"cpus": float("nan")},
        {"cpus": "many"},
        {"pids": 0},
        {"pids": -1},
        {"pids": "many"},
        {"pids": 1.5},
        {"cpu_shares": 0},
        {"cpu_shares": 1 << 30},
        {"cpuset_cpus": ""},
        {"cpuset_cpus": "1-0"},
        {"cpuset_cpus": "²"},
        {"cpuset_cpus": "99999"},
        {"network": "bridge"},
        {"userns": "keep-id"},
        {"hostname": ""},
        {"hostname": "x" * 65},
        {"hostname": "a\nb"},
        {"hostname": "\ud800"},
        {"hostname": "x", "uts": "host"},
        {"pid": "host", "init": True},
        {"workdir": "relative"},
        {"workdir": "/a\0b"},
        {"rootfs": "/a\0b"},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0y"}},
        {"env": {"A": "\ud800"}},
        {"cap_add": ["FLYING"]},
        {"cap_add": ["CHOWN"], "cap_drop": ["CHOWN"]},
        {"seccomp": "/no/such/profile"},
        {"seccomp": "/etc/passwd"},
        {"seccomp": "/"},
        {"devices": ["/no/such/device"]},
        {"devices": ["/etc/passwd"]},
        {"devices": ["/dev/null::q"]},
        {"sysctls": {"kernel.core_pattern": "x"}},
        {"sysctls": {"net.x": "\0"}},
        {"rlimits": [viscum.Rlimit("cows", 1, 1)]},
        {"mounts": [viscum.Mount("/usr", "/mnt", kind="nfs")]},
        {"mounts": [viscum.Mount("/usr\0", "/mnt")]},
        {"user": "-1"},
        {"user": "99999999999"},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"output_limit": -1},
    ],
    ids=lambda options: ascii(options)[:60],
)
def test_senseless_option_is_one_clear_error(options: dict[str, object]) -> None:
    with pytest.raises(viscum.ViscumError) as caught:
        viscum.run(["true"], **options)
    assert caught.value.exit_code == 125
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "command",
    [[], [""], ["a\0b"], ["true", "\0"], "true", b"true", ["true", "\ud800"]],
    ids=ascii,
)
def test_senseless_command_is_one_clear_error(command: object) -> None:
    with pytest.raises(viscum.SpecError):
        viscum.run(command)


def test_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="memroy"):
        viscum.run(["true"], memroy="1G")


@pytest.mark.parametrize("size", ["512M", "512m", "512mb", "512MiB", "512Mi", 512 << 20, "0.5g"])
def test_size_is_understood_however_it_is_written(size: str | int) -> None:
    from viscum.spec import parse_size

    assert parse_size(size) == 512 << 20


def test_error_names_the_operation_that_failed() -> None:
    with pytest.raises(viscum.LaunchError) as caught:
        viscum.run(["true"], workdir="/no/such")
    error = caught.value
    assert error.index > 0
    assert error.operation.startswith("working-folder")
    assert (error.errno, error.syscall) == (2, "chdir")


# The caller.


def test_signal_handler_of_the_caller_runs_meanwhile() -> None:
    seen: list[float] = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        start = time.monotonic()
        viscum.run(["sleep", "1"], timeout=TIMEOUT)
        assert seen
        assert seen[0] - start < 0.9
    finally:
        signal.signal(signal.SIGALRM, old)


def test_exception_of_a_signal_handler_ends_the_machine() -> None:
    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            viscum.run(["sleep", "600"], timeout=TIMEOUT)
    finally:
        signal.signal(signal.SIGALRM, old)


def test_ignored_child_signal_does_not_lose_the_exit_code(caller: Caller) -> None:
    """As in a daemon that has SIGCHLD ignored: the status is right, or an error says why not."""
    source = (
        "import signal, viscum\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "try:\n"
        "    print(viscum.run(['sh', '-c', 'exit 3']).exit_code)\n"
        "except viscum.ViscumError:\n"
        "    print('refused')\n"
    )
    assert caller.python(source).stdout.decode().strip() in ("3", "refused")


def test_ignored_signals_of_the_caller_are_not_inherited() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        text = output("grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")
    finally:
        signal.signal(signal.SIGINT, old)
    assert {int(line.split()[1], 16) for line in text.splitlines()} == {0}


def test_blocked_signals_of_the_caller_are_not_inherited() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    try:
        text = output("grep SigBlk /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    assert int(text.split()[1], 16) == 0


def test_ignored_real_time_signals_are_not_inherited(caller: Caller) -> None:
    source = (
        "import signal, viscum\n"
        "signal.signal(signal.SIGRTMIN + 5, signal.SIG_IGN)\n"
        "print(viscum.run(['grep', 'SigIgn', '/proc/self/status']).text)\n"
    )
    assert int(caller.python(source).stdout.split()[1], 16) == 0


def test_umask_and_nice_of_the_machine_are_its_own() -> None:
    old = os.umask(0o77)
    try:
        assert output("umask") == "0022"
    finally:
        os.umask(old)


def test_caller_stays_dumpable() -> None:
    """Its own files in /proc stay its own after a launch."""
    viscum.run(["true"])
    assert pathlib.Path("/proc/self/environ").stat().st_uid == os.geteuid()
    pathlib.Path("/proc/self/mem").open("rb").close()


def test_machine_dies_with_the_thread_that_runs_it_not_before() -> None:
    results: list[viscum.Result] = []
    thread = threading.Thread(target=lambda: results.append(sh("sleep 0.3; echo alive")))
    thread.start()
    thread.join(TIMEOUT)
    assert results[0].stdout == b"alive\n"


def test_ordinary_user_in_a_user_namespace_can_run(user: Caller) -> None:
    """As inside of a container: root of a namespace that has few ids."""
    source = "import viscum; print(viscum.run(['echo', 'inside']).text)"
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        *user.python_command(source)[len(user.prefix) :],
    ]
    done = user._call([*user.prefix, *words], {})
    assert done.stdout.strip() == b"inside", done.stderr.decode()


def test_machine_runs_in_a_machine(caller: Caller) -> None:
    """With the loosening that the error's hint names."""
    import callers

    source = "import viscum; print(viscum.run(['echo', 'nested']).text)"
    package = callers.package_folder()
    mounts = [viscum.Mount(package, "/opt/package", read_only=True)]
    result = caller.run(
        ["/usr/bin/python3", "-c", source],
        mounts=mounts,
        env={"PYTHONPATH": "/opt/package"},
        cap_add=["SYS_ADMIN"],
        unmask=True,
        timeout=TIMEOUT,
    )
    assert result.text.strip() == "nested", result.stderr.decode()[-500:]
