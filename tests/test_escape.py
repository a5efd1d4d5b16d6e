"""What a hostile program tries from inside of a default machine: nothing of it may succeed.

Each promise is held for machines of root, of a user with subordinate ids and of a user without.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import KINDS, make_caller
from needs import needs
from viscum.guard.paths import MASKED, READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callers import Caller

pytestmark = needs("compiler", "userns")

HERE = pathlib.Path(__file__).parent
CALLS = re.findall(r"^\s+X\((\w+),", (HERE / "probe.c").read_text(), re.MULTILINE)
INSIDE = "/opt/probe"
OF_THIS_MACHINE = ("overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")
NODES = {"/null", "/zero", "/full", "/random", "/urandom", "/tty"}


def mounted(probe: pathlib.Path) -> list[viscum.Mount]:
    return [viscum.Mount(str(probe), INSIDE, read_only=True)]


def run_probe(caller: Caller, probe: pathlib.Path, *words: str, **options: object) -> list[str]:
    """Run the probe in a machine and return the lines that it prints."""
    mounts = [*mounted(probe), *options.pop("mounts", ())]
    result = caller.run([f"{INSIDE}/probe", *words], mounts=mounts, timeout=60, **options)
    assert result.ok, (result.exit_code, result.verdict, result.stderr)
    return result.text.splitlines()


@functools.cache
def answers(caller: Caller, probe: pathlib.Path) -> dict[str, str]:
    """Return what each forbidden call answered in a machine of `caller`."""
    return dict(line.split() for line in run_probe(caller, probe, "calls"))


@pytest.mark.parametrize("call", CALLS)
def test_call_is_refused(call: str, caller: Caller, probe: pathlib.Path) -> None:
    answer = answers(caller, probe)[call]
    assert answer != "OK"
    assert answer.startswith("E"), "a call that waits or kills was let through"


def test_probe_can_tell_success(probe: pathlib.Path) -> None:
    """Without a machine around it the probe does succeed at what any process may do."""
    done = subprocess.run(
        [probe / "probe", "devices", "/dev/null"], capture_output=True, check=True, timeout=30
    )
    assert done.stdout == b"/dev/null OK\n"


# Files of the kernel.


def test_kernel_files_are_not_writable(caller: Caller, probe: pathlib.Path) -> None:
    """core_pattern, sysrq-trigger, release_agent, cgroup tasks, modprobe and all the others."""
    limits = {"memory": "128M", "pids": 64} if caller.kind == "root" else {}
    lines = run_probe(caller, probe, "writable", "/proc", "/sys", **limits)
    assert [line for line in lines if not line.startswith("/proc/pressure/")] == []


def test_host_settings_are_not_writable_for_its_users(caller: Caller, probe: pathlib.Path) -> None:
    """Pressure triggers of the whole host are open to every user; a machine has no use for one."""
    assert run_probe(caller, probe, "writable", "/proc/pressure") == []


@pytest.mark.parametrize("path", sorted({*MASKED, "/proc/kmsg", "/proc/kpageflags"}))
def test_masked_path_shows_nothing(path: str, caller: Caller, probe: pathlib.Path) -> None:
    assert path not in shown(caller, probe)


@functools.cache
def shown(caller: Caller, probe: pathlib.Path) -> str:
    """Return what the masked paths show, a path on each line."""
    paths = sorted({*MASKED, "/proc/kmsg", "/proc/kpageflags"})
    return "\n".join(run_probe(caller, probe, "readable", *paths))


@pytest.mark.parametrize("path", [path for path in READ_ONLY if os.path.isdir(path)])
def test_read_only_path_takes_no_new_file(path: str, caller: Caller) -> None:
    result = caller.run(["sh", "-c", f"echo 1 > {path}/viscum"], timeout=30)
    assert result.exit_code != 0


def test_mount_table_shows_only_own_mounts(caller: Caller) -> None:
    lines = caller.run(["cat", "/proc/self/mountinfo"], timeout=30).text.splitlines()
    assert lines
    for line in lines:
        left, right = line.split(" - ")
        _, _, _, root, point, attributes, *_ = left.split()
        kind = right.split()[0]
        of_nodes = kind == "devtmpfs" and root in NODES
        shared_read_only = caller.kind != "root" and "ro" in attributes.split(",")
        assert kind in OF_THIS_MACHINE or of_nodes or shared_read_only, (point, line)


def test_mounts_have_no_peers_on_the_host(caller: Caller) -> None:
    """A mount that is made in the machine never shows outside, and the other way round."""
    table = caller.run(["cat", "/proc/self/mountinfo"], timeout=30).text
    assert "shared:" not in table
    assert "master:" not in table


@needs("memory", "pids")
def test_cgroup_folders_show_only_own_groups(probe: pathlib.Path) -> None:
    script = "find /sys/fs/cgroup -mindepth 2 -name 'viscum-*'; cat /proc/self/cgroup"
    result = viscum.run(["sh", "-c", script], memory="64M", pids=32, timeout=30)
    assert "viscum-" not in result.text
    release = viscum.run(["sh", "-c", "find / -name release_agent 2>/dev/null"], timeout=30)
    assert release.text == ""


# The way out of the root.


@pytest.fixture
def secret(folder: pathlib.Path) -> pathlib.Path:
    """A file of the host that no machine should see."""
    path = folder / f"secret-{uuid.uuid4().hex}"
    path.write_text("secret")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    "start",
    ["/", "/..", "/../..", "/tmp/../..", "/proc/1/root", "/proc/1/root/..", "/proc/self/cwd/.."]
    + ["/proc/1/cwd", "/proc/thread-self/root/../..", "/dev/pts/../../.."],
)
def test_no_path_leads_to_the_host(start: str, caller: Caller, secret: pathlib.Path) -> None:
    script = f"ls -d {start}{secret} {start}/{secret} && cat {start}{secret}"
    result = caller.run(["sh", "-c", script], timeout=30)
    assert result.exit_code != 0
    assert secret.name not in result.text


def test_chroot_does_not_lead_out(caller: Caller, probe: pathlib.Path) -> None:
    """The classic: keep a folder open outside of the new root, go up from there."""
    top = caller.run(["stat", "-c", "%d:%i", "/"], timeout=30).text.strip()
    reached = run_probe(caller, probe, "chroot-escape")
    inside = os.stat("/")
    assert reached[-1] != f"{inside.st_dev}:{inside.st_ino}"
    assert reached[-1].split(":")[1] == top.split(":")[1]


def test_root_is_the_top_of_its_mount_namespace(caller: Caller) -> None:
    """No old root is stacked below or above: `..` of / is / itself, mount for mount."""
    script = "stat -c %d:%i / /.. /../.. /proc/1/root/.. && cat /proc/self/mountinfo"
    lines = caller.run(["sh", "-c", script], timeout=30).text.splitlines()
    assert len(set(lines[:4])) == 1
    assert len([line for line in lines[4:] if line.split()[4] == "/"]) == 1


# Processes.


def test_host_processes_are_invisible(caller: Caller) -> None:
    result = caller.run(["sh", "-c", "echo /proc/[0-9]*"], timeout=30)
    assert result.text.split() == ["/proc/1"]


def test_host_processes_cannot_be_signalled(caller: Caller, probe: pathlib.Path) -> None:
    pids = [str(os.getpid()), str(os.getppid())]
    assert run_probe(caller, probe, "kill", *pids) == ["ESRCH"] * 2


WATCH_JOINERS = """
import sys, viscum
mounts = [viscum.Mount(sys.argv[1], "/opt/probe", read_only=True)]
with viscum.Machine(mounts=mounts, **eval(sys.argv[2])) as machine:
    spy = machine.exec(["/opt/probe/probe", "joiners", "3"], stdout=viscum.PIPE)
    assert spy.stdout.readline() == b"ready\\n"
    while spy.poll() is None:
        machine.run(["true"])
    sys.stdout.buffer.write(spy.stdout.read())
    spy.close()
