"""The process of a container: who it is, what it may do, where it runs."""

from __future__ import annotations

import os
import pathlib
import stat
from typing import TYPE_CHECKING

import pytest

from needs import needs

if TYPE_CHECKING:
    from .container import ConsoleSocket, Container

pytestmark = needs("root", "busybox")

SETS = {"CapInh": "inheritable", "CapPrm": "permitted", "CapEff": "effective"}
CAP_KILL, CAP_NET_BIND = 5, 10


def fields(text: str) -> dict[str, str]:
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def test_arguments_come_as_they_are(container: Container) -> None:
    container.process["args"] = [
        "/bin/sh",
        "-c",
        'for w in "$@"; do echo "[$w]"; done',
        "x",
        "",
        "a b",
        "ü\n",
    ]
    assert container.output() == "[]\n[a b]\n[ü\n]\n"


def test_environment_is_what_was_given(container: Container) -> None:
    container.process["env"] = ["PATH=/bin", "A=1", "EMPTY=", "HOME=/x"]
    container.process["args"] = ["/bin/env"]
    assert set(container.output().split()) >= {"PATH=/bin", "A=1", "EMPTY=", "HOME=/x"}


def test_home_is_found_in_passwd(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    assert container.output("echo $HOME") == "/home\n"


def test_command_is_found_in_path(container: Container) -> None:
    container.process["args"] = ["id", "-u"]
    assert container.output() == "0\n"


def test_missing_command_is_refused(container: Container) -> None:
    container.process["args"] = ["nosuch"]
    container.refused("nosuch", "not found")


def test_command_that_may_not_run_is_refused(container: Container) -> None:
    (container.rootfs / "tmp/plain").write_text("#!/bin/sh\n")
    container.process["args"] = ["/tmp/plain"]
    container.refused("/tmp/plain", "permission denied")


def test_working_folder(container: Container) -> None:
    container.process["cwd"] = "/tmp"
    assert container.output("pwd") == "/tmp\n"


def test_working_folder_is_made_where_it_is_missing(container: Container) -> None:
    container.process["cwd"] = "/var/new/place"
    assert container.output("pwd") == "/var/new/place\n"


def test_working_folder_must_be_absolute(container: Container) -> None:
    container.process["cwd"] = "tmp"
    container.refused("cwd")


def test_user_group_and_additional_groups(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}
    status = fields(container.output("cat /proc/self/status"))
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert set(status["Groups"].split()) == {"7", "8"}


@pytest.mark.parametrize(("mask", "shown"), [(None, "0022"), (0o27, "0027"), (0, "0000")])
def test_umask(container: Container, mask: int | None, shown: str) -> None:
    if mask is not None:
        container.process["user"]["umask"] = mask
    assert fields(container.output("cat /proc/self/status"))["Umask"] == shown


def test_rlimits(container: Container) -> None:
    container.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": (1 << 64) - 1},
    ]
    text = container.output("cat /proc/self/limits")
    rows = {line[:25].strip(): line[25:].split() for line in text.splitlines()}
    assert rows["Max open files"][:2] == ["100", "200"]
    assert rows["Max core file size"][:2] == ["0", "0"]
    assert rows["Max stack size"][:2] == ["1048576", "unlimited"]


