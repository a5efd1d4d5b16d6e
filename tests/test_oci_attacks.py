"""Known escapes from runtimes, each tried, and what a runtime must refuse."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pathlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import script
from conformance.container import ConsoleSocket, Container, runtime_of_its_own
from needs import needs
from viscum.drivers.container_mounts import is_release

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("root", "busybox")

RENAME_EXCHANGE = 2
ROUNDS = 25
MOST_ROUNDS = 400


@pytest.fixture
def container() -> Iterator[Container]:
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        yield runtime.container()


def programs() -> dict[str, str]:
    """Return the checksums of what the runtime runs on the host."""
    paths = [script("viscum-oci"), os.path.realpath(sys.executable)]
    paths.append(str(pathlib.Path(viscum.__file__).parent / "bin/viscum-oci-init"))
    return {path: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() for path in paths}


def test_cve_2019_5736_programs_of_the_host_are_out_of_reach(container: Container) -> None:
    """A container writes to whatever runs in it that is not its own, by /proc/PID/exe."""
    before = programs()
    container.process["capabilities"] = {
        name: ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL"]
        for name in ("bounding", "effective", "permitted")
    }
    container.script(
        "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in /bin/busybox|'') ;;"
        " *) readlink $p/exe >> /tmp/seen; echo spoiled >> $p/exe;; esac; done; done 2>/dev/null"
    )
    container.started()
    seen = container.rootfs / "tmp/seen"
    for _ in range(MOST_ROUNDS):
        container.exec("/proc/self/exe")
        container.exec("/bin/true")
        if seen.exists() and "memfd:" in seen.read_text():
            break
    (container.rootfs / "tmp/hashbang").write_text("#!/proc/self/exe\n")
    (container.rootfs / "tmp/hashbang").chmod(0o755)
    container.exec("/tmp/hashbang")
    assert programs() == before
    shown = set(seen.read_text().split("\n"))
    assert any("memfd:" in line for line in shown), "no process of the runtime was caught"
    assert all("memfd:" in line for line in shown - {"", "/bin/busybox"}), shown


class Swap:
    """Has two names change places all the time, or once for each call of `once`."""

    def __init__(self, first: pathlib.Path, second: pathlib.Path) -> None:
        self.names = str(first).encode(), str(second).encode()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.over = threading.Event()
        self.count = 0

    def once(self) -> None:
        done = self.libc.renameat2(-100, self.names[0], -100, self.names[1], RENAME_EXCHANGE)
        assert done == 0, os.strerror(ctypes.get_errno())
        self.count += 1

    def forever(self) -> None:
        while not self.over.is_set():
            self.once()


def mounts_of(text: str, source: pathlib.Path) -> list[str]:
    """Return the mount points of mountinfo lines that show `source`."""
    lines = [line.split() for line in text.splitlines() if " - " in line]
    return [line[4] for line in lines if line[3].endswith(str(source))]


@pytest.mark.parametrize("how", ["as it is", "swapped", "swapping"])
def test_cve_2021_30465_swapped_folders_lead_nowhere_else(container: Container, how: str) -> None:
    """Mounts go into a volume in which a folder and a link to the host change places.

    A mount that went astray would be on the host's tree, and so in no container's any more; and its
    target would have been made there.
    """
    volume, outside = container.folder / "volume", container.folder / "outside"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("../../../../../../../../" + str(outside))
    outside.mkdir()
    source = container.folder / "source"
    source.mkdir()
    (source / "mark").write_text("marked")
    container.mount("/volume", "bind", str(volume), "bind")
    container.mount("/volume/a/target", "bind", str(source), "bind")
    swap = Swap(volume / "a", volume / "b")
    thread = threading.Thread(target=swap.forever)
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    if how == "swapping":
        thread.start()
    try:
        for _ in range(ROUNDS if how == "swapping" else 2):
            if how == "swapped" and not swap.count:
                swap.once()
            done = container.run("cat /proc/self/mountinfo")
            if done.returncode == 0:
                found = mounts_of(done.stdout.decode(), source)
                assert len(found) == 1, done.stdout
            assert not list(outside.iterdir())
            container.delete("--force")
    finally:
        swap.over.set()
        if how == "swapping":
            thread.join()
    assert swap.count >= {"as it is": 0, "swapped": 1, "swapping": ROUNDS}[how]
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_cve_2024_21626_folder_that_was_left_open_is_no_way_out(
    container: Container, verb: str
) -> None:
    """A descriptor of the host's root is there for certain: the caller hands it on."""
    cwd = "/proc/self/fd/3"
    if verb == "exec":
        container.idle()
        words = ["exec", "--preserve-fds", "1", "--cwd", cwd, container.id, "/bin/ls", "-a", ".."]
    else:
        container.process["cwd"] = cwd
        container.process["args"] = ["/bin/ls", "-a", ".."]
        container.write()
        words = ["run", "--preserve-fds", "1", "--bundle", str(container.folder), container.id]
    command = ["sh", "-c", 'exec 3</; exec "$@"', "sh", *container.runtime.words(*words)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=30, stdin=-3)
    assert done.returncode != 0, done.stdout
    assert not done.stdout
    assert b"chdir to cwd" in done.stderr, done.stderr


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_cve_2024_21626_working_folders_of_the_host_are_refused(
    container: Container, verb: str
) -> None:
    """A descriptor of the host that is open meanwhile is no way out through /proc/self/fd."""
    if verb == "exec":
        container.idle()
    for number in range(3, 40):
        for process in ("self", "1"):
            cwd = f"/proc/{process}/fd/{number}"
            if verb == "exec":
                done = container.exec("/bin/pwd", given=("--cwd", cwd))
            else:
                container.process["cwd"] = cwd
                done = container.run("pwd; ls ../../../../../..")
            assert done.returncode != 0, (cwd, done.stdout)
            assert b"unreachable" not in done.stdout


