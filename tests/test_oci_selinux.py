"""Labels of SELinux, on a kernel that enforces a small policy of these tests (selinux.cil).

`make test-v2` boots one. On a host with a policy of its own they are skipped, and none is loaded.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import Container, runtime_of_its_own
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
SELINUX = pathlib.Path("/sys/fs/selinux")
RUNTIME = "viscum_u:viscum_r:runtime_t:s0"
LABEL = "viscum_u:viscum_r:container_t:s0:c1,c2"
OTHER = "viscum_u:viscum_r:container_t:s0:c3"
FILES = "viscum_u:object_r:container_file_t:s0:c1,c2"
UNKNOWN = "viscum_u:viscum_r:nosuch_t:s0"
PEERS = ("/usr/sbin/runc", "/usr/bin/crun")

pytestmark = [pytest.mark.selinux, needs("root", "busybox", "selinux")]


@pytest.fixture(scope="module", autouse=True)
def policy(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load the policy, where none is loaded yet."""
    if not (SELINUX / "enforce").exists():
        subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", SELINUX], check=True)
    if label_of("self") != RUNTIME:
        made = tmp_path_factory.mktemp("policy") / "policy"
        words = ["secilc", "-o", made, "-f", os.devnull, HERE / "selinux.cil"]
        subprocess.run(words, check=True)
        (SELINUX / "load").write_bytes(made.read_bytes())
    assert label_of("self") == RUNTIME
    assert (SELINUX / "enforce").read_text() == "1"


def label_of(pid: int | str) -> str:
    return pathlib.Path(f"/proc/{pid}/attr/current").read_text().rstrip("\0")


def labeled(container: Container) -> Container:
    """Give the root's files the label of a container's, as engines do, and ask for the labels."""
    for path in container.rootfs.rglob("*"):
        os.setxattr(path, "security.selinux", FILES.encode(), follow_symlinks=False)
    container.process["selinuxLabel"] = LABEL
    container.linux["mountLabel"] = FILES
    container.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    return container


@pytest.fixture
def container() -> Iterator[Container]:
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        yield labeled(runtime.container())


def assert_refused(container: Container, *parts: str) -> None:
    done = container.create()
    assert done.returncode == 1
    assert done.stderr.count(b"level=error") == 1, done.stderr
    for part in parts:
        assert part in done.stderr.decode()
    assert not (container.runtime.root / container.id).exists()


def test_command_has_the_label_and_what_waits_for_start_has_not(container: Container) -> None:
    container.process["args"] = ["/bin/sleep", "1000"]
    done = container.create()
    assert done.returncode == 0, done.stderr
    assert label_of(container.pid) == RUNTIME
    assert container.start().returncode == 0
    assert label_of(container.pid) == LABEL
    assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]


@pytest.mark.parametrize("privileged", [False, True])
def test_label_with_and_without_new_privileges(container: Container, *, privileged: bool) -> None:
    container.process["noNewPrivileges"] = not privileged
    assert container.output("cat /proc/self/attr/current").rstrip("\0") == LABEL


def test_label_of_an_ordinary_user_in_a_user_namespace(container: Container) -> None:
    ids = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.namespace("user")
    container.process["user"] = {"uid": 7, "gid": 7}
    container.linux["maskedPaths"] = ["/proc/kcore", "/proc/sys"]
    container.idle()
    assert label_of(container.pid) == LABEL
    done = container.exec("cat", "/proc/self/attr/current", given=("--process-label", OTHER))
    assert done.stdout.rstrip(b"\0").decode() == OTHER, done.stderr


def test_exec_has_the_label_of_the_container_or_its_own(container: Container) -> None:
    container.idle()
    words = ("cat", "/proc/self/attr/current")
    assert container.exec(*words).stdout.rstrip(b"\0").decode() == LABEL
    done = container.exec(*words, given=("--process-label", OTHER))
    assert done.stdout.rstrip(b"\0").decode() == OTHER
    path = container.folder / "process.json"
    for more, expected in (({}, LABEL), ({"selinuxLabel": OTHER}, OTHER)):
        process = {"args": list(words), "cwd": "/", "env": ["PATH=/bin"], **more}
        path.write_text(json.dumps(process))
        done = container.call("exec", "--process", path, container.id)
        assert done.stdout.rstrip(b"\0").decode() == expected, done.stderr


