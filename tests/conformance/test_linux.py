"""Namespaces, ids, limits, sysctl, seccomp, personality."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import platform
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from needs import needs

from .container import is_unified

if TYPE_CHECKING:
    from .container import Container

pytestmark = needs("root", "busybox")

NAMESPACES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}
IDS = [{"containerID": 0, "hostID": 200000, "size": 65536}]
MIB = 1 << 20


def inside(container: Container, file: str) -> str:
    return os.readlink(f"/proc/{container.pid}/ns/{file}")


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "mount", "cgroup"])
def test_new_namespace(container: Container, kind: str) -> None:
    container.namespace(kind)
    container.idle()
    file = NAMESPACES[kind]
    assert inside(container, file) != os.readlink(f"/proc/self/ns/{file}")


@pytest.mark.parametrize("kind", ["ipc", "network", "uts"])
def test_namespace_that_is_not_asked_for_is_shared(container: Container, kind: str) -> None:
    container.without_namespace(kind)
    container.config.pop("hostname")
    if kind == "network":
        container.config["mounts"] = [m for m in container.config["mounts"] if m["type"] != "sysfs"]
    container.idle()
    file = NAMESPACES[kind]
    assert inside(container, file) == os.readlink(f"/proc/self/ns/{file}")


@pytest.fixture
def holder():
    """A process in new namespaces of every kind that a container may join."""
    process = subprocess.Popen(
        [
            "unshare",
            "--net",
            "--ipc",
            "--uts",
            "--pid",
            "--fork",
            "sh",
            "-c",
            "echo $$; exec sleep 1000",
        ],
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    yield int(children.split()[0])
    os.kill(int(children.split()[0]), 9)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid"])
def test_namespace_by_path(container: Container, holder: int, kind: str) -> None:
    file = NAMESPACES[kind]
    container.namespace(kind, f"/proc/{holder}/ns/{file}")
    if kind == "uts":
        container.config.pop("hostname")
    container.idle()
    assert inside(container, file) == os.readlink(f"/proc/{holder}/ns/{file}")
    if kind == "pid":
        done = container.exec("/bin/sh", "-c", "echo $$")
        assert int(done.stdout) > 2


def test_namespace_path_that_is_not_there_is_refused(container: Container) -> None:
    container.namespace("network", "/no/such/namespace")
    container.refused("/no/such/namespace")


def test_namespace_path_of_another_kind_is_refused(container: Container) -> None:
    container.namespace("network", "/proc/self/ns/ipc")
    container.refused()


def test_unknown_namespace_is_refused(container: Container) -> None:
    container.linux["namespaces"].append({"type": "nosuch"})
    container.refused("nosuch")


def test_namespace_asked_for_twice_is_refused(container: Container) -> None:
    container.linux["namespaces"].append({"type": "pid"})
    container.refused()


def test_first_process_is_number_one(container: Container) -> None:
    assert container.output("echo $$") == "1\n"


def test_loopback_is_up(container: Container) -> None:
    assert "0x0" not in container.output("cat /sys/class/net/lo/flags | grep -v 0x8")


def test_user_namespace(container: Container) -> None:
    container.namespace("user")
    container.linux["uidMappings"] = container.linux["gidMappings"] = IDS
    os.chown(container.rootfs / "tmp", 200000, 200000)
    text = container.output(
        "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /tmp/made; echo x > /dev/null"
    )
    assert text.split() == ["0", "200000", "65536"] * 2 + ["0"]
    assert (container.rootfs / "tmp/made").stat().st_uid == 200000


def test_user_namespace_needs_maps(container: Container) -> None:
    container.namespace("user")
    container.refused()


def test_maps_need_a_user_namespace(container: Container) -> None:
    container.linux["uidMappings"] = container.linux["gidMappings"] = IDS
    container.refused()


def test_user_and_network_namespaces_by_path(container: Container, runtime) -> None:
    first = container
    first.namespace("user")
    first.linux["uidMappings"] = first.linux["gidMappings"] = IDS
    first.idle()
    second = runtime.container()
    second.linux["uidMappings"] = second.linux["gidMappings"] = IDS
    second.namespace("user", f"/proc/{first.pid}/ns/user")
    second.namespace("network", f"/proc/{first.pid}/ns/net")
    second.idle()
    for file in ("user", "net"):
        assert inside(second, file) == inside(first, file)
    assert inside(second, "pid") != inside(first, "pid")


def test_new_user_namespace_with_a_network_by_path(container: Container, holder: int) -> None:
    container.namespace("user")
    container.namespace("network", f"/proc/{holder}/ns/net")
    container.linux["uidMappings"] = container.linux["gidMappings"] = IDS
    container.config["mounts"] = [m for m in container.config["mounts"] if m["type"] != "sysfs"]
    container.idle()
    assert inside(container, "net") == os.readlink(f"/proc/{holder}/ns/net")


@needs("time-on-exec")
def test_time_offsets(container: Container) -> None:
    container.namespace("time")
    container.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    shown = float(container.output("cat /proc/uptime").split()[0])
    assert shown > 1000000 + time.clock_gettime(time.CLOCK_BOOTTIME) - 100


@needs("root", "time-on-exec")
def test_time_namespace_by_path_and_of_exec(container: Container, runtime) -> None:
    container.namespace("time")
    container.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    container.idle()
    assert float(container.exec("cat", "/proc/uptime").stdout.split()[0]) > 1000000
    second = runtime.container()
    second.namespace("time", f"/proc/{container.pid}/ns/time")
    second.idle()
    assert inside(second, "time") == inside(container, "time")
    assert float(second.exec("cat", "/proc/uptime").stdout.split()[0]) > 1000000


def test_host_name_needs_a_namespace(container: Container) -> None:
    container.without_namespace("uts")
    container.refused()
    assert socket.gethostname() != "conformance"


# Control groups.


@pytest.mark.v2
def test_groups_by_path(container: Container) -> None:
    path = f"/{container.id}-parent/inner"
    container.linux["cgroupsPath"] = path
    container.idle()
    group = container.cgroup("memory")
    assert str(group).endswith(path)
    container.delete("--force")
    assert not group.exists()
    for controller in pathlib.Path("/sys/fs/cgroup").iterdir():
        parent = controller / f"{container.id}-parent"
        if parent.is_dir():
            parent.rmdir()


LIMITS_V1 = [
    ({"memory": {"limit": 64 * MIB}}, "memory", "memory.limit_in_bytes", str(64 * MIB)),
    ({"memory": {"reservation": 32 * MIB}}, "memory", "memory.soft_limit_in_bytes", str(32 * MIB)),
    ({"memory": {"swappiness": 10}}, "memory", "memory.swappiness", "10"),
    ({"memory": {"disableOOMKiller": True}}, "memory", "memory.oom_control", "oom_kill_disable 1"),
    (
        {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
        "memory",
        "memory.memsw.limit_in_bytes",
        str(96 * MIB),
    ),
    ({"cpu": {"shares": 500}}, "cpu", "cpu.shares", "500"),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_quota_us", "20000"),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_period_us", "50000"),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", "cpuset.cpus", "0"),
    ({"pids": {"limit": 123}}, "pids", "pids.max", "123"),
    ({"pids": {"limit": -1}}, "pids", "pids.max", "max"),
]
LIMITS_V2 = [
    ({"memory": {"limit": 64 * MIB}}, "memory", "memory.max", str(64 * MIB)),
    ({"memory": {"reservation": 32 * MIB}}, "memory", "memory.low", str(32 * MIB)),
    (
        {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
        "memory",
        "memory.swap.max",
        str(32 * MIB),
    ),
    ({"cpu": {"shares": 1024}}, "cpu", "cpu.weight", "39"),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.max", "20000 50000"),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", "cpuset.cpus", "0"),
    ({"pids": {"limit": 123}}, "pids", "pids.max", "123"),
    ({"pids": {"limit": -1}}, "pids", "pids.max", "max"),
    ({"unified": {"memory.high": str(48 * MIB)}}, "memory", "memory.high", str(48 * MIB)),
]
LIMITS = LIMITS_V2 if is_unified() else LIMITS_V1


def some_disk() -> tuple[int, int]:
    """Return the numbers of the disk of the root, or of any where that has none."""
    number = os.stat("/").st_dev
    if os.major(number):
        return os.major(number), os.minor(number)
    path = next(pathlib.Path("/sys/block").glob("[vs]d[a-z]"))
    major, _, minor = (path / "dev").read_text().strip().partition(":")
    return int(major), int(minor)


@pytest.mark.v2
@pytest.mark.parametrize(("resources", "controller", "file", "value"), LIMITS)
def test_limits(
    container: Container, resources: dict, controller: str, file: str, value: str
) -> None:
    container.linux["resources"].update(resources)
    container.idle()
    assert (container.cgroup(controller) / file).read_text().splitlines()[0] == value


@pytest.mark.v2
def test_block_limits(container: Container) -> None:
    major, minor = some_disk()
    rate = {"major": major, "minor": minor, "rate": 1048576}
    container.linux["resources"]["blockIO"] = {"throttleReadBpsDevice": [rate]}
    container.idle()
    if is_unified():
        text = (container.cgroup("io") / "io.max").read_text()
        assert text.startswith(f"{major}:{minor} rbps=1048576 ")
        return
    text = (container.cgroup("blkio") / "blkio.throttle.read_bps_device").read_text()
    assert text.strip() == f"{major}:{minor} 1048576"


@pytest.mark.v2
def test_limit_of_processes_is_held(container: Container) -> None:
    container.linux["resources"]["pids"] = {"limit": 3}
    done = container.run("for i in 1 2 3 4 5 6; do sleep 0.2 & done; wait")
    assert b"fork" in done.stderr


@pytest.mark.v2
def test_limit_of_memory_is_held(container: Container) -> None:
    container.linux["resources"]["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    done = container.run("dd if=/dev/zero of=/dev/null bs=64M count=1")
    assert done.returncode != 0


@pytest.mark.v2
def test_impossible_limit_is_refused(container: Container) -> None:
    container.linux["resources"]["cpu"] = {"cpus": "4000"}
    container.refused()


# The rest.


def test_sysctl(container: Container) -> None:
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"}
    text = container.output("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni")
    assert text.split() == ["1", "1234"]


def test_sysctl_of_the_host_is_refused(container: Container) -> None:
    before = pathlib.Path("/proc/sys/vm/swappiness").read_text()
    container.linux["sysctl"] = {"vm.swappiness": "11"}
    container.refused("vm.swappiness")
    assert pathlib.Path("/proc/sys/vm/swappiness").read_text() == before


def test_sysctl_of_a_shared_namespace_is_refused(container: Container) -> None:
    container.without_namespace("ipc")
    container.linux["sysctl"] = {"kernel.shmmni": "1234"}
    container.refused("kernel.shmmni")


def seccomp(container: Container, *rules: dict, default: str = "SCMP_ACT_ALLOW") -> None:
    arch = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    container.linux["seccomp"] = {
        "defaultAction": default,
        "architectures": [arch],
        "syscalls": list(rules),
    }


@pytest.mark.parametrize("nnp", [True, False])
def test_seccomp_error(container: Container, nnp: bool) -> None:
    container.process["noNewPrivileges"] = nnp
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EDOM}
    seccomp(container, rule)
    text = container.output(
        "grep Seccomp: /proc/self/status; mkdir /tmp/x 2>&1 || true; touch /tmp/y"
    )
    assert "Seccomp:\t2" in text
    assert os.strerror(errno.EDOM) in text


def test_seccomp_kill(container: Container) -> None:
    seccomp(container, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"})
    assert container.run("exec mkdir /tmp/x").returncode in (128 + 31, 255)


def test_seccomp_arguments(container: Container) -> None:
    condition = {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}
    seccomp(container, {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [condition]})
    text = container.output(
        "sleep 100 & kill -9 $! 2>/dev/null || echo refused; kill -15 $! && echo sent"
    )
    assert text.split() == ["refused", "sent"]


def test_seccomp_unknown_action_is_refused(container: Container) -> None:
    seccomp(container, {"names": ["mkdir"], "action": "SCMP_ACT_NOSUCH"})
    container.refused("SCMP_ACT_NOSUCH")


def test_seccomp_unknown_call_is_ignored(container: Container) -> None:
    seccomp(container, {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"})
    assert container.output("echo ok") == "ok\n"


def test_seccomp_listener_is_handed_over(container: Container) -> None:
    import array
    import json

    path = str(container.folder / "agent.sock")
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(path)
    agent.listen()
    agent.settimeout(10)
    got = {}

    def serve() -> None:
        try:
            connection, _ = agent.accept()
        except TimeoutError:
            return
        data, control, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        numbers.frombytes(control[0][2][:4])
        got["fd"], got["state"] = numbers[0], json.loads(data)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    seccomp(container, {"names": ["chroot"], "action": "SCMP_ACT_NOTIFY"})
    container.linux["seccomp"].update(listenerPath=path, listenerMetadata="some data")
    container.process["args"] = ["/bin/sleep", "1000"]
    done = container.create()
    thread.join(20)
    agent.close()
    assert done.returncode == 0, done.stderr
    assert got, "nobody connected"
    assert got["state"]["fds"] == ["seccompFd"]
    assert got["state"]["metadata"] == "some data"
    assert got["state"]["state"]["id"] == container.id
    assert got["state"]["pid"] == container.pid
    assert os.readlink(f"/proc/self/fd/{got['fd']}") == "anon_inode:seccomp notify"
    os.close(got["fd"])


def test_personality(container: Container) -> None:
    container.linux["personality"] = {"domain": "LINUX32"}
    assert container.output("uname -m") in ("i686\n", "armv8l\n")


def test_keyring_is_the_containers_own(container: Container) -> None:
    container.idle()
    own = ctypes.CDLL(None).syscall(250, 0, -3, 0)
    done = container.exec("/bin/true")
    assert done.returncode == 0
    assert ctypes.CDLL(None).syscall(250, 0, -3, 0) == own