def test_cve_2025_31133_masks_are_not_the_images(container: Container) -> None:
    """What masks is the kernel's null device, whatever the image has at /dev/null."""
    container.config["mounts"] = [
        m for m in container.config["mounts"] if m["destination"] != "/dev"
    ]
    container.config["mounts"] = [m for m in container.config["mounts"] if m["type"] != "devpts"]
    (container.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    container.linux["maskedPaths"] = ["/proc/timer_list", "/proc/keys"]
    text = container.output(
        "cat /proc/timer_list /proc/keys; stat -c '%F' /proc/timer_list; stat -c %t:%T /dev/null"
    )
    assert text.splitlines() == ["character special file", "1:3"]


def test_masks_are_the_hosts_where_the_way_to_the_root_changes(container: Container) -> None:
    """A link in that way, changed in time, must not have the root stand in for the host's /dev."""
    place, other = container.folder / "place", container.folder / "other"
    for folder in (place, other):
        folder.mkdir()
    container.rootfs.rename(place / "rootfs")
    (place / "rootfs/null").write_text("the image's")
    (other / "rootfs").symlink_to("/dev")
    container.config["root"]["path"] = "place/rootfs"
    container.linux["maskedPaths"] = ["/proc/keys"]
    swap = Swap(place, other)
    thread = threading.Thread(target=swap.forever)
    thread.start()
    ran = 0
    try:
        for _ in range(4 * ROUNDS):
            done = container.run("stat -c %t:%T /proc/keys")
            ran += done.returncode == 0
            assert done.stdout in (b"1:3\n", b""), done.stdout
            container.delete("--force")
    finally:
        swap.over.set()
        thread.join()
    assert ran


def test_root_may_lie_where_the_containers_root_cannot_go(container: Container) -> None:
    """And its sources, too: they were opened before."""
    source = container.folder / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    for path in (source, container.rootfs):
        path.chmod(0o755)
    container.folder.chmod(0o700)
    ids = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.namespace("user")
    (container.rootfs / "mnt").mkdir()
    container.mount("/mnt", "bind", str(source), "rbind")
    assert container.output("cat /mnt/file; ls -d /bin") == "content\n/bin\n"


def test_cve_2025_52565_console_is_laid_over_no_link(container: Container) -> None:
    """/dev/console of an image may be a link to a file of the kernel."""
    container.config["mounts"] = [
        m for m in container.config["mounts"] if m["destination"] != "/dev"
    ]
    (container.rootfs / "dev/pts").mkdir()
    (container.rootfs / "dev/console").symlink_to("/proc/sys/kernel/core_pattern")
    container.process["terminal"] = True
    container.script(
        "stat -c kind=%F /proc/sys/kernel/core_pattern /dev/console; grep -c core_pattern /proc/self/mountinfo; echo end; sleep 1000"
    )
    console = ConsoleSocket(container.runtime.folder)
    try:
        done = container.create("--console-socket", console.path)
        assert done.returncode == 0, done.stderr
        console.receive()
        container.start()
        text = console.read_until(b"end")
    finally:
        console.close()
    lines = text.decode().split("\r\n")
    assert lines[:3] == ["kind=regular empty file", "kind=character special file", "0"], lines


def test_cve_2025_52881_settings_go_to_the_kernel(container: Container) -> None:
    """A mount that stands in for files of /proc/sys takes no setting in."""
    fake = container.folder / "fake"
    (fake / "ipv4").mkdir(parents=True)
    (fake / "ipv4/ip_forward").symlink_to("/proc/sysrq-trigger")
    (container.rootfs / "way").symlink_to("/proc/sys/net")
    container.mount("/way", "bind", str(fake), "bind")
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    container.idle()
    pid = container.pid
    mounted = pathlib.Path(f"/proc/{pid}/mountinfo").read_text()
    assert " /proc/sys/net " in mounted  # the trap is set
    assert os.readlink(f"/proc/{pid}/root/proc/sys/net/ipv4/ip_forward") == "/proc/sysrq-trigger"
    seen = pathlib.Path(f"/proc/{pid}/root/proc/1/net/snmp").read_text()
    assert "Ip: 1 " in seen  # forwarding is on in the container's network


def test_processes_of_the_runtime_cannot_be_traced(container: Container) -> None:
    """A process that joins is not dumpable: who runs in the container cannot look into it."""
    container.script(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *)"
        " [ -e $p/stat ] && echo $p >> /tmp/found; cat $p/environ >> /tmp/seen; ls -l $p/fd >> /tmp/seen;; esac; done; done 2>/dev/null"
    )
    container.started()
    for _ in range(ROUNDS):
        container.call(
            "exec", container.id, "/bin/true", env={**os.environ, "SECRET": "of-the-host"}
        )
    assert (container.rootfs / "tmp/found").exists(), "no process of the runtime was caught"
    seen = container.rootfs / "tmp/seen"
    text = seen.read_text() if seen.exists() else ""
    assert "of-the-host" not in text
    links = [line.split()[-3:] for line in text.splitlines() if " -> " in line]
    assert {number for number, _, target in links if target.startswith("/tmp/viscum")} <= {
        "0",
        "1",
        "2",
    }