def test_unknown_rlimit_is_refused(container: Container) -> None:
    container.process["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    container.refused("RLIMIT_NOSUCH")


def test_rlimit_given_twice_is_refused(container: Container) -> None:
    container.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2
    container.refused("RLIMIT_CORE")


def test_capabilities_of_root(container: Container) -> None:
    names = ["CAP_KILL", "CAP_NET_BIND_SERVICE"]
    container.process["capabilities"] = dict.fromkeys(
        ("bounding", "effective", "permitted", "inheritable"), names
    )
    status = fields(container.output("cat /proc/self/status"))
    mask = 1 << CAP_KILL | 1 << CAP_NET_BIND
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == mask, name


def test_ambient_capabilities_reach_a_user(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.process["capabilities"] = {
        name: ["CAP_KILL"]
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    status = fields(container.output("cat /proc/self/status"))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 1 << CAP_KILL, name


def test_user_without_ambient_ones_has_none(container: Container) -> None:
    container.process["user"] = {"uid": 1000, "gid": 1000}
    status = fields(container.output("cat /proc/self/status"))
    assert int(status["CapEff"], 16) == 0


def test_no_capabilities_at_all(container: Container) -> None:
    container.process["capabilities"] = {}
    status = fields(container.output("cat /proc/self/status"))
    assert int(status["CapBnd"], 16) == 0
    assert int(status["CapEff"], 16) == 0


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(container: Container, value: bool) -> None:
    container.process["noNewPrivileges"] = value
    assert fields(container.output("cat /proc/self/status"))["NoNewPrivs"] == str(int(value))


def test_oom_score(container: Container) -> None:
    container.process["oomScoreAdj"] = 333
    assert container.output("cat /proc/self/oom_score_adj") == "333\n"


def test_standard_streams_are_the_callers(container: Container) -> None:
    text = "cat; echo error >&2"
    source = container.folder / "input"
    source.write_text("from outside")
    with source.open("rb") as file:
        done = container.run(text, stdin=file)
    assert done.stdout == b"from outside"
    assert done.stderr == b"error\n"


def test_no_other_descriptor_is_open(container: Container) -> None:
    text = container.output("for f in /proc/self/fd/*; do readlink $f; done; ls /proc/1/fd; true")
    assert sorted(text.split()[-3:]) == ["0", "1", "2"]


def test_descriptors_can_be_preserved(container: Container) -> None:
    container.script("echo through >&3; ls /proc/1/fd; true")
    container.write()
    path = container.folder / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    words = container.runtime.words(
        "run", "--preserve-fds", "1", "--bundle", container.folder, container.id
    )
    import subprocess

    text = 'exec 3>"$1"; shift; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", text, "sh", str(path), *words],
        capture_output=True,
        check=False,
        timeout=30,
    )
    os.close(fd)
    assert done.returncode == 0, done.stderr
    assert path.read_text() == "through\n"
    assert sorted(done.stdout.split()) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("mine", [True, False])
def test_sockets_of_activation_are_passed_on(container: Container, *, mine: bool) -> None:
    container.script("echo through >&4; echo $LISTEN_FDS,$LISTEN_PID >&3")
    container.write()
    first, second = container.folder / "first", container.folder / "second"
    words = container.runtime.words(
        *("run", "--preserve-fds", "1", "--bundle", container.folder, container.id)
    )
    import subprocess

    text = f'exec 3>"$1" 4>"$2"; shift 2; LISTEN_FDS=1 LISTEN_PID={"$$" if mine else 1} exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", text, "sh", first, second, *words],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert first.read_text() == ("1,1\n" if mine else ",\n")
    assert second.read_text() == ("through\n" if mine else "")


def test_terminal_is_sent_over_the_console_socket(
    container: Container, console: ConsoleSocket
) -> None:
    container.process["terminal"] = True
    container.process["consoleSize"] = {"height": 31, "width": 97}
    container.script("tty; stty size; test -t 0 && test -c /dev/console && echo ok; sleep 1000")
    done = container.create("--console-socket", console.path)
    assert done.returncode == 0, done.stderr
    console.receive()
    container.start()
    text = console.read_until(b"ok")
    assert b"/dev/pts/0" in text
    assert b"31 97" in text


def test_terminal_needs_a_console_socket(container: Container) -> None:
    container.process["terminal"] = True
    container.refused("console")


def test_console_socket_needs_a_terminal(container: Container, console: ConsoleSocket) -> None:
    done = container.create("--console-socket", console.path)
    assert done.returncode != 0


def test_terminal_belongs_to_the_user(container: Container, console: ConsoleSocket) -> None:
    container.process["terminal"] = True
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.script("stat -c owner=%u /dev/pts/0; sleep 1000")
    assert container.create("--console-socket", console.path).returncode == 0
    console.receive()
    container.start()
    assert b"owner=1000" in console.read_until(b"owner=1000")


def test_process_is_needed(container: Container) -> None:
    del container.config["process"]
    container.refused("process")


def test_scheduler(container: Container) -> None:
    container.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    container.process["args"] = ["/bin/sleep", "1000"]
    container.started()
    assert os.sched_getscheduler(container.pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, container.pid) == 5


def test_io_priority(container: Container) -> None:
    container.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    container.process["args"] = ["/bin/sleep", "1000"]
    container.started()
    import ctypes

    assert ctypes.CDLL(None).syscall(252, 1, container.pid) == 2 << 13 | 6


def test_root_can_be_read_only(container: Container) -> None:
    container.config["root"]["readonly"] = True
    text = container.output("touch /tmp/x 2>&1 || echo refused")
    assert "refused" in text


def test_root_can_be_written_to(container: Container) -> None:
    container.output("touch /tmp/x")
    assert (container.rootfs / "tmp/x").exists()


def test_missing_root_is_refused(container: Container) -> None:
    container.config["root"]["path"] = "nosuch"
    container.refused("nosuch")


def test_root_by_absolute_path(container: Container) -> None:
    container.config["root"]["path"] = str(container.rootfs)
    assert container.output("echo ok") == "ok\n"


def test_host_name(container: Container) -> None:
    container.config["hostname"] = "other.example"
    assert container.output("hostname") == "other.example\n"


def test_domain_name(container: Container) -> None:
    container.config["domainname"] = "nis.example"
    assert container.output("cat /proc/sys/kernel/domainname") == "nis.example\n"


def test_old_root_is_out_of_reach(container: Container) -> None:
    text = container.output("cat /proc/self/mountinfo; ls / /..")
    assert str(container.rootfs.parent.parent) + " " not in text
    assert "home" not in text.split()


def test_unknown_fields_are_ignored(container: Container) -> None:
    container.config["org.example"] = {"a": 1}
    container.linux["future"] = ["x"]
    assert container.output("echo ok") == "ok\n"


def test_another_major_version_is_refused(container: Container) -> None:
    container.config["ociVersion"] = "2.0.0"
    container.refused("version")


def test_default_devices(container: Container) -> None:
    names = ["null", "zero", "full", "random", "urandom", "tty"]
    text = container.output(
        "for n in " + " ".join(names) + "; do stat -c '%n %t:%T %a' /dev/$n; done"
    )
    shown = {line.split()[0][5:]: line.split()[1:] for line in text.splitlines()}
    for name in names:
        is_ = pathlib.Path(f"/dev/{name}").stat()
        number = f"{os.major(is_.st_rdev):x}:{os.minor(is_.st_rdev):x}"
        assert stat.S_ISCHR(is_.st_mode)
        assert shown[name] == [number, "666"]


def test_default_links(container: Container) -> None:
    text = container.output("cd /dev; for n in fd stdin stdout stderr ptmx; do readlink $n; done")
    assert text.split()[:4] == ["/proc/self/fd", *(f"/proc/self/fd/{n}" for n in range(3))]
    assert text.split()[4].endswith("pts/ptmx")
