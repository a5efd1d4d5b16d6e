"""`checkpoint`: save a running container with CRIU."""

from __future__ import annotations

import os
import re

from ..errors import HostError, MachineError, SpecError
from .criu import DUMP, PRE_DUMP, Session, find, message, pair
from .document import dump
from .store import open_stored
from .words import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .criu import Field
    from .main import Call
    from .store import Stored

__all__ = ["EXTERNAL", "MOUNTS_FILE", "folders", "main", "shared_options"]

MOUNTS_FILE = "viscum.json"
"""What CRIU does not keep: which mounts and streams come from outside."""

EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
"""Namespaces that CRIU takes from outside: what it calls them, and what we do."""

CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
FLAGS = "ext-unix-sk tcp-established shell-job file-locks auto-dedup lazy-pages".split()
EMPTY_NAMESPACES = {"network": 0x40000000}


def _escaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


class Mount:
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line: str) -> None:
        head, _, tail = line.partition(" - ")
        words = head.split()
        self.number = words[0]
        self.device = words[2]
        self.root, self.target = _escaped(words[3]), _escaped(words[4])
        self.kind = tail.split()[0]


def mounts_of(pid: int | str) -> list[Mount]:
    """Return the mounts that a process sees."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [Mount(line) for line in file]


def external_mounts(stored: Stored) -> list[dict[str, str]]:
    """Return the mounts that show what is the host's: file systems that it sees too, but for parts
    of the container's own root.
    """
    mounts, outside = mounts_of(stored.pid), mounts_of("self")
    points = {mount.device: mount.target for mount in outside}
    top = next(mount for mount in mounts if mount.target == "/")
    found = []
    for mount in mounts:
        inside = mount.root == top.root or mount.root.startswith(top.root.rstrip("/") + "/")
        if mount is top or mount.device not in points or (mount.device == top.device and inside):
            continue
        each = {"target": mount.target, "type": mount.kind}
        if mount.kind in ("cgroup", "cgroup2"):
            point = next(o for o in outside if o.device == mount.device)
            below = os.path.relpath(mount.root, point.root).strip("./")
            each["point"] = point.target
            is_own = f"{point.target}/{below}" in stored.cgroups
            each["below"] = "" if is_own else below or "."
        found.append(each)
    return found


def streams_of(pid: int) -> list[str]:
    """Return how CRIU calls the standard streams of a process, where they come from outside."""
    inside = {mount.number for mount in mounts_of(pid)}
    names = []
    for number in range(3):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{number}")
            with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
                info = dict(line.split(":", 1) for line in file if ":" in line)
            inode = os.stat(f"/proc/{pid}/fd/{number}").st_ino
        except OSError:
            target, info, inode = "", {}, 0
        mount = info.get("mnt_id", "").strip()
        if target.startswith("pipe:"):
            names.append(target)
        elif target.startswith("/") and mount and mount not in inside:
            names.append(f"file[{int(mount):x}:{inode:x}]")
        else:
            names.append("")
    return names


def folders(call: Call, *, make: bool) -> tuple[str, str]:
    """Return the folders of the images and of CRIU's own files."""
    given = call.given
    images = os.path.abspath(given.text("image-path") or "checkpoint")
    work = os.path.abspath(given.text("work-path") or images)
    for path in (images, work):
        try:
            if make:
                os.makedirs(path, 0o700, exist_ok=True)
            os.listdir(path)
        except OSError as error:
            raise SpecError(f"{path!r}: {(error.strerror or '').lower()}") from None
    return images, work


def shared_options(call: Call, opened: list[int], log: str) -> list[tuple[str, Field]]:
    """Return the options that both verbs give to CRIU, with its folders; raises SpecError."""
    given = call.given
    options: list[tuple[str, Field]] = [
        ("images_dir_fd", opened[0]),
        ("work_dir_fd", opened[1]),
        ("log_level", 4),
        ("log_file", log),
        ("evasive_devices", 1),
    ]
    options += [(flag.replace("-", "_"), 1) for flag in FLAGS if given.on(flag)]
    mode = given.text("manage-cgroups-mode") or "ignore"
    if mode not in CGROUP_MODES:
        raise SpecError(
            f"manage-cgroups-mode {mode!r} is unknown", hint=f"one of {', '.join(CGROUP_MODES)}"
        )
    if CGROUP_MODES[mode]:
        options.append(("manage_cgroups", 1))
    options.append(("manage_cgroups_mode", CGROUP_MODES[mode]))
    empty = 0
    for name in given.many("empty-ns"):
        if name not in EMPTY_NAMESPACES:
            raise SpecError(f"empty-ns {name!r} is not supported", hint="network is")
        empty |= EMPTY_NAMESPACES[name]
    if empty:
        options.append(("empty_ns", empty))
    return options


