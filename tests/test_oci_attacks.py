"""Known escapes from runtimes, each tried, and what a runtime must refuse."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

import viscum
from callers import script
from conformance.container import ConsoleSocket, Container, Runtime
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("root", "busybox")

RENAME_EXCHANGE = 2
ROUNDS = 25


@pytest.fixture
def container() -> Iterator[Container]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-attack-"))
    folder.chmod(0o755)
    runtime = Runtime(script("viscum-oci"), folder)
    yield runtime.container()
    runtime.close()
    shutil.rmtree(folder, ignore_errors=True)


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
    for _ in range(ROUNDS):
        container.exec("/proc/self/exe")
        container.exec("/bin/true")
    (container.rootfs / "tmp/hashbang").write_text("#!/proc/self/exe\n")
    (container.rootfs / "tmp/hashbang").chmod(0o755)
    container.exec("/tmp/hashbang")
    assert programs() == before
    seen = container.rootfs / "tmp/seen"
    shown = set(seen.read_text().split("\n")) if seen.exists() else set()
    assert all("memfd:" in line for line in shown - {"", "/bin/busybox"}), shown


def test_cve_2021_30465_swapped_folders_lead_nowhere_else(container: Container) -> None:
    """Mounts go into a volume in which a folder and a link change places all the time."""
    volume, outside = container.folder / "volume", container.folder / "outside"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("../../../../../../../../" + str(outside))
    outside.mkdir()
    source = container.folder / "source"
    source.mkdir()
    (source / "mark").write_text("")
    container.mount("/volume", "bind", str(volume), "bind")
    container.mount("/volume/a/target", "bind", str(source), "bind")
    libc = ctypes.CDLL(None, use_errno=True)
    over = threading.Event()
    names = str(volume / "a").encode(), str(volume / "b").encode()

    def swap() -> None:
        while not over.is_set():
            libc.renameat2(-100, names[0], -100, names[1], RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    try:
        for _ in range(ROUNDS):
            done = container.run("cat /proc/self/mountinfo")
            for line in done.stdout.decode().splitlines():
                assert str(source) not in line.split()[3] or line.split()[4].startswith("/")
            assert not list(outside.iterdir())
            container.delete("--force")
    finally:
        over.set()
        thread.join()
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before
    assert not list(outside.iterdir())


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
    assert (
        text.split(b"\r\n")[:3]
        == [b"kind=regular empty file", b"kind=character special file", b"0"]
        or b"kind=regular" in text
    )
    assert b"\r\n0\r\n" in text


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
    seen = pathlib.Path(f"/proc/{pid}/root/proc/1/net/snmp").read_text()
    assert "Ip: 1 " in seen  # forwarding is on in the container's network


def test_processes_of_the_runtime_cannot_be_traced(container: Container) -> None:
    """A process that joins is not dumpable: who runs in the container cannot look into it."""
    container.script(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) ;; *)"
        " cat $p/environ >> /tmp/seen; ls -l $p/fd >> /tmp/seen;; esac; done; done 2>/dev/null"
    )
    container.started()
    for _ in range(ROUNDS):
        container.call(
            "exec", container.id, "/bin/true", env={**os.environ, "SECRET": "of-the-host"}
        )
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