"""


@pytest.mark.parametrize("options", [{}, {"cap_add": ["SYS_PTRACE"]}], ids=["default", "ptrace"])
def test_command_that_enters_is_closed_to_the_machine(
    options: dict[str, object], caller: Caller, probe: pathlib.Path
) -> None:
    """It shares memory and descriptors with the engine until it executes (CVE-2016-9962)."""
    done = caller.python(WATCH_JOINERS, str(probe), repr(options))
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""


INHERIT = """
import os, sys, viscum
secret = os.open(sys.argv[1], os.O_RDONLY)
for number in (3, 7, 63, 200):
    os.dup2(secret, number, inheritable=True)
os.set_inheritable(os.open("/", os.O_PATH | os.O_DIRECTORY), True)
script = "for fd in /proc/self/fd/*; do readlink $fd; done; ls /proc/1/fd"
result = viscum.run(["sh", "-c", script], **eval(sys.argv[2]))
print(result.text)
with viscum.Machine(**eval(sys.argv[2])) as machine:
    print(machine.run(["sh", "-c", script]).text)
"""


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["plain", "init"])
def test_descriptors_of_the_parent_are_closed(
    options: dict[str, object], caller: Caller, secret: pathlib.Path
) -> None:
    done = caller.python(INHERIT, str(secret), repr(options))
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    assert secret.name not in text
    assert "\n/\n" not in text


CLOSED = """
import os, sys, viscum
report = os.dup(1)
for number in eval(sys.argv[1]):
    os.close(number)
