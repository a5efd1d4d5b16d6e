"""Bad input to the OCI runtime: one clear error, in the log too, and nothing left behind."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import strategies

import leftovers
from callers import script
from conformance.container import CONFIG, Container, runtime_of_its_own
from needs import needs
from viscum.bundle import Bundle
from viscum.drivers.container import compile_container
from viscum.errors import HostError, SpecError, ViscumError
from viscum.oci import document, systemd
from viscum.oci.schema import CONFIG as SHAPE

if TYPE_CHECKING:
    from collections.abc import Iterator

rooted = needs("root", "busybox")


@pytest.fixture
def container() -> Iterator[Container]:
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        yield runtime.container()


def groups_of(container: Container) -> list[pathlib.Path]:
    folders = (path for path, _, _ in os.walk("/sys/fs/cgroup"))  # others come and go meanwhile
    return [pathlib.Path(path) for path in folders if os.path.basename(path) == container.id]


def assert_refused(container: Container, *words: str) -> str:
    """One error on stderr and in the log, and nothing left."""
    log = container.runtime.folder / "log"
    log.unlink(missing_ok=True)
    done = container.call(
        "--log",
        log,
        "--log-format",
        "json",
        "create",
        "--bundle",
        container.folder,
        *words,
        container.id,
    )
    assert done.returncode == 1, (done.returncode, done.stderr)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    errors = [line for line in lines if line["level"] == "error"]
    assert len(errors) == 1, lines
    assert errors[0]["msg"] == done.stderr.decode().splitlines()[-1]
    assert not (container.runtime.root / container.id).exists()
    assert not groups_of(container)
    return errors[0]["msg"]


BAD_FILES = {
    "empty": b"",
    "cut short": b'{"ociVersion": "1.0.2", "process": {"args": [',
    "a brace": b"{",
    "a name": b'{"ociVersion"',
    "no object": b"[]",
    "not JSON": b"hello",
    "not UTF-8": b'{"ociVersion": "\xff"}',
    "twice": b'{"ociVersion": "1.0.2", "ociVersion": "1.0.2"}',
    "deep": b"[" * 200000,
    "more": b"{} {}",
    "no version": b"{}",
    "NaN": b'{"ociVersion": NaN}',
    "digits": b'{"a": ' + b"9" * 10000 + b"}",
}


@rooted
@pytest.mark.parametrize("name", BAD_FILES)
def test_file_that_is_no_configuration(container: Container, name: str) -> None:
    (container.folder / "config.json").write_bytes(BAD_FILES[name])
    assert "config.json" in assert_refused(container) or name == "no version"


@rooted
def test_missing_and_odd_files(container: Container) -> None:
    path = container.folder / "config.json"
    assert "no such file" in assert_refused(container)
    path.mkdir()
    assert "not a regular file" in assert_refused(container)
    path.rmdir()
    os.mkfifo(path)
    assert "not a regular file" in assert_refused(container)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(50 << 20)
    assert "52428800 bytes" in assert_refused(container)


CHANGES = {
    "args": (("process", "args"), "text", "process.args is 'text', not a list"),
    "no args": (("process", "args"), [], "process.args is empty"),
    "number": (("process", "user", "uid"), "0", "process.user.uid is '0', not a whole number"),
    "range": (("process", "user", "uid"), 1 << 32, "process.user.uid is 4294967296"),
    "no user": (("process", "user", "uid"), (1 << 32) - 1, "process.user.uid is 4294967295"),
    "no group": (
        ("process", "user", "additionalGids"),
        [5, (1 << 32) - 1],
        "process.user.additionalGids[1] is 4294967295",
    ),
    "boolean": (("root", "readonly"), 1, "root.readonly is 1, not true or false"),
    "NUL": (("hostname",), "a\0b", "hostname contains a NUL byte"),
    "surrogate": (("hostname",), "\ud800", "hostname"),
    "proc": (
        ("mounts",),
        [{"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}],
        "is for proc alone",
    ),
    "inside proc": (
        ("mounts",),
        [{"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"}],
        "is inside /proc",
    ),
    "dotted proc": (
        ("mounts",),
        [{"destination": "/a/../proc/sys", "type": "tmpfs", "source": "tmpfs"}],
        "is inside /proc",
    ),
    "over the root": (
        ("mounts",),
        [{"destination": "/..", "type": "tmpfs", "source": "tmpfs"}],
        "is the root",
    ),
    "kind": (("mounts",), [{"destination": "/a", "type": "nosuchfs", "source": "x"}], "nosuchfs"),
    "group root": (("linux", "cgroupsPath"), "/..", "is the root"),
    "device": (
        ("linux", "devices"),
        [{"type": "z", "path": "/dev/z", "major": 1, "minor": 1}],
        "'z'",
    ),
    "resctrl": (("linux", "intelRdt"), {"closID": "x"}, "intelRdt"),
    "profile": (("process", "apparmorProfile"), "nosuch", "nosuch"),
    "label": (("process", "selinuxLabel"), "a:b:c", "selinuxLabel"),
    "label of two lines": (("process", "selinuxLabel"), "a:b:c\n", "is no label of SELinux"),
    "long label": (("linux", "mountLabel"), "a" * 4096, "is no label of SELinux"),
    "no root": (("root", "path"), "", "root.path is empty"),
    "no time": (
        ("hooks",),
        {"poststop": [{"path": "/bin/true", "timeout": 0}]},
        "hooks.poststop[0].timeout is 0",
    ),
    "unified": (("linux", "resources", "unified"), {"../x": "1"}, "unified"),
}


@rooted
@pytest.mark.parametrize("name", CHANGES)
def test_value_that_makes_no_sense(container: Container, name: str) -> None:
    path, value, message = CHANGES[name]
    place = container.config
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    container.write()
    assert message in assert_refused(container)


@rooted
def test_root_that_is_a_link(container: Container) -> None:
    container.rootfs.rename(container.folder / "real")
    container.rootfs.symlink_to("real")
    container.write()
    assert "symbolic link" in assert_refused(container)


@rooted
def test_bundle_that_is_not_there(container: Container) -> None:
    shutil.rmtree(container.folder)
    assert "no such file" in assert_refused(container)


@rooted
def test_console_socket_that_nobody_listens_at(container: Container) -> None:
    container.process["terminal"] = True
    container.write()
    path = container.folder / "socket"
    assert "no such file" in assert_refused(container, "--console-socket", str(path))
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind(str(path))
        assert "refused" in assert_refused(container, "--console-socket", str(path))


@rooted
def test_console_socket_that_nobody_reads(container: Container) -> None:
    container.process["terminal"] = True
    path = container.folder / "socket"
    with socket.socket(socket.AF_UNIX) as unread:
        unread.bind(str(path))
        unread.listen()
        begun = time.monotonic()
        assert container.create("--console-socket", str(path)).returncode == 0
        assert time.monotonic() - begun < 10


@rooted
def test_bundle_that_changes_underneath(container: Container) -> None:
    """A bundle through a link: whatever the link says meanwhile, the root is one of the two."""
    real = container.folder
    link, other = real.parent / "link", real.parent / "other"
    shutil.copytree(real, other, symlinks=True)
    link.symlink_to(real)
    container.script("echo ok")
    container.write()
    shutil.copy(real / "config.json", other / "config.json")
    text = f"while :; do ln -sfn {other} {link}; ln -sfn {real} {link}; done"
    swapper = subprocess.Popen(["/bin/sh", "-c", text], process_group=0)
    try:
        for _ in range(10):
            done = container.call("run", "--bundle", link, container.id)
            assert done.stdout == b"ok\n" or b"no such file" in done.stderr, done.stderr
    finally:
        os.killpg(swapper.pid, signal.SIGKILL)  # with the `ln` that it waits for
        swapper.wait()


@rooted
def test_preserved_descriptors_must_be_open(container: Container) -> None:
    container.write()
    assert "descriptor 3 is not open" in assert_refused(container, "--preserve-fds", "2")


@rooted
@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs here")
@pytest.mark.parametrize("verb", ["create", "restore"])
def test_systemd_groups_are_refused(container: Container, verb: str) -> None:
    container.write()
    words = ["--systemd-cgroup", "--criu", "/bin/true", verb, "--bundle", container.folder]
    done = container.call(*words, container.id)
    assert done.returncode == 1
    assert b"no systemd runs here" in done.stderr
    assert not (container.runtime.root / container.id).exists()


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("", "no XDG_RUNTIME_DIR is set"),
        ("/no/such/folder", "/no/such/folder/bus: no such file or directory"),
    ],
)
def test_systemd_of_a_user_that_does_not_run_is_told(
    monkeypatch: pytest.MonkeyPatch, folder: str, said: str
) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    with pytest.raises(HostError, match=said) as caught:
        systemd.Manager(user=True)
    assert caught.value.hint == "is the user's systemd running? else leave --systemd-cgroup out"


def test_systemd_of_a_user_needs_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_is_user", lambda: True)
    monkeypatch.setattr(systemd, "_is_unified", lambda: False)
    with pytest.raises(HostError, match="gives groups of cgroup v2 only"):
        systemd.start_scope({}, "one")


@pytest.mark.parametrize(
    ("addresses", "paths"),
    [
        ("", []),
        ("unix:path=/run/user/1/bus", ["/run/user/1/bus"]),
        ("tcp:host=a,port=1;unix:guid=0f,path=/a%20b;unix:abstract=/c,guid=1", ["/a b", "\0/c"]),
    ],
)
def test_addresses_of_a_bus_are_read(addresses: str, paths: list[str]) -> None:
    assert systemd.bus_paths(addresses) == paths


@rooted
@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_checkpoints_need_criu(container: Container, verb: str) -> None:
    container.idle()
    done = container.call("--criu", "/no/such/criu", verb, container.id)
    assert done.returncode == 1
    assert b"CRIU" in done.stderr


@rooted
@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["create"],
        ["create", "--nosuch", "x"],
        ["kill"],
        ["state"],
        ["state", "a", "b"],
        ["--log-format", "xml", "list"],
        ["--log-format", "xml", "state", "x"],
        ["exec", "x"],
        ["update", "x", "y"],
        ["run", "--preserve-fds", "²", "x"],
        ["events", "--interval", "²s", "x"],
        ["events", "--interval", "1m30", "x"],
    ],
)
def test_command_lines_that_make_no_sense(container: Container, words: list[str]) -> None:
    done = container.call(*words)
    assert done.returncode in (1, 255)
    assert done.stderr.count(b"level=error") == 1
    assert b"Traceback" not in done.stderr


@rooted
@pytest.mark.parametrize("words", [[], ["--debug"], ["help"], ["--help"]])
def test_without_a_verb_there_is_help(container: Container, words: list[str]) -> None:
    done = container.call(*words)
    assert done.returncode == 0, done.stderr
    assert b"commands:" in done.stdout


@rooted
@pytest.mark.parametrize("words", [["state", "x"], ["events", "x"]])
def test_log_that_cannot_be_written_is_told(container: Container, words: list[str]) -> None:
    done = container.call("--log", container.folder / "nosuch/log", *words)
    assert done.returncode == 1
    assert b"nosuch/log: no such file or directory" in done.stderr.lower()
    assert b"does not exist" in done.stderr


@rooted
def test_flags_have_values_as_those_of_go(container: Container) -> None:
    container.idle()
    assert container.kill("0", "--all=true").returncode == 0
    assert container.kill("0", "-a=true").returncode == 0
    assert container.delete("--force=true").returncode == 0
    assert container.call("state", container.id).returncode == 1


@rooted
@pytest.mark.parametrize("word", ["RTMINx", "RTMIN+", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX--1"])
def test_realtime_signal_that_there_is_not(container: Container, word: str) -> None:
    done = container.idle().kill(word)
    assert done.returncode == 1
    assert b"unknown signal" in done.stderr


@rooted
@pytest.mark.parametrize(
    "words",
    [
        ["--user", "4294967295"],  # which setresuid(2) takes for no change: it would be root
        ["--user", "1:4294967295"],
        ["--user", "99999999999"],
        ["--user", "²"],
        ["--additional-gids", "4294967296"],
        ["--additional-gids", "²"],
    ],
)
def test_exec_refuses_ids_that_there_are_not(container: Container, words: list[str]) -> None:
    done = container.idle().exec("/bin/true", given=tuple(words))
    assert done.returncode == 255
    assert b"level=error" in done.stderr
    assert b"Traceback" not in done.stderr


@rooted
def test_container_that_was_hardly_begun(container: Container) -> None:
    """Its folder is there, and nothing in it yet."""
    folder = container.runtime.root / container.id
    folder.mkdir()
    for verb in ("state", "start", "kill", "delete", "exec", "pause", "resume", "update", "events"):
        done = container.call(verb, container.id, *(["/bin/true"] if verb == "exec" else []))
        assert done.returncode in (1, 255), verb
        assert done.stderr.count(b"level=error") == 1, done.stderr
    assert container.call("list").returncode == 0
    assert container.delete("--force").returncode == 0
    assert not folder.exists()


@rooted
def test_list_tells_of_the_others_beside_a_damaged_one(container: Container) -> None:
    container.idle()
    damaged = container.runtime.root / "damaged"
    damaged.mkdir()
    (damaged / "record").write_bytes(b"garbage\n" * 9)
    done = container.call("list", "--format", "json")
    assert [row["id"] for row in json.loads(done.stdout)] == [container.id]
    assert b"damaged" in done.stderr
    assert container.call("delete", "--force", "damaged").returncode == 0


@rooted
def test_error_of_the_kernel_names_the_field(container: Container) -> None:
    container.namespace("network", "/etc/passwd")
    container.write()
    assert "linux.namespaces, '/etc/passwd'" in assert_refused(container)
    container.namespace("network")
    container.namespace("user")
    ids = [{"containerID": 0, "hostID": 200000, "size": 10}]
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.process["user"] = {"uid": 50, "gid": 0}
    container.write()
    assert "process.user" in assert_refused(container)


@rooted
def test_environment_is_kept_from_others(container: Container) -> None:
    container.process["env"].append("SECRET=" + "x" * 1000)
    container.idle()
    for path in (container.runtime.root / container.id).iterdir():
        assert path.name == "pid" or path.stat().st_mode & 0o077 == 0, path


@rooted
def test_environment_is_not_in_the_error(container: Container) -> None:
    container.process["env"].append("SECRET=" + "x" * 200000)  # more than execve(2) takes
    container.write()
    text = assert_refused(container)
    assert 'exec: "/bin/true": argument list too long' in text
    assert "SECRET" not in text


@rooted
def test_update_refuses_numbers_that_are_none(container: Container) -> None:
    done = container.idle().call("update", "--memory", "²", container.id)
    assert done.returncode == 1
    assert b"is no number" in done.stderr


# Killed in the middle.

MARK = "VISCUM_OCI_KILLED_TEST=1"


def kill_after(container: Container, seconds: float, *words: object) -> None:
    """Start the runtime in a session of its own, and kill it once `seconds` are over."""
    process = subprocess.Popen(
        container.runtime.words(*words), stdin=-3, stdout=-3, stderr=-3, cwd=container.folder
    )
    time.sleep(seconds)
    process.kill()
    process.wait()


def assert_gone(container: Container) -> None:
    done = container.delete("--force")
    assert done.returncode == 0, done.stderr
    assert not (container.runtime.root / container.id).exists()
    assert not groups_of(container)
    assert not leftovers.await_none(MARK)


@rooted
@pytest.mark.parametrize("step", range(24))
def test_create_that_is_killed_can_be_deleted(container: Container, step: int) -> None:
    container.process["env"].append(MARK)
    container.process["args"] = ["/bin/sleep", "1000"]
    container.namespace("cgroup")
    if step % 2:
        ids = [{"containerID": 0, "hostID": 200000, "size": 65536}]
        container.linux["uidMappings"] = container.linux["gidMappings"] = ids
        container.namespace("user")
    container.write()
    kill_after(
        container, 0.002 + step * 0.0018, "create", "--bundle", container.folder, container.id
    )
    assert_gone(container)


# The verbs that start processes or change limits take the longest: they are killed at many moments.
MOMENTS = [
    *((verb, step * 0.003) for verb in ("run", "exec", "update") for step in range(14)),
    *((verb, step * 0.0015) for verb in ("pause", "resume") for step in range(8)),
    *((verb, delay) for verb in ("start", "kill", "delete") for delay in (0, 0.001, 0.004, 0.012)),
]


@rooted
@pytest.mark.parametrize(("verb", "delay"), MOMENTS)
def test_verbs_that_are_killed_leave_what_can_be_deleted(
    container: Container, verb: str, delay: float
) -> None:
    container.process["env"].append(MARK)
    container.process["args"] = ["/bin/sleep", "1000"]
    container.write()
    if verb == "run":
        kill_after(container, delay * 2, "run", "--bundle", container.folder, container.id)
        assert_gone(container)
        return
    container.create()
    if verb != "start":
        container.start()
    if verb == "resume":
        assert container.call("pause", container.id).returncode == 0
    words = {
        "exec": ["exec", container.id, "/bin/sleep", "1000"],
        "kill": ["kill", container.id, "KILL"],
        "delete": ["delete", "--force", container.id],
        "update": ["update", "--memory", "64m", container.id],
    }.get(verb, [verb, container.id])
    kill_after(container, delay, *words)
    assert_gone(container)


@rooted
@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="SELinux is enabled")
def test_label_of_mounts_is_told_once_to_be_lost(container: Container) -> None:
    container.linux["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    container.write()
    log = container.runtime.folder / "log"
    words = ["--log", log, "--log-format", "json", "create", "--bundle", container.folder]
    assert container.call(*words, container.id).returncode == 0
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert line["level"] == "warning"
    assert "mountLabel" in line["msg"]
    assert container.delete("--force").returncode == 0


# Properties.


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from places(inner, (*path, at))


FULL = copy.deepcopy(CONFIG)
FULL["linux"] |= {
    "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}],
    "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}],
    "namespaces": [
        *FULL["linux"]["namespaces"],
        {"type": "user"},
        {"type": "cgroup"},
        {"type": "time"},
    ],
    "timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 1}},
    "devices": [
        {"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}
    ],
    "resources": {
        "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
        "memory": {"limit": 1 << 26, "swap": 1 << 27, "swappiness": 3},
        "cpu": {"shares": 100, "quota": 5000, "period": 10000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 10},
    },
    "sysctl": {"net.ipv4.ip_forward": "1"},
    "seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["mkdir"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 1,
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
            }
        ],
    },
    "maskedPaths": ["/proc/kcore"],
    "readonlyPaths": ["/proc/sys"],
    "rootfsPropagation": "private",
    "personality": {"domain": "LINUX"},
}
FULL["process"] |= {
    "rlimits": [{"type": "RLIMIT_CORE", "hard": 1, "soft": 0}],
    "scheduler": {"policy": "SCHED_OTHER", "nice": 1},
    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
    "oomScoreAdj": 5,
}
FULL["hooks"] = {"createRuntime": [{"path": "/bin/true", "args": ["true"], "timeout": 3}]}
FULL["annotations"] = {"a": "b"}
PLACES = list(places(FULL))[1:]

values = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers(-(1 << 70), 1 << 70)
    | strategies.floats(allow_nan=False, allow_infinity=False)
    | strategies.text(max_size=20)
    | strategies.sampled_from(["/", "..", "/proc", "{id}", "a\0b", ""]),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def compiled(config: object) -> None:
    """Read and compile a configuration, as `create` does."""
    data = json.dumps(config).encode()
    checked = document.check(document.parse(data, "config.json"), SHAPE, "")
    bundle = Bundle(
        id="property",
        folder="/tmp",
        rootfs="/",
        config=checked,
        process=checked.get("process") or {"cwd": "/", "args": ["x"]},
        init="/bin/true",
        gate=9,
        states=(("creating", ("a", "b")), ("created", ("a", "b"))),
    )
    compile_container(bundle, full_identity=True).plan.encode()


@pytest.mark.timeout(240)
@hypothesis.settings(max_examples=300)
@hypothesis.given(
    changes=strategies.lists(
        strategies.tuples(strategies.sampled_from(PLACES), values), min_size=1, max_size=3
    )
)
def test_any_configuration_is_compiled_or_refused(changes: list) -> None:
    config = copy.deepcopy(FULL)
    for path, value in changes:
        place = config
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        compiled(config)
    except ViscumError as error:
        assert error.message


def test_the_whole_configuration_compiles() -> None:
    compiled(FULL)


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        document.parse(data, "config.json")
    except SpecError as error:
        assert "config.json" in error.message


@hypothesis.given(values)
def test_what_is_written_can_be_read(value: object) -> None:
    hypothesis.assume("\\ud" not in json.dumps(value))
    try:
        again = document.parse(document.dump(value).encode(), "x")
    except SpecError as error:
        assert "too many digits" in error.message
    else:
        assert again == value
        assert json.loads(document.dump(value, step="  ")) == value