def test_state_of_the_host_is_not_shown(container: Container) -> None:
    container.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    text = container.output("cat /proc/self/mountinfo; ls -R /sys/fs/cgroup | head -50")
    assert "cgroup" in text
    assert str(container.runtime.root) not in text


@pytest.mark.skipif(not is_release(os.uname().release, 6, 15), reason="needs Linux 6.15")
def test_container_without_a_mount_namespace_mounts_nothing_on_the_host(
    container: Container,
) -> None:
    container.without_namespace("mount")
    container.linux["maskedPaths"] = ["/proc/uptime"]
    container.linux["readonlyPaths"] = ["/mnt/sealed"]
    container.mount("/mnt", "tmpfs", "tmpfs")
    container.mount("/mnt/sealed", "tmpfs", "tmpfs")
    container.mount("/host", "bind", str(container.folder), "rbind", "ro")
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    container.idle()
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before
    script = (
        "readlink /proc/self/ns/mnt; ls / | wc -l; cat /host/config.json | wc -c; "
        "touch /mnt/x && echo made; touch /host/x || echo kept; wc -c < /proc/uptime; "
        "touch /mnt/sealed/x || echo sealed"
    )
    done = container.exec("/bin/sh", "-c", script)
    names = {"bin", "dev", "etc", "proc", "sys", "tmp", "var", "mnt", "host"}
    size = (container.folder / "config.json").stat().st_size
    own = os.readlink("/proc/self/ns/mnt")
    wanted = [own, str(len(names)), str(size), "made", "kept", "0", "sealed"]
    assert done.stdout.decode().split() == wanted, done.stderr
    assert {each.name for each in container.rootfs.iterdir()} == names
    assert not any((container.rootfs / "mnt").iterdir())


@pytest.mark.skipif(not is_release(os.uname().release, 6, 15), reason="needs Linux 6.15")
@pytest.mark.parametrize("capability", ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"])
def test_one_capability_is_no_way_out_without_a_mount_namespace(
    container: Container, capability: str
) -> None:
    """The two together are: whoever enters a mount namespace stands at its root."""
    container.without_namespace("mount")
    for kind in ("bounding", "effective", "permitted"):
        container.process["capabilities"][kind] = [capability]
    text = container.output("nsenter --mount=/proc/self/ns/mnt ls -d /boot /usr 2>&1; ls /")
    assert "not permitted" in text
    assert "/usr" not in text


def test_user_namespace_needs_a_mount_namespace(container: Container) -> None:
    ids = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.namespace("user")
    container.without_namespace("mount")
    container.refused("mount namespace")