try:
    result = viscum.run(["/opt/probe/probe", "readable", *(f"/proc/self/fd/{n}/" for n in range(9))],
        mounts=[viscum.Mount(sys.argv[2], "/opt/probe", read_only=True)], capture=False)
    os.write(report, b"ran")
except viscum.ViscumError:
    os.write(report, b"refused")
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams_of_the_parent_give_no_folder(
    closed: tuple[int, ...], caller: Caller, probe: pathlib.Path
) -> None:
    """The engine's own descriptors must not become the machine's streams (CVE-2024-21626)."""
    done = caller.python(CLOSED, repr(closed), str(probe))
    assert done.stdout.decode().strip() in ("ran", "refused")


def test_environment_of_the_host_stays_there(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCUM_TEST_SECRET", "leaked")
    result = caller.run(["sh", "-c", "env; cat /proc/*/environ"], timeout=30)
    assert "VISCUM_TEST_SECRET" not in result.text
    assert "PATH=" in result.text


KEYRING = """
import ctypes, platform, sys, viscum
add, control = (248, 250) if platform.machine() == "x86_64" else (217, 219)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(control, 1, b"viscum-test", 0, 0, 0)
assert libc.syscall(add, b"user", b"viscum-secret", b"secret", 6, -3) > 0, ctypes.get_errno()
source = (
    "import ctypes; libc = ctypes.CDLL(None)\\n"
    f"print(libc.syscall({control}, 10, ctypes.c_long(-3), b'user', b'viscum-secret', 0))\\n"
)
print(viscum.run(["/usr/bin/python3", "-c", source], seccomp=sys.argv[1]).text)
"""


@needs("python")
@pytest.mark.parametrize("seccomp", ["default", "unconfined"])
def test_session_keyring_of_the_caller_stays_there(seccomp: str, caller: Caller) -> None:
    """A key of a keyring that is inherited can be read by whoever runs with it."""
    done = caller.python(KEYRING, seccomp)
    assert done.stdout.split() == [b"-1"], done.stderr.decode()


WRITE_INIT = """
import sys, viscum
mounts = [viscum.Mount(sys.argv[1], "/opt/probe", read_only=True)]
with viscum.Machine(mounts=mounts) as machine:
    paths = "/proc/1/exe"
    print(machine.run(["/opt/probe/probe", "write", paths]).text, end="")
"""


def test_init_is_not_writable(caller: Caller, probe: pathlib.Path) -> None:
    """A machine cannot change the host's program through /proc/1/exe (CVE-2019-5736)."""
    before = init_program().read_bytes()
    done = caller.python(WRITE_INIT, str(probe))
    assert done.stdout.decode().strip() not in ("OK", ""), done.stderr.decode()
    assert init_program().read_bytes() == before


def init_program() -> pathlib.Path:
    return pathlib.Path(viscum.__file__).parent / "bin" / "viscum-init"


# Files of the host.


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/gshadow", "/etc/ssl/private"])
def test_private_file_of_the_host_is_unreadable(path: str, caller: Caller) -> None:
    result = caller.run(["sh", "-c", f"cat {path} {path}/*"], timeout=30)
    assert result.stdout == b""


def test_homes_of_the_host_are_hidden(caller: Caller) -> None:
    script = "ls -A /root /home /home/* 2>/dev/null; ls -A ~"
    result = caller.run(["sh", "-c", script], timeout=30)
    words = {word for word in result.text.split() if not word.endswith(":")}
    assert words <= set(os.listdir("/home")), "folders of users may show, what is in them may not"


UNCOVER = """
import os
for path in ("/tmp", "/var/tmp", "/home", "/root", "/run"):
    for name in ("user.overlay.opaque", "trusted.overlay.opaque", "user.overlay.origin"):
        for change in (os.removexattr, lambda p, n: os.setxattr(p, n, b"n")):
            try:
                change(path, name)
            except OSError:
                pass
    found = set(os.listdir(path))
    try:
        os.rename(path, path + "-moved")
        os.mkdir(path)
        found |= set(os.listdir(path)) | set(os.listdir(path + "-moved"))
        os.rmdir(path)
        found |= set(os.listdir(path)) if os.path.exists(path) else set()
    except OSError:
        pass
    print("\\n".join(found))
"""


@needs("python")
def test_hidden_folders_cannot_be_uncovered(caller: Caller, secret: pathlib.Path) -> None:
    """Neither by their attributes nor by moving or removing them."""
    result = caller.run(["/usr/bin/python3", "-c", UNCOVER], timeout=30)
    assert result.ok, result.stderr
    assert secret.parent.name not in result.text
    assert set(result.text.split()) <= set(os.listdir("/home")) | {"tmp", "lock"}


@needs("root")
@pytest.mark.parametrize(
    "options",
    [{"userns": "host"}, {"network": "host"}, {"pid": "host"}, {"ipc": "host"}, {"uts": "host"}],
    ids=str,
)
def test_sharing_one_namespace_opens_nothing_else(
    options: dict[str, object], probe: pathlib.Path
) -> None:
    """Each loosening loosens what it says; the calls stay refused."""
    caller = make_caller("root")
    lines = run_probe(caller, probe, "calls", **options)
    assert [line for line in lines if not line.split()[1].startswith("E")] == []
    assert run_probe(caller, probe, "readable", *sorted(MASKED), **options) == []


def test_files_of_the_host_belong_to_nobody_inside(caller: Caller) -> None:
    """What belongs to the host's root is not the machine's: no chmod, no privilege."""
    result = caller.run(["sh", "-c", "chmod 777 /usr/bin/env; chmod 777 /etc/passwd"], timeout=30)
    assert result.exit_code != 0


def test_writes_to_the_root_stay_in_the_machine(caller: Caller) -> None:
    name = f"viscum-written-{uuid.uuid4().hex}"
    script = f"for d in / /etc /usr /var /opt /srv /tmp /run; do echo x > $d/{name}; done; true"
    caller.run(["sh", "-c", script], timeout=30)
    folders = ("/", "/etc", "/usr", "/var", "/opt", "/srv", "/tmp", "/run")
    assert [f for f in folders if os.path.lexists(f"{f}/{name}")] == []


@pytest.mark.parametrize("kind", KINDS[:2])
def test_setuid_program_gives_nothing(kind: str, probe: pathlib.Path) -> None:
    """Nothing to try with one id only."""
    caller = make_caller(kind)
    script = (
        f"cp {INSIDE}/probe /tmp/p && chmod 6755 /tmp/p &&"
        " setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/p ids"
    )
    result = caller.run(["sh", "-c", script], mounts=mounted(probe), timeout=30)
    assert result.text.strip() == "1000 1000 1000 0", result.stderr


@needs("root")
def test_device_node_in_a_rootfs_or_volume_does_not_open(
    folder: pathlib.Path, probe: pathlib.Path
) -> None:
    (folder / "volume").mkdir()
    (folder / "root" / "opt").mkdir(parents=True)
    places = [folder / "volume" / "node", folder / "root" / "node"]
    for place in places:
        os.mknod(place, 0o20666, os.makedev(1, 8))
        os.chmod(place, 0o666)
    os.link(places[0], folder / "volume" / "linked")
    mounts = [*mounted(probe), viscum.Mount(str(folder / "volume"), "/volume")]
    command = [f"{INSIDE}/probe", "devices", "/volume/node", "/volume/linked", "/node"]
    result = viscum.run(command, rootfs=str(folder / "root"), mounts=mounts, timeout=30)
    assert [line.split()[1] for line in result.text.splitlines()] == ["EACCES"] * 3


# Sockets.


@pytest.fixture
def abstract() -> Iterator[str]:
    """The name of an abstract socket on which the host listens."""
    name = f"viscum-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        yield name


@pytest.mark.parametrize("network", ["none", pytest.param("host", marks=needs("landlock"))])
def test_abstract_socket_of_the_host_is_out_of_reach(
    network: str, abstract: str, caller: Caller, probe: pathlib.Path
) -> None:
    [answer] = run_probe(caller, probe, "abstract", abstract, network=network)
    assert answer in ("EPERM", "ECONNREFUSED", "EACCES")


@needs("python")
def test_network_none_does_not_reach_the_hosts_loopback(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=3)"
        result = caller.run(["/usr/bin/python3", "-c", source], timeout=30)
    assert b"refused" in result.stderr.lower()


@needs("pasta", "python")
@pytest.mark.parametrize(
    "kind", [KINDS[0], pytest.param("subids", marks=needs("subuid", "tun-for-users"))]
)
def test_network_private_does_not_reach_the_hosts_loopback(kind: str) -> None:
    """Not by 127.0.0.1, and not by the gateway's address, which pasta could map to it."""
    caller = make_caller(kind)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = (
            "import socket, struct\n"
            "rows = [line.split() for line in open('/proc/net/route')][1:]\n"
            "hops = {socket.inet_ntoa(struct.pack('<L', int(row[2], 16))) for row in rows}\n"
            "for address in {'127.0.0.1', *hops} - {'0.0.0.0'}:\n"
            "    try:\n"
            f"        socket.create_connection((address, {port}), timeout=2)\n"
            "        print('reached', address)\n"
            "    except OSError:\n"
            "        pass\n"
        )
        result = caller.run(["/usr/bin/python3", "-c", source], network="private", timeout=60)
    assert result.ok, result.stderr
    assert result.text == ""


# Races.


@needs("root")
def test_mount_target_cannot_be_raced_out_of_the_rootfs(folder: pathlib.Path) -> None:
    """A folder of the rootfs that turns into a link to the host while machines start."""
    root, outside = folder / "root", folder / "outside"
    for path in (root / "bin", root / "place", outside, folder / "volume"):
        path.mkdir(parents=True)
    (root / "link").symlink_to(f"../../../../../../../../..{outside}")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for old, new in (
                ("place", "kept"),
                ("link", "place"),
                ("place", "link"),
                ("kept", "place"),
            ):
                os.rename(root / old, root / new)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                viscum.run(
                    ["/bin/none"],
                    rootfs=str(root),
                    mounts=[viscum.Mount(str(folder / "volume"), "/place/below")],
                )
            except viscum.ViscumError:
                continue
    finally:
        stop.set()
        thread.join()
    assert list(outside.iterdir()) == []
    assert list((folder / "volume").iterdir()) == []


@needs("root")
def test_mount_source_that_is_swapped_is_refused(folder: pathlib.Path) -> None:
    """A volume's folder that was replaced by a link between two launches shows the new one or
    nothing, and never a third place.
    """
    (folder / "shared").mkdir()
    (folder / "shared" / "mine").mkdir()
    mounts = [viscum.Mount(str(folder / "shared" / "mine"), "/mine", read_only=True)]
    viscum.run(["ls", "/mine"], mounts=mounts, timeout=30)
    (folder / "shared" / "mine").rmdir()
    (folder / "shared" / "mine").mkdir()
    (folder / "shared" / "mine" / "new").touch()
    assert viscum.run(["ls", "/mine"], mounts=mounts, timeout=30).text == "new\n"


def test_two_machines_do_not_see_each_other(caller: Caller) -> None:
    """Neither files nor processes nor System V messages of another machine of the same user."""
    source = """
import sys, viscum
with viscum.Machine() as first, viscum.Machine() as second:
    first.run(["sh", "-c", "echo x > /tmp/there; echo x > /dev/shm/there"])
    first.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
    script = "cat /tmp/there /dev/shm/there; cat /proc/*/cmdline"
    print(second.run(["sh", "-c", script]).text)
"""
    done = caller.python(source)
    assert done.returncode == 0, done.stderr.decode()
    assert b"x" not in done.stdout.replace(b"viscum-init", b"")
    assert b"sleep" not in done.stdout
