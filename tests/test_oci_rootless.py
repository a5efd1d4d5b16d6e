"""Containers of an ordinary user, by the OCI runtime itself."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import callers
from conformance.container import CONFIG, Container, runtime_of_its_own
from needs import needs
from places import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

pytestmark = needs("root", "busybox", "one-id", "userns", "namespace-tools")

OFFSET = 1000000


@pytest.fixture
def container() -> Iterator[Container]:
    path = callers.installation(pathlib.Path(callers.shared_folder()))
    with runtime_of_its_own(path) as runtime:
        user = callers.make_caller("one-id")
        plain = runtime.words
        runtime.words = lambda *words: user.command(*plain(*words))
        yield runtime.container().belonging_to(user.uid)


def has_offset(shown: bytes | str) -> bool:
    """Return whether that is what /proc/uptime shows with the offset, and not the host's."""
    return float(shown.split()[0]) > OFFSET + time.clock_gettime(time.CLOCK_BOOTTIME) - 100


@pytest.fixture
def offset(container: Container) -> Container:
    container.namespace("time")
    container.linux["timeOffsets"] = {"boottime": {"secs": OFFSET, "nanosecs": 0}}
    return container


@needs("time-on-exec")
def test_first_process_is_in_its_time_namespace(offset: Container) -> None:
    assert has_offset(offset.output("cat /proc/uptime"))


def spaces_of_exec(container: Container) -> set[str]:
    """Return the time namespaces that a later process and its children are in."""
    text = "for name in time time_for_children; do readlink /proc/self/ns/$name; done"
    done = container.exec("/bin/sh", "-c", text)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.decode().split())


@needs("time-on-exec")
def test_exec_enters_the_time_namespace(offset: Container) -> None:
    offset.idle()
    done = offset.exec("/bin/cat", "/proc/uptime")
    assert done.returncode == 0, done.stderr
    assert has_offset(done.stdout)
    assert spaces_of_exec(offset) == {os.readlink(f"/proc/{offset.pid}/ns/time")}
    assert offset.exec("/bin/sh", "-c", "exit 7").returncode == 7


def see_host(container: Container) -> None:
    """Have the container share the host's processes, whose proc an ordinary user can bind only."""
    container.without_namespace("pid")
    container.config["mounts"][0] |= {"type": "bind", "source": "/proc", "options": ["rbind"]}


@needs("time-on-exec")
def test_time_has_an_offset_beside_the_hosts_processes(offset: Container) -> None:
    see_host(offset)
    assert has_offset(offset.output("cat /proc/uptime"))


