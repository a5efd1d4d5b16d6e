"""Disks in files: an ext4 of its own for a volume, on a loop device that reads and writes directly.

What a machine writes to such a disk has a device, a journal and a writeback of its own. So limits
hold for buffered writes too where the kernel counts those for nobody (cgroups of version 1), and
one machine's writes do not wait in another's journal. Needs root, losetup, mke2fs and mount.
"""

from __future__ import annotations

import os

from .errors import HostError, ViscumError

__all__ = ["IMAGE", "is_mounted", "make", "mount", "owned_loop", "unbound", "unmount"]

IMAGE = "disk"
"""The name of the file, beside the folder that it is mounted on."""
LOOP_MAJOR = 7
MIN_SIZE = 4 << 20
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 60


def _run(*words: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={"PATH": PATH, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise HostError(
            f"disks need {words[0]}, which this host lacks",
            hint="apt-get install mount util-linux e2fsprogs",
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ViscumError(f"{words[0]}: {reason}", hint="disks need root and a free loop device")
    return done.stdout.strip()


def make(home: str, size: int) -> None:
    """Make a disk of `size` bytes in the folder `home`; raises ViscumError, HostError."""
    if os.geteuid():
        raise HostError("a disk of its own needs root", hint="leave --size out")
    if size < MIN_SIZE:
        raise ViscumError(f"a disk of {size} bytes is too small", hint="give at least 4M")
    path = f"{home}/{IMAGE}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise ViscumError(f"a disk of {size} bytes in {home!r}: {reason}") from None
    finally:
        os.close(fd)
    # Written in full now, for little work of the host's journal later; no reserved blocks.
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0", path)


def is_mounted(folder: str) -> bool:
    """Return whether something is mounted on `folder`."""
    try:
        return os.stat(folder).st_dev != os.stat(os.path.dirname(folder)).st_dev
    except OSError:
        return False


def mount(home: str, folder: str) -> None:
    """Mount the disk of `home` on `folder`; the device goes with the mount. Raises ViscumError."""
    device = _run("losetup", "--find", "--show", "--direct-io=on", f"{home}/{IMAGE}")
    try:
        _clear(device)
        _run("mount", "-t", "ext4", "-o", "nosuid,nodev", device, folder)
    finally:
        _run("losetup", "--detach", device)  # once nothing uses it any more


def _clear(device: str) -> None:
    """Take away bounds that the loop device's last user left."""
    from .host import probe

    is_ = os.stat(device)
    unbound(
        f"{os.major(is_.st_rdev)}:{os.minor(is_.st_rdev)}", dict(probe().cgroups.v1).get("blkio")
    )


def unbound(number: str, folder: str | None) -> None:
    """Take away what bounds buffered writes to a disk; `folder` is the root group's of blkio."""
    for word in ("write_bps", "write_iops") if folder else ():
        with open(f"{folder}/blkio.throttle.{word}_device", "w", encoding="ascii") as file:
            file.write(f"{number} 0")
    try:
        with open(f"/sys/class/bdi/{number}/strict_limit", "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        return  # Linux before 6.2


def unmount(folder: str) -> None:
    """Unmount the disk on `folder`, with the bounds that its device had; raises ViscumError."""
    _clear(f"/dev/loop{os.minor(os.stat(folder).st_dev)}")
    _run("umount", "--lazy", folder)  # loaded plans of this process may have it open


def owned_loop(number: str, base: str) -> bool:
    """Return whether the device `number` is the loop device of a disk below the folder `base`."""
    if not number.startswith(f"{LOOP_MAJOR}:"):
        return False
    try:
        with open(f"/sys/dev/block/{number}/loop/backing_file", encoding="utf-8") as file:
            path = file.read().strip()
    except OSError:
        return False
    return path.startswith(os.path.realpath(base) + "/") and os.path.basename(path) == IMAGE
