"""Run the tests that are marked `v2` on a Debian kernel with nothing but cgroup v2, under QEMU,
and then those that are marked `selinux` on one that enforces a policy of SELinux.

The kernel comes from Debian's package, unpacked and never installed. The guest's root is the
host's, shared in read-only by virtiofsd, so the checkout and its environment are those of here.
Ends with pytest's exit code; with 125 where the guest did not come so far.
"""

from __future__ import annotations

import argparse
import glob
import gzip
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "v2"
KERNEL = os.environ.get("VISCUM_V2_KERNEL", "linux-image-cloud-amd64")
ACCELERATOR = os.environ.get("VISCUM_V2_ACCEL", "tcg,thread=multi")
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MODULES = (
    "virtio_pci virtio_blk virtiofs overlay loop veth tun bfq zram "
    "sch_tbf sch_htb sch_ingress act_police cls_u32 "
    "nf_tables unix_diag inet_diag tcp_diag udp_diag raw_diag af_packet_diag netlink_diag"
).split()
BOOTS = {"v2": "", "selinux": "security=selinux enforcing=1"}
"""The marks of the tests to run, with what the guest's kernel is told for them."""
MEMORY = "1536M"
SECONDS = 560
FAILED = 125


def run(*words: str, **options: object) -> str:
    """Run a program to its end and return what it printed."""
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options)
    return done.stdout


def kernel_package() -> str:
    """Return the name of the package with the kernel itself, which `KERNEL` depends on."""
    for line in run("apt-cache", "depends", KERNEL).splitlines():
        if "Depends: linux-image-" in line:
            return line.split(":", 1)[1].strip()
    return KERNEL


def unpacked_kernel() -> pathlib.Path:
    """Return the folder with the kernel's package unpacked, fetched where it is not there yet."""
    package = kernel_package()
    folder = BUILD / package
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        fetch = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
        if subprocess.run(fetch, cwd=work, check=False).returncode:
            run("apt-get", "update", "-qq")  # the lists name a kernel that was replaced
            run(*fetch, cwd=work)
        fresh = pathlib.Path(work) / "fresh"
        run("dpkg-deb", "-x", glob.glob(f"{work}/*.deb")[0], str(fresh))
        fresh.rename(folder)
    return folder


# The initramfs: the first process, and the modules in the order in which they must be loaded.


def needed(data: bytes) -> list[str]:
    """Return what a module says that it depends on."""
    start = data.find(b"\0depends=")
    text = data[start + 9 : data.index(b"\0", start + 1)] if start >= 0 else b""
    return [name for name in text.decode().split(",") if name]