def test_hooks_have_the_label_of_the_runtime(container: Container) -> None:
    path = container.folder / "label"
    text = "cat /proc/self/attr/current > "
    hooks = {
        "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", text + str(path)]}],
        "startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"{text}/label"], "env": ["PATH=/bin"]}
        ],
    }
    container.config["hooks"] = hooks
    container.idle()
    assert path.read_text().rstrip("\0") == RUNTIME
    assert (container.rootfs / "label").read_text().rstrip("\0") == RUNTIME
    assert label_of(container.pid) == LABEL


ASK = """
import ctypes
label = ctypes.create_string_buffer(200)
assert ctypes.CDLL(None).syscall(250, 17, -3, label, 200) > 0
print(label.value.decode())
"""
"""KEYCTL_GET_SECURITY of the session's keyring."""


@needs("python", "x86_64")
def test_keyring_of_the_session_has_the_label(container: Container) -> None:
    for name in ("usr", "etc"):
        container.mount(f"/{name}", "bind", f"/{name}", "rbind", "ro")
    for name in ("lib", "lib64"):
        (container.rootfs / name).symlink_to(f"usr/{name}")
    assert container.output(f"/usr/bin/python3 -c '{ASK}'").strip() == LABEL


def contexts(text: str) -> dict[str, str]:
    """Return the labels that file systems were mounted with, by target."""
    found = {}
    for line in text.splitlines():
        target, options = line.split()[4], line.rpartition(" ")[2]
        _, mark, rest = options.partition("context=")
        found[target] = rest.split('"')[1] if mark and '"' in rest else rest.partition(",")[0]
    return found


@pytest.mark.parametrize("path", [script("viscum-oci"), *PEERS])
def test_file_systems_of_the_container_have_the_label(path: str) -> None:
    """Ours, and what other runtimes make of the same bundle."""
    with runtime_of_its_own(path) as runtime:
        container = labeled(runtime.container())
        (container.rootfs / "hidden").mkdir()
        container.linux["maskedPaths"] = ["/hidden"]
        container.idle()
        assert label_of(container.pid) == LABEL
        assert contexts(pathlib.Path(f"/proc/{container.pid}/mountinfo").read_text()) == {
            "/": "",
            "/proc": "",
            "/sys": "",
            "/dev": FILES,
            "/dev/pts": FILES,
            "/dev/mqueue": "",
            "/hidden": FILES,
        }
        for name in ("dev/mqueue", "dev/null", "dev/pts/ptmx"):
            data = os.getxattr(f"/proc/{container.pid}/root/{name}", "security.selinux")
            assert data.rstrip(b"\0").decode() == FILES


@pytest.mark.parametrize("label", [UNKNOWN, "x", "x" * 5000, f"{LABEL}\n"])
def test_label_that_no_policy_knows_is_refused(container: Container, label: str) -> None:
    container.process["selinuxLabel"] = label
    assert_refused(container, label[:60].rstrip())
    container.process["selinuxLabel"] = ""
    container.linux["mountLabel"] = label
    assert_refused(container, label[:60].rstrip())


def test_exec_with_a_label_that_no_policy_knows_leaves_the_container(container: Container) -> None:
    container.idle()
    done = container.exec("true", given=("--process-label", UNKNOWN))
    assert done.returncode == 255
    assert UNKNOWN in done.stderr.decode()
    assert container.status() == "running"


def test_command_that_is_no_way_into_the_domain_does_not_run(container: Container) -> None:
    os.setxattr(container.rootfs / "bin/busybox", "security.selinux", RUNTIME.encode())
    done = container.run("true")
    assert done.returncode == 126
    assert b"permission denied" in done.stderr.lower()