def test_sysctls_are_set_beside_the_hosts_processes(container: Container) -> None:
    see_host(container)
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "7777"}
    text = container.output("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
    assert text.split() == ["1", "7777"]


def test_exec_enters_a_time_namespace_beside_the_hosts_processes(container: Container) -> None:
    container.namespace("time")
    see_host(container)
    container.idle()
    assert os.readlink(f"/proc/{container.pid}/ns/time") != os.readlink("/proc/self/ns/time")
    assert spaces_of_exec(container) == {os.readlink(f"/proc/{container.pid}/ns/time")}


@needs("time-on-exec")
def test_exec_that_fails_in_a_time_namespace_is_told(offset: Container) -> None:
    offset.idle()
    done = offset.exec("/nosuch")
    assert done.returncode == 255
    assert b"/nosuch" in done.stderr, done.stderr
    (offset.rootfs / "bin/text").write_text("no program")
    (offset.rootfs / "bin/text").chmod(0o755)
    assert offset.exec("/bin/text").returncode == 126


SCORE = "/proc/self/oom_score_adj"


def exec_process(container: Container, *words: str, **fields: object) -> CompletedProcess:
    """Run a process that has these fields beside its words."""
    process = {"args": words, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    path = container.folder / "process.json"
    path.write_text(json.dumps(process | fields))
    path.chmod(0o644)
    return container.exec(given=("--process", path))


def test_score_for_lack_of_memory(container: Container) -> None:
    container.process["oomScoreAdj"] = 300
    assert container.output(f"cat {SCORE}") == "300\n"


def test_exec_has_the_containers_score_or_its_own(container: Container) -> None:
    container.process["oomScoreAdj"] = 300
    container.idle()
    done = container.exec("cat", SCORE)
    assert (done.returncode, done.stdout) == (0, b"300\n"), done.stderr
    done = exec_process(container, "cat", SCORE, oomScoreAdj=400)
    assert (done.returncode, done.stdout) == (0, b"400\n"), done.stderr


def test_exec_leaves_the_runtime_its_own_score(container: Container) -> None:
    container.process["oomScoreAdj"] = 400
    container.idle()
    words = container.runtime.words("exec", container.id, "sh", "-c", f"cat {SCORE}; sleep 1000")
    own = pathlib.Path(SCORE).read_text()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as runtime:
        try:
            assert runtime.stdout.readline() == b"400\n"
            until(lambda: pathlib.Path(f"/proc/{runtime.pid}/oom_score_adj").read_text() == own)
        finally:
            container.delete("--force")


def test_score_below_the_runtimes_is_refused(container: Container) -> None:
    container.process["oomScoreAdj"] = -300
    container.refused("process.oomScoreAdj -300", "permission denied", "CAP_SYS_RESOURCE")
    del container.process["oomScoreAdj"]
    container.idle()
    done = exec_process(container, "true", oomScoreAdj=-300)
    assert done.returncode == 255
    assert b"permission denied" in done.stderr, done.stderr


def test_groups_that_one_id_cannot_set_are_left_out(container: Container) -> None:
    container.process["user"]["additionalGids"] = [7]
    done = container.run("echo ok")
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    assert b"cannot give process.user.additionalGids 7" in done.stderr
    container.process["user"] = {"uid": 0, "gid": 0}
    container.idle()
    done = container.exec("echo", "ok", given=("--additional-gids", "8"))
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    assert b"cannot give process.user.additionalGids 8" in done.stderr


def test_runtime_that_is_root_of_one_id_sets_no_groups(container: Container) -> None:
    """As Podman calls it for users without subordinate ids."""
    plain = container.runtime.words

    def in_user_namespace(*words: object) -> list[str]:
        command = plain(*words)
        at = command.index(container.runtime.path)
        return [*command[:at], "unshare", "--map-root-user", "--mount", *command[at:]]

    container.runtime.words = in_user_namespace
    container.without_namespace("user")
    del container.linux["uidMappings"], container.linux["gidMappings"]
    assert container.output("id -u") == "0\n"


REFUSED = {
    "process.user 1000:1001": {"user": {"uid": 1000, "gid": 1001}},
    "process.rlimits RLIMIT_NICE": {"rlimits": [{"type": "RLIMIT_NICE", "soft": 40, "hard": 40}]},
    "process.scheduler": {"scheduler": {"policy": "SCHED_OTHER", "nice": -5}},
    "process.ioPriority": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 0}},
}


@pytest.mark.parametrize("field", REFUSED)
def test_value_that_takes_root_is_refused_by_its_field(container: Container, field: str) -> None:
    container.process.update(REFUSED[field])
    container.refused(field)
    container.process.update(copy.deepcopy(CONFIG["process"]))
    for key in REFUSED[field].keys() - CONFIG["process"].keys():
        del container.process[key]
    container.idle()
    done = exec_process(container, "true", **REFUSED[field])
    assert done.returncode == 255
    assert field.encode() in done.stderr, done.stderr


def test_cpus_that_are_not_there_are_refused_by_their_field(container: Container) -> None:
    container.idle()
    done = exec_process(container, "true", execCPUAffinity={"final": "4000"})
    assert done.returncode == 255
    assert b"process.execCPUAffinity.final" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("kind", "named"), [("pid", "proc"), ("network", "sysfs"), ("user", "linux.namespaces")]
)
def test_namespace_that_is_missing_is_told(container: Container, kind: str, named: str) -> None:
    container.without_namespace(kind)
    if kind == "user":
        del container.linux["uidMappings"], container.linux["gidMappings"]
    container.refused(named, f"{kind} namespace", "operation not permitted")
