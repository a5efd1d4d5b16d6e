"""What a test needs of its host. `@needs("root")` skips with what is missing.

Under CI a skip is a failure, unless VISCUM_MISSING names what that host is known to lack.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import pwd
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from viscum import host

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_RANGE = 65536
JUDGES = os.path.join(os.path.dirname(__file__), "..", ".venv", "judges", "node_modules")
"""Libraries of JavaScript that tools/judges installed."""
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


def needs(*names: str) -> pytest.MarkDecorator:
    """Mark a test with what it needs; see CHECKS for the names."""
    unknown = set(names) - set(CHECKS)
    if unknown:
        raise ValueError(f"needs({min(unknown)!r}) is unknown")
    return pytest.mark.needs(*names)


def enforce(item: pytest.Item) -> None:
    """Skip a test whose needs are not met; fail it where that was not expected."""
    lacking = [
        (name, reason)
        for mark in item.iter_markers("needs")
        for name in mark.args
        if (reason := missing(name))
    ]
    if not lacking:
        return
    text = ", ".join(f"{name} ({reason})" for name, reason in lacking)
    expected = set(os.environ.get("VISCUM_MISSING", "").split())
    if os.environ.get("CI") == "true" and not {name for name, _ in lacking} <= expected:
        pytest.fail(f"unexpected skip, this host lacks {text}", pytrace=False)
    pytest.skip(f"needs {text}")


@functools.cache
def missing(name: str) -> str:
    """Return why this host lacks what is called `name`, or an empty string."""
    return CHECKS[name]()


def _root() -> str:
    probed = host.probe()
    return "" if probed.capable and probed.full_identity else "not run as root of the host"


def _user_namespaces() -> str:
    return "" if host.probe().user_namespaces else "user.max_user_namespaces is 0"


def users_with_ranges() -> list[pwd.struct_passwd]:
    """Return the ordinary users that have subordinate ids of both kinds."""
    owners = []
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            with open(file, encoding="utf-8") as lines:
                rows = [line.strip().split(":") for line in lines]
        except OSError:
            rows = []
        wide = (row for row in rows if len(row) == 3 and row[2].isdigit())
        owners.append({row[0] for row in wide if int(row[2]) >= MIN_RANGE})
    return [
        user
        for user in pwd.getpwall()
        if user.pw_uid and {user.pw_name, str(user.pw_uid)} & owners[0] & owners[1]
    ]


def _subordinate_ids() -> str:
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return "no newuidmap: apt-get install uidmap"
    if os.geteuid():
        return "" if host.probe().subordinate else "none for this user in /etc/subuid"
    return _root()


def _one_id() -> str:
    if os.geteuid() and host.probe().subordinate:
        return "this user has subordinate ids"
    return _root() if not os.geteuid() else ""


def _controller(name: str) -> Callable[[], str]:
    def check() -> str:
        cgroups = host.probe().cgroups
        if name in dict(cgroups.v1) or (cgroups.v2 and name in cgroups.v2_controllers):
            return ""
        return f"no {name} controller to make groups in"

    return check


def _erofs() -> str:
    if host.probe().kernel < (6, 15):
        return "EROFS is mounted from files since Linux 6.12, and cloned unattached since 6.15"
    with open("/proc/filesystems", encoding="ascii") as file:
        return "" if "\terofs\n" in file.read() else "the kernel has no EROFS"


def _ipv6() -> str:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        return f"no IPv6 on loopback: {error.strerror}"
    return ""


def _io() -> str:
    cgroups = host.probe().cgroups
    if "blkio" in dict(cgroups.v1) or "io" in cgroups.v2_controllers:
        return ""
    return "no blkio or io controller to make groups in"


def _quick_interpreter() -> str:
    folder = os.path.dirname(host.__file__)
    if os.path.exists(f"{folder}/bin/viscum-oci-compile"):
        return ""
    return "the Python that built this has no static library"


def _disks() -> str:
    absent = [name for name in ("losetup", "mke2fs", "mount") if not shutil.which(name, path=SBIN)]
    if absent:
        return f"no {absent[0]}: apt-get install mount e2fsprogs"
    return "" if os.path.exists("/dev/loop-control") else "no loop devices"


def _bfq() -> str:
    """Weights of I/O by device need a scheduler that knows weights, on the disk of /usr."""
    number = os.stat("/usr").st_dev
    path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/queue/scheduler"
    try:
        with open(path, encoding="ascii") as file:
            return "" if "[bfq]" in file.read() else "the disk of /usr is not scheduled by bfq"
    except OSError:
        return "/usr is on no disk of its own"


def _group_v1() -> str:
    return "" if host.probe().cgroups.v1 else "no cgroup v1 controller to make groups in"


def _group_v2() -> str:
    return "" if host.probe().cgroups.v2 else "no cgroup v2 group to make groups in"


def _swap_limit() -> str:
    cgroups = host.probe().cgroups
    folder = dict(cgroups.v1).get("memory")
    if folder:
        present = os.path.exists(f"{folder}/memory.memsw.limit_in_bytes")
        return "" if present else "no memory.memsw: swapaccount=1"
    return "" if "memory" in cgroups.v2_controllers else "no memory controller"


def _freezer() -> str:
    cgroups = host.probe().cgroups
    return "" if cgroups.v2 or "freezer" in dict(cgroups.v1) else "no cgroup that freezes"


def _program(*names: str) -> Callable[[], str]:
    def check() -> str:
        absent = [name for name in names if not shutil.which(name)]
        return f"no {absent[0]}" if absent else ""

    return check


def _skopeo_sigstore() -> str:
    path = shutil.which("skopeo")
    if not path:
        return "no skopeo"
    with open(path, "rb") as file:
        return "skopeo was built without sigstore" if b"sigstore disabled" in file.read() else ""


def _landlock() -> str:
    return "" if host.probe().landlock_scopes else "Landlock is older than ABI 6"


def _tun_for_users() -> str:
    try:
        return "" if os.stat("/dev/net/tun").st_mode & 0o6 == 0o6 else "/dev/net/tun is root's"
    except OSError:
        return "no /dev/net/tun"


def _x86_64() -> str:
    return "" if platform.machine() == "x86_64" else f"this is {platform.machine()}"


def _static_busybox() -> str:
    """Whether there is a busybox that runs in a root of its own."""
    path = "/bin/busybox"
    if not os.access(path, os.X_OK):
        return "no /bin/busybox"
    with open(path, "rb") as file:
        return "busybox is not static" if b"ld-linux" in file.read(1 << 20) else ""


def _apparmor() -> str:
    if not os.path.isdir("/sys/kernel/security/apparmor"):
        return "AppArmor is not enabled"
    path = shutil.which("apparmor_parser", path=SBIN)
    return "" if path else "no apparmor_parser: apt-get install apparmor"


def _selinux() -> str:
    """SELinux with no policy yet, or with that of these tests: nobody else's is replaced."""
    try:
        with open("/proc/self/attr/current", encoding="ascii") as file:
            label = file.read()
    except OSError:
        return "SELinux is not enabled"
    if not label.startswith(("kernel", "viscum_u:")):
        return "no SELinux without a policy of the host's"
    return _program("secilc")()