def _page_server(text: str) -> list[tuple[str, Field]]:
    if not text:
        return []
    address, mark, port = text.rpartition(":")
    if not mark or not is_number(port) or not 0 < int(port) < 65536:
        raise SpecError(f"page-server {text!r} is no address", hint="ADDRESS:PORT")
    return [("ps", message((1, address.strip("[]")), (2, int(port))))]


def _status(text: str) -> list[tuple[str, Field]]:
    if not text:
        return []
    if not is_number(text) or not os.path.exists(f"/proc/self/fd/{text}"):
        raise SpecError(f"status-fd {text!r} is not open")
    return [("status_fd", int(text))]


def _options(call: Call, stored: Stored, found: list[dict[str, str]]) -> list[tuple[str, Field]]:
    given = call.given
    options: list[tuple[str, Field]] = [
        ("pid", stored.pid),
        ("root", "/"),
        ("orphan_pts_master", 1),
    ]
    if given.on("leave-running"):
        options.append(("leave_running", 1))
    options += _page_server(given.text("page-server")) + _status(given.text("status-fd"))
    if given.text("parent-path"):
        options.append(("parent_img", given.text("parent-path")))
    if given.on("pre-dump") or given.text("parent-path"):
        options.append(("track_mem", 1))
    for flag in ("tcp-skip-in-flight", "link-remap"):
        if given.on(flag):
            options.append((flag.replace("-", "_"), 1))
    options += [("ext_mnt", pair(each["target"], each["target"])) for each in found]
    for space in stored.config().get("linux", {}).get("namespaces", []):
        if space.get("path") and space["type"] in EXTERNAL:
            kind, name = EXTERNAL[space["type"]]
            inode = os.stat(f"/proc/{stored.pid}/ns/{kind}").st_ino
            options.append(("external", f"{kind}[{inode}]:{name}"))
    streams = streams_of(stored.pid)
    options += [("external", name) for name in dict.fromkeys(streams) if name.startswith("file")]
    if stored.fields.get("freezer"):
        options.append(("freeze_cgroup", os.path.dirname(stored.fields["freezer"])))
    return options


def _save(call: Call, stored: Stored, criu: str) -> None:
    import socket
    import subprocess

    images, work = folders(call, make=True)
    kind = PRE_DUMP if call.given.on("pre-dump") else DUMP
    log = "pre-dump.log" if kind == PRE_DUMP else "dump.log"
    found = external_mounts(stored)
    kept = {"mounts": found, "streams": streams_of(stored.pid)}
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    opened = [os.open(path, flags) for path in (images, work)]
    options = [*shared_options(call, opened, log), *_options(call, stored, found)]
    if kind == DUMP:
        with open(f"{images}/{MOUNTS_FILE}", "w", encoding="utf-8") as file:
            file.write(dump(kept) + "\n")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = theirs.fileno()
    passed = [number, *opened]
    if call.given.text("status-fd"):
        passed.append(int(call.given.text("status-fd")))
    try:
        process = subprocess.Popen([criu, "swrk", str(number)], pass_fds=passed)
    except OSError as error:
        raise HostError(f"{criu}: {(error.strerror or '').lower()}") from None
    theirs.close()
    try:
        Session(ours, f"{work}/{log}").ask(kind, options)
    finally:
        ours.close()
        process.wait()


def main(call: Call) -> int:
    """Save a container, and end it unless it is to go on."""
    stored = open_stored(call.root, call.words[0])
    if stored.status() not in ("running", "paused"):
        raise MachineError(f"container not running: {stored.id} cannot be saved")
    _save(call, stored, find(call.criu))
    if call.given.on("leave-running") or call.given.on("pre-dump"):
        return 0
    import subprocess

    words = [f"{call.bin}/viscum-oci", "--root", call.root, "delete", "--force", stored.id]
    return subprocess.run(words, check=False).returncode
