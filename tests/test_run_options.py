"""`viscum.run`: what each option does, and what is refused."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import leftovers
import viscum
from callers import KINDS, TIMEOUT, make_caller, output, sh
from needs import needs
from viscum.guard import capabilities
from viscum.limits import parse_size

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


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


@pytest.mark.parametrize("name", [pytest.param("pid", marks=needs("cgroup-v2")), "ipc", "uts"])
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
        {"pids": -2},
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
    assert parse_size(size) == 512 << 20


def test_error_names_the_operation_that_failed() -> None:
    with pytest.raises(viscum.LaunchError) as caught:
        viscum.run(["true"], workdir="/no/such")
    error = caught.value
    assert error.index > 0
    assert error.operation.startswith("working-folder")
    assert (error.errno, error.syscall) == (2, "chdir")