def _criu(*words: str) -> str:
    path = shutil.which(os.environ.get("VISCUM_CRIU", "criu"), path=f"{SBIN}:/usr/local/sbin")
    if not path:
        return "no criu"
    done = subprocess.run([path, "check", *words], capture_output=True, check=False, timeout=60)
    said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return f"criu check: {said}" if done.returncode else ""


def _systemd() -> str:
    absent = [
        path for path in ("/lib/systemd/systemd", "/bin/systemctl") if not os.path.exists(path)
    ]
    if absent:
        return f"no {absent[0]}: apt-get install systemd"
    if importlib.util.find_spec("jeepney") is None:
        return "no jeepney: pip install jeepney"
    return "" if shutil.which("unshare") else "no unshare"


def _time_on_exec() -> str:
    major, minor = (int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return "" if (major, minor) >= (6, 2) else "execve enters no new time namespace"


def _python() -> str:
    return "" if os.access("/usr/bin/python3", os.X_OK) else "no /usr/bin/python3"


def _link_shaping() -> str:
    lacking = _program("ip", "tc", "nsenter", "unshare")()
    if lacking or os.geteuid():
        return lacking or "not root"
    script = (
        "ip link add ifb0 type ifb && tc qdisc add dev ifb0 root tbf rate 1mbit burst 9k limit 9k"
    )
    words = ["unshare", "--net", "sh", "-c", script]
    done = subprocess.run(words, capture_output=True, check=False)
    return done.stderr.decode().strip() and "no ifb or no tbf in this kernel"


def _sigstore_js() -> str:
    if not shutil.which("node"):
        return "no node"
    there = os.path.isdir(os.path.join(JUDGES, "@sigstore", "verify"))
    return "" if there else "no @sigstore/verify: make setup, with npm"


CHECKS: dict[str, Callable[[], str]] = {
    "ipv6": _ipv6,
    "quick-interpreter": _quick_interpreter,
    "root": _root,
    "userns": _user_namespaces,
    "subuid": _subordinate_ids,
    "one-id": _one_id,
    "cgroup-v1": _group_v1,
    "cgroup-v2": _group_v2,
    "cpu": _controller("cpu"),
    "memory": _controller("memory"),
    "pids": _controller("pids"),
    "cpuset": _controller("cpuset"),
    "io": _io,
    "bfq": _bfq,
    "disks": _disks,
    "memory-swap": _swap_limit,
    "freezer": _freezer,
    "landlock": _landlock,
    "pasta": _program("pasta"),
    "link-shaping": _link_shaping,
    "tun-for-users": _tun_for_users,
    "compiler": _program("gcc"),
    "erofs": _erofs,
    "image-tools": _program("docker-registry", "skopeo", "umoci", "bsdtar", "busybox", "openssl"),
    "builders": _program("buildah", "podman", "htpasswd"),
    "busybox": _static_busybox,
    "podman": _program("podman", "conmon"),
    "buildah": _program("buildah"),
    "containerd": _program("containerd", "ctr"),
    "go": _program("go"),
    "runc": _program("runc"),
    "crun": _program("crun"),
    "criu": _criu,
    "criu-memory": functools.partial(_criu, "--feature", "mem_dirty_track"),
    "gpg": _program("gpg", "gpgconf"),
    "notary": _program("notary", "notary-server", "notary-signer"),
    "registry": _program("docker-registry"),
    "apparmor": _apparmor,
    "selinux": _selinux,
    "skopeo": _program("skopeo"),
    "skopeo-sigstore": _skopeo_sigstore,
    "sigstore-js": _sigstore_js,
    "namespace-tools": _program("unshare", "setpriv", "mount", "prlimit"),
    "bash": _program("bash"),
    "zsh": _program("zsh"),
    "fish": _program("fish"),
    "systemd": _systemd,
    "systemd-analyze": _program("systemd-analyze"),
    "time-on-exec": _time_on_exec,
    "python": _python,
    "x86_64": _x86_64,
}