def modules(kernel: pathlib.Path) -> dict[str, bytes]:
    """Return the modules that are needed by name, each after those it depends on."""
    known = {path.stem.replace("-", "_"): path for path in kernel.glob("**/kernel/**/*.ko")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in found or name not in known:
            return  # built in
        data = known[name].read_bytes()
        for other in needed(data):
            add(other)
        found[name] = data

    for name in MODULES:
        add(name)
    return found


def member(name: str, mode: int, data: bytes = b"") -> bytes:
    """Return one entry of a cpio archive (newc, as the kernel's initramfs documentation has it)."""
    path = name.encode() + b"\0"
    fields = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def initramfs(kernel: pathlib.Path, command: list[str]) -> pathlib.Path:
    """Make the initramfs and return its path."""
    init = BUILD / "init"
    headers = ["/usr/include", f"/usr/include/{os.uname().machine}-linux-gnu"]
    words = [shutil.which("musl-gcc") or "gcc", "-static", "-O2", "-s"]
    words += [word for folder in headers for word in ("-idirafter", folder)]
    run(*words, "-o", str(init), str(HERE / "init.c"))
    parts = [member("dev", 0o40755), member("modules", 0o40755)]
    parts.append(member("init", 0o100755, init.read_bytes()))
    found = modules(kernel)
    for name, data in found.items():
        parts.append(member(f"modules/{name}", 0o100644, data))
    order = "".join(f"/modules/{name}\n" for name in found).encode()
    data = b"".join(word.encode() + b"\0" for word in command)
    parts.append(member("command", 0o100644, data))
    parts += [member("modules/order", 0o100644, order), member("TRAILER!!!", 0)]
    path = BUILD / "initramfs"
    path.write_bytes(gzip.compress(b"".join(parts), 1))
    return path


# The guest.


def disk(name: str, megabytes: int, *, formatted: bool) -> str:
    """Make a disk for the guest and return its path."""
    path = BUILD / name
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    if formatted:
        run("/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", str(path))
    return str(path)


def share_root(path: str) -> subprocess.Popen[bytes]:
    """Start virtiofsd on the root as it is seen in a mount namespace of its own, read-only.

    It is given a socket that listens already: to make one it would have to write.
    """
    script = (
        'mount --make-rprivate / && mount -o remount,bind,ro / && exec "$0" '
        '--fd="$1" -o source=/ -o sandbox=chroot -o cache=always'
    )
    log = open(BUILD / "virtiofsd.log", "wb")
    with log, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        number = listening.fileno()
        words = ["unshare", "--mount", "sh", "-c", script, VIRTIOFSD, str(number)]
        return subprocess.Popen(words, stdout=log, stderr=log, pass_fds=[number])


def qemu_words(kernel: pathlib.Path, archive: pathlib.Path, path: str, more: str) -> list[str]:
    """Return the command line of the guest; `more` is for its kernel."""
    append = f"console=ttyS0 quiet loglevel=3 panic=-1 cgroup_no_v1=all psi=1 {more}"
    words = ["qemu-system-x86_64", "-M", "q35", "-accel", ACCELERATOR, "-cpu", "max", "-smp", "2"]
    words += ["-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    words += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"]
    words += [
        "-numa",
        "node,memdev=memory",
        "-kernel",
        glob.glob(f"{kernel}/boot/vmlinuz-*")[0],
        "-initrd",
        str(archive),
    ]
    words += ["-append", append, "-serial", "stdio", "-serial", f"file:{BUILD / 'status'}"]
    words += ["-chardev", f"socket,id=root,path={path}"]
    words += ["-device", "vhost-user-fs-pci,chardev=root,tag=root,queue-size=1024"]
    for number, image in enumerate(
        (disk("disk", 640, formatted=True), disk("swap", 128, formatted=False))
    ):
        words += ["-drive", f"if=none,id=d{number},file={image},format=raw,cache=writeback"]
        words += ["-device", f"virtio-blk-pci,drive=d{number}"]
    return words


def status() -> int:
    """Return the exit code that the guest reported."""
    words = (BUILD / "status").read_text(errors="replace").split()
    if len(words) == 2 and words[0] == "status":
        return int(words[1])
    print(
        f"test-v2: the guest did not get to the tests: {' '.join(words) or 'no status'}",
        file=sys.stderr,
    )
    return FAILED


def boot(command: list[str], seconds: float, more: str = "") -> int:
    """Boot a guest that runs `command` in the host's root; return the command's exit code."""
    kernel = unpacked_kernel()
    archive = initramfs(kernel, command)
    (BUILD / "status").write_text("")
    with tempfile.TemporaryDirectory(prefix="viscum-v2-") as folder:
        path = f"{folder}/root"
        server = share_root(path)
        try:
            words = qemu_words(kernel, archive, path, more)
            subprocess.run(words, check=True, timeout=seconds, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            print(f"test-v2: not done after {seconds:g} s", file=sys.stderr)
            return FAILED
        except subprocess.CalledProcessError as error:
            print(f"test-v2: QEMU ended with {error.returncode}", file=sys.stderr)
            return FAILED
        finally:
            server.terminate()
            server.wait()
    return status()


def marked_files(mark: str) -> list[str]:
    """Return the test files that have tests with that mark, so that the guest imports no others."""
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if f"mark.{mark}" in path.read_text(encoding="utf-8")
    ]


def main() -> int:
    """Run the tests, or another command, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take")
    parser.add_argument("--append", default="", help="more words for the guest's kernel")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="run this in the guest instead of the tests"
    )
    given = parser.parse_args()
    if os.geteuid():
        print(
            "test-v2: virtiofsd of Debian 12 shares files only for root: run it as root",
            file=sys.stderr,
        )
        return FAILED
    BUILD.mkdir(parents=True, exist_ok=True)
    inside = [str(HERE / "inside"), str(ROOT)]
    if given.command:
        return boot([*inside, *given.command], given.seconds, given.append)
    tests = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-m"]
    codes = [
        boot([*inside, *tests, mark, *marked_files(mark)], given.seconds, f"{words} {given.append}")
        for mark, words in BOOTS.items()
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
