"""The cgroup driver of systemd, beside a real systemd that is process 1 of a machine of its own."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

import callers
from callers import script
from conformance.container import Container, Runtime, is_unified
from needs import CHECKS, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "VISCUM_TEST_IN_SYSTEMD"
MIB = 1 << 20
CRIU = os.environ.get("VISCUM_CRIU", "criu")
inside = pytest.mark.skipif(INSIDE not in os.environ, reason="run by the first test")
pytestmark = [needs("root", "busybox", "systemd"), pytest.mark.timeout(280)]


def _chosen() -> str:
    """Leave out what cannot be: a user's systemd has no controllers of version 1."""
    chosen = "not beside" if is_unified() else "not beside and not ordinary_user"
    return chosen + (" and not restore" if CHECKS["criu"]() else "")


@pytest.mark.v2
@pytest.mark.skipif(INSIDE in os.environ, reason="this is inside already")
def test_beside_systemd() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    words += ["-o", "addopts=", "-k", _chosen(), str(HERE / "test_oci_systemd.py")]
    done = subprocess.run(
        [sys.executable, str(HERE / "systemd_machine.py"), "env", f"{INSIDE}=1", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=270,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout, done.stdout
    assert " skipped" not in done.stdout, done.stdout


@pytest.fixture
def container() -> Iterator[Container]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-scope-"))
    folder.chmod(0o755)
    runtime = Runtime(script("viscum-oci"), folder)
    plain = runtime.words
    runtime.words = lambda *words: plain("--systemd-cgroup", *words)
    made = runtime.container()
    made.process["args"] = ["/bin/sleep", "1000"]
    yield made
    runtime.close()
    shutil.rmtree(folder, ignore_errors=True)


def shown(unit: str, *names: str, user: bool = False) -> dict[str, str]:
    words = [
        *(as_user("systemctl", "--user") if user else ["systemctl"]),
        "show",
        unit,
        *(f"--property={name}" for name in names),
    ]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def is_gone(unit: str, *, user: bool = False) -> bool:
    """Return whether systemd forgets the unit within seconds."""
    end = time.monotonic() + 20
    while shown(unit, "LoadState", user=user)["LoadState"] != "not-found":
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def groups_of(pid: int) -> set[str]:
    return {
        line.split(":", 2)[2] for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().split()
    }


@inside
def test_nothing_here_boots_the_host_again() -> None:
    assert shown("sysinit.target", "LoadState") == {"LoadState": "masked"}


@inside
def test_container_is_a_scope_in_the_slice_asked_for(container: Container) -> None:
    container.linux["cgroupsPath"] = f"viscum-tests.slice:pre:{container.id}"
    unit = f"pre-{container.id}.scope"
    done = container.create()
    assert done.returncode == 0, done.stderr
    found = shown(unit, "ActiveState", "Slice", "ControlGroup", "Delegate")
    assert found["ActiveState"] == "active"
    assert found["Slice"] == "viscum-tests.slice"
    assert found["Delegate"] == "yes"
    assert groups_of(container.pid) == {f"/viscum.slice/viscum-tests.slice/{unit}"}
    group = container.cgroup("pids")
    assert (group / "cgroup.procs").read_text().split() == [str(container.pid)]
    assert container.start().returncode == 0
    done = container.exec("/bin/cat", "/proc/self/cgroup")
    assert {line.rpartition("/")[2] for line in done.stdout.decode().split()} == {unit}
    assert container.call("pause", container.id).returncode == 0
    assert container.status() == "paused"
    assert container.call("resume", container.id).returncode == 0
    assert container.delete("--force").returncode == 0
    assert is_gone(unit)
    assert not group.exists()


@inside
def test_limits_are_known_to_systemd_and_outlive_a_reload(container: Container) -> None:
    container.linux["resources"] |= {
        "memory": {"limit": 64 * MIB},
        "pids": {"limit": 40},
        "cpu": {"quota": 25000, "period": 50000, "shares": 512},
    }
    assert container.create().returncode == 0
    unit = f"viscum-{container.id}.scope"
    memory = (
        ("MemoryMax", "memory.max") if is_unified() else ("MemoryLimit", "memory.limit_in_bytes")
    )

    def check(limit: int, tasks: int) -> None:
        found = shown(unit, memory[0], "TasksMax", "Slice", "CPUQuotaPerSecUSec")
        assert found[memory[0]] == str(limit)
        assert found["TasksMax"] == str(tasks)
        assert found["Slice"] == "system.slice"
        assert found["CPUQuotaPerSecUSec"] == "500ms"
        assert (container.cgroup("memory") / memory[1]).read_text() == f"{limit}\n"
        assert (container.cgroup("pids") / "pids.max").read_text() == f"{tasks}\n"

    check(64 * MIB, 40)
    done = container.call("update", "--memory", str(48 * MIB), "--pids-limit", "30", container.id)
    assert done.returncode == 0, done.stderr
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    check(48 * MIB, 30)


@inside
def test_runtime_stays_out_of_the_scope(container: Container) -> None:
    container.write()
    words = container.runtime.words("run", "--bundle", str(container.folder), container.id)
    with subprocess.Popen(words, stdin=-3, stdout=-3) as process:
        end = time.monotonic() + 20
        path = container.runtime.root / container.id / "pid"
        while not path.exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        pid = int(path.read_text().split()[0])
        assert groups_of(pid).isdisjoint(groups_of(process.pid))
        container.call("kill", "--all", container.id, "KILL")
        assert process.wait(30) == 137
    assert is_gone(f"viscum-{container.id}.scope")


@inside
def test_launch_that_fails_leaves_no_scope(container: Container) -> None:
    container.process["args"] = ["/nosuch"]
    assert container.create().returncode == 1
    assert is_gone(f"viscum-{container.id}.scope")


@inside
@pytest.mark.parametrize("path", ["/a/b", "a:b", "nosuch:b:c", "a.slice:b:c/d", "a.slice::b.slice"])
def test_place_that_systemd_has_not_is_refused(container: Container, path: str) -> None:
    container.linux["cgroupsPath"] = path
    done = container.create()
    assert done.returncode == 1
    assert b"cgroupsPath" in done.stderr
    assert not (container.runtime.root / container.id).exists()


# Checkpoints.


def save(container: Container) -> str:
    """Save the container, which is then gone, and return the folder that it is saved in."""
    folder = str(container.runtime.folder / "images")
    container.without_namespace("network")  # whose links CRIU 3.17.1 cannot list on Linux 6.1
    container.started()
    done = container.call("--criu", CRIU, "checkpoint", "--image-path", folder, container.id)
    assert done.returncode == 0, done.stderr
    assert is_gone(f"viscum-{container.id}.scope")
    return folder


def restore(container: Container, images: str, *words: str) -> subprocess.CompletedProcess:
    container.write()
    words = ["--bundle", container.folder, "--pid-file", container.folder / "pid", *words]
    return container.call(
        *("--criu", CRIU, "restore", *words, "--image-path", images, container.id), timeout=60
    )


@inside
def test_restored_container_is_a_scope_with_its_limits(container: Container) -> None:
    container.linux["resources"] |= {"memory": {"limit": 64 * MIB}, "pids": {"limit": 40}}
    images = save(container)
    container.linux["resources"]["pids"] = {"limit": 33}
    container.linux["cgroupsPath"] = f"viscum-tests.slice:back:{container.id}"
    done = restore(container, images, "--detach")
    assert done.returncode == 0, done.stderr
    unit = f"back-{container.id}.scope"
    memory = "MemoryMax" if is_unified() else "MemoryLimit"
    found = shown(unit, "ActiveState", "Slice", "Delegate", "TasksMax", memory)
    assert found == {
        "ActiveState": "active",
        "Slice": "viscum-tests.slice",
        "Delegate": "yes",
        "TasksMax": "33",
        memory: str(64 * MIB),
    }
    assert groups_of(container.pid) == {f"/viscum.slice/viscum-tests.slice/{unit}"}
    group = container.cgroup("pids")
    assert (group / "cgroup.procs").read_text().split() == [str(container.pid)]
    assert (group / "pids.max").read_text() == "33\n"
    done = container.exec("/bin/cat", "/proc/self/cgroup")
    assert {line.rpartition("/")[2] for line in done.stdout.decode().split()} == {unit}
    done = container.call("update", "--memory", str(48 * MIB), container.id)
    assert done.returncode == 0, done.stderr
    assert shown(unit, memory) == {memory: str(48 * MIB)}
    assert container.delete("--force").returncode == 0
    assert is_gone(unit)
    assert not group.exists()


@inside
def test_restore_that_fails_leaves_no_scope(container: Container) -> None:
    images = save(container)
    for damaged in ("core-*", "viscum.json"):  # CRIU fails, and what is before CRIU
        for path in pathlib.Path(images).glob(damaged):
            path.write_text("{")
        done = restore(container, images)
        assert done.returncode == 1
        assert done.stderr.count(b"level=error") == 1, done.stderr
        assert is_gone(f"viscum-{container.id}.scope")
        assert not (container.runtime.root / container.id).exists()


@inside
def test_restored_container_in_the_foreground_is_stayed_with(container: Container) -> None:
    container.script("sleep 2; exit 7")
    images = save(container)
    done = restore(container, images)
    assert done.returncode == 7, done.stderr
    assert is_gone(f"viscum-{container.id}.scope")
    assert not (container.runtime.root / container.id).exists()


# A user's own systemd, to which that of the machine leaves two controllers.

USER = callers.PLAIN_ID
RUNTIME_FOLDER = f"/run/user/{USER}"
USER_UNIT = "viscum-user.service"
USER_GROUP = f"/user.slice/user-{USER}.slice/{USER_UNIT}"


def as_user(*words: str) -> list[str]:
    return [
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"),
        *("env", f"XDG_RUNTIME_DIR={RUNTIME_FOLDER}", "HOME=/nonexistent", *words),
    ]


BELOW = """
folder=$(mktemp -d)
systemd-run --user --quiet --collect --setenv=PATH="$PATH" \\
    --property=Type=oneshot --property=DefaultDependencies=no -- sh -c '
    folder=$1; shift
    "$@" >"$folder/out" 2>"$folder/err"
    echo $? >"$folder/code"' sh "$folder" "$@"
cat "$folder/out"
cat "$folder/err" >&2
code=$(cat "$folder/code")
rm -r "$folder"
exit "$code"
"""
"""`systemd-run --wait --pipe` wants a bus; systemd itself is enough for a service that is waited for."""


def below_the_users_systemd(*words: str) -> list[str]:
    """Return the words of a command that runs as a service of the user."""
    return as_user("sh", "-c", BELOW, "sh", *words)


@pytest.fixture
def users_systemd() -> Iterator[None]:
    """Start one that knows no units but a target; what is the host's would start programs."""
    units = pathlib.Path("/run/viscum-user-units")
    units.mkdir(exist_ok=True)
    (units / "viscum.target").write_text("[Unit]\nDefaultDependencies=no\n")
    folder = pathlib.Path(RUNTIME_FOLDER)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(folder, USER, USER)
    if not os.path.ismount("/etc/passwd"):  # systemd takes no user that has no name
        named = pathlib.Path("/run/passwd")
        row = f"viscum-user:x:{USER}:{USER}::/nonexistent:/bin/sh\n"
        named.write_text(pathlib.Path("/etc/passwd").read_text() + row)
        subprocess.run(["mount", "--bind", named, "/etc/passwd"], check=True)
    properties = [f"User={USER}", "Type=notify", "DefaultDependencies=no", "KillSignal=SIGKILL"]
    environment = {
        "XDG_RUNTIME_DIR": RUNTIME_FOLDER,
        "HOME": "/nonexistent",
        "SYSTEMD_UNIT_PATH": str(units),
        "SYSTEMD_GENERATOR_PATH": "/nonexistent",
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": "/nonexistent",
    }
    words = ["systemd-run", "--quiet", "--collect", f"--unit={USER_UNIT}"]
    words += [f"--slice=user-{USER}.slice", "--property=Delegate=memory pids"]
    words += [f"--property={text}" for text in properties]
    words += [f"--setenv={name}={value}" for name, value in environment.items()]
    words += ["/lib/systemd/systemd", "--user", "--unit=viscum.target"]
    subprocess.run(words, check=True)
    yield
    subprocess.run(["systemctl", "stop", USER_UNIT], check=True)


@pytest.fixture
def users_container(users_systemd: None) -> Iterator[Container]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-scope-"))
    folder.chmod(0o755)
    runtime = Runtime(callers.installation(folder), folder)
    plain = runtime.words
    runtime.words = lambda *words: below_the_users_systemd(
        *plain("--rootless=true", "--systemd-cgroup", *words)
    )
    made = runtime.container().belonging_to(USER)
    made.process["args"] = ["/bin/sleep", "1000"]
    made.linux["cgroupsPath"] = f"user.slice:viscum:{made.id}"
    yield made
    runtime.close()
    shutil.rmtree(folder, ignore_errors=True)


@inside
def test_container_of_an_ordinary_user_is_a_scope_of_that_user(users_container: Container) -> None:
    container = users_container
    container.linux["resources"] |= {"memory": {"limit": 64 * MIB}, "pids": {"limit": 40}}
    unit = f"viscum-{container.id}.scope"
    done = container.create()
    assert done.returncode == 0, done.stderr
    found = shown(unit, "ActiveState", "Slice", "MemoryMax", "TasksMax", user=True)
    assert found == {
        "ActiveState": "active",
        "Slice": "user.slice",
        "MemoryMax": str(64 * MIB),
        "TasksMax": "40",
    }
    assert shown(unit, "LoadState")["LoadState"] == "not-found"  # the machine's systemd
    assert groups_of(container.pid) == {f"{USER_GROUP}/user.slice/{unit}"}
    group = container.cgroup("")
    assert (group / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (group / "pids.max").read_text() == "40\n"
    assert (group / "cgroup.procs").read_text().split() == [str(container.pid)]
    assert container.start().returncode == 0
    assert container.status() == "running"
    done = container.exec("/bin/cat", "/proc/self/cgroup")
    assert done.stdout.decode().strip().endswith(unit), done.stderr
    done = container.call("update", "--memory", str(48 * MIB), container.id)
    assert done.returncode == 0, done.stderr
    assert shown(unit, "MemoryMax", user=True) == {"MemoryMax": str(48 * MIB)}
    assert (group / "memory.max").read_text() == f"{48 * MIB}\n"
    assert container.delete("--force").returncode == 0
    assert is_gone(unit, user=True)
    assert not group.exists()


@inside
def test_controller_that_an_ordinary_user_lacks_is_told(users_container: Container) -> None:
    container = users_container
    container.linux["resources"]["cpu"] = {"cpus": "0"}
    done = container.create()
    assert done.returncode == 1
    assert b"cpuset.cpus" in done.stderr
    assert is_gone(f"viscum-{container.id}.scope", user=True)


@inside
def test_ordinary_user_outside_of_their_systemd_is_told(users_container: Container) -> None:
    container = users_container
    plain = container.runtime.words
    skipped = len(below_the_users_systemd())
    container.runtime.words = lambda *words: as_user(*plain(*words)[skipped:])
    done = container.create()
    assert done.returncode == 1
    assert b"systemd could not start viscum-oci-" in done.stderr, done.stderr
    assert not (container.runtime.root / container.id).exists()
