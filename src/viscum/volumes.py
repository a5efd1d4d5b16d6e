"""Named volumes: folders that outlive machines, found by their names.

`<data>/volumes/<name>/` has `volume.json`, `data` (what machines see) and, until a machine has
used it, `fresh`. A volume appears whole, by rename, and goes the same way: renamed first, emptied
then. Who uses one holds a shared lock on its folder; who removes it needs the exclusive one.
"""

from __future__ import annotations

import fcntl
import os
import time

from . import disks
from .compact_json import dumps, loads
from .errors import SpecError, ViscumError
from .frozen import Frozen
from .limits import NAME_CHARACTERS
from .places import data_folder, make_folder, volumes_folder
from .spec import MAX_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .spec import Mount

__all__ = [
    "Volume",
    "check_volume_name",
    "create",
    "find",
    "hold",
    "names",
    "path_of",
    "prepare",
    "remove",
    "remove_anonymous",
    "sweep",
]

VERSION = 1
NEW, GONE = ".new-", ".gone-"
PATIENCE_SECONDS = 10
DYING_SECONDS = 1.0
RANDOM_DIGITS = 64
MAX_RECORD = 1 << 20


class Volume(Frozen):
    """A named volume: `folder` is what machines see, `created` in seconds since 1970."""

    name: str
    folder: str
    created: float
    labels: Mapping[str, str]
    anonymous: bool = False
    """Made because a machine was to have one without a name; it goes with the machine."""


def check_volume_name(name: str) -> str:
    """Return `name` if it can name a volume; raises SpecError otherwise."""
    if not name or len(name) > MAX_NAME or name[0] in "-._" or not NAME_CHARACTERS.issuperset(name):
        raise SpecError(
            f"volume name {name!r} is not usable",
            hint="letters, digits, _ . - and a letter or digit first; ./NAME is a folder here",
        )
    return name


def _base() -> str:
    return volumes_folder()


def _make_base() -> str:
    """Return the folder of all volumes, made where it is missing."""
    make_folder(data_folder(), "volumes", hint="make it writable, or set VISCUM_DATA")
    return _base()


def path_of(name: str) -> str:
    """Return the path of what machines see of a volume, there or not."""
    return os.path.join(_base(), check_volume_name(name), "data")


def names() -> list[str]:
    """Return the name of every volume, sorted."""
    try:
        return sorted(name for name in os.listdir(_base()) if name[0] != ".")
    except FileNotFoundError:
        return []


def _load(name: str) -> Volume:
    """Read a volume; a record that is damaged is as good as none."""
    home = os.path.join(_base(), name)
    created, labels, anonymous = os.stat(home).st_mtime, {}, False
    try:
        with open(home + "/volume.json", "rb") as file:
            record = loads(file.read(MAX_RECORD))
        created, anonymous = float(record["created"]), record.get("anonymous") is True
        labels = {str(key): str(value) for key, value in record["labels"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return Volume(name, home + "/data", created, labels, anonymous)


def find(name: str) -> Volume:
    """Return the volume called `name`; raises ViscumError where there is none."""
    try:
        return _load(check_volume_name(name))
    except FileNotFoundError:
        raise ViscumError(f"there is no volume {name!r}", hint="viscum volume ls") from None


def create(
    name: str,
    labels: Mapping[str, str] | None = None,
    *,
    anonymous: bool = False,
    size: int | None = None,
) -> Volume:
    """Make a volume, with a `size` in bytes on a disk of its own (root only).

    Raises ViscumError where one has that name already.
    """
    name = check_volume_name(name)
    target = os.path.join(_make_base(), name)
    folder = os.path.join(_base(), f"{NEW}{os.getpid():x}-{time.monotonic_ns():x}")
    made = Volume(name, target + "/data", time.time(), dict(labels or {}), anonymous)
    record = {
        "version": VERSION,
        "name": name,
        "created": made.created,
        "labels": made.labels,
        "anonymous": anonymous,
    }
    try:
        os.mkdir(folder, 0o700)
        lock = _lock(folder, fcntl.LOCK_EX)
        try:
            os.mkdir(folder + "/data", 0o755)
            os.chmod(folder + "/data", 0o755)  # noqa: S103 - whatever the umask; nobody else reaches it
            for file, text in (("volume.json", dumps(record)), ("fresh", "")):
                with open(f"{folder}/{file}", "x", encoding="utf-8") as stream:
                    stream.write(text)
            if size is not None:
                disks.make(folder, size)
            os.rename(folder, target)
        except BaseException:
            _empty(folder)
            raise
        finally:
            os.close(lock)
    except OSError as error:
        if os.path.lexists(target):
            hint = "viscum volume rm it first, or choose another name"
            raise ViscumError(f"a volume named {name!r} exists already", hint=hint) from None
        reason = (error.strerror or "").lower()
        raise ViscumError(f"cannot make volume {name!r}: {reason}") from None
    return made


# Use.


def _lock(folder: str, kind: int) -> int:
    """Return a descriptor that holds a lock on `folder`; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind)
    except BaseException:
        os.close(fd)
        raise
    return fd


def hold(name: str) -> int:
    """Make a volume where it is missing; return a descriptor that keeps it from being removed."""
    home = os.path.join(_base(), check_volume_name(name))
    for _ in range(100):
        try:
            fd = _lock(home, fcntl.LOCK_SH)
        except FileNotFoundError:
            try:
                create(name, anonymous=_is_random(name))
            except ViscumError:
                if not os.path.isdir(home):
                    raise
            continue
        try:
            if os.path.samestat(os.fstat(fd), os.stat(home)):
                _mount(home)
                return fd
        except FileNotFoundError:
            pass  # it was removed while we waited
        os.close(fd)
    raise ViscumError(f"volume {name!r} is made and removed all the time", hint="try again")


def _mount(home: str) -> None:
    """Mount the volume's own disk, if it has one that is not mounted yet."""
    folder = home + "/data"
    if not os.path.exists(f"{home}/{disks.IMAGE}") or disks.is_mounted(folder):
        return
    lock = _lock(folder, fcntl.LOCK_EX)  # on what it is mounted over: others wait for it here
    try:
        if not disks.is_mounted(folder):
            disks.mount(home, folder)
    finally:
        os.close(lock)


def _is_random(name: str) -> bool:
    """Whether a name is one of those that volumes without a name get."""
    return len(name) == RANDOM_DIGITS and not set(name) - set("0123456789abcdef")


def _settle(fd: int, uid: int, gid: int) -> None:
    """Let the first machine's user own a fresh volume.

    Ids on volumes are mapped for root, so its machines' ids are those on the disk. An ordinary
    user's are not: only the machine's root is that user, and others get what /tmp gives them.
    """
    try:
        os.unlink("fresh", dir_fd=fd)
    except FileNotFoundError:
        return
    if not (uid or gid):
        return
    try:
        os.chown("data", uid, gid, dir_fd=fd, follow_symlinks=False)
    except PermissionError:
        os.chmod("data", 0o1777, dir_fd=fd)  # noqa: S103 - only machines reach it


def prepare(mounts: Iterable[Mount], identity: tuple[int, int]) -> list[int]:
    """Make the volumes among `mounts` ready for a machine whose user is `identity`.

    Return descriptors: while they are open nobody removes the volumes.
    """
    held: list[int] = []
    try:
        for name in dict.fromkeys(mount.volume for mount in mounts if mount.volume):
            held.append(hold(name))
            _settle(held[-1], *identity)
    except BaseException:
        for fd in held:
            os.close(fd)
        raise
    return held


# The end.


def _lock_alone(folder: str) -> int:
    """Return a descriptor that holds a folder for nobody else, soon; raises OSError.

    Of a command that was killed while it launched, the half-made machine has the command's
    descriptors and dies after it: whoever reaped the command may be here before that.
    """
    until = time.monotonic() + DYING_SECONDS
    while True:
        try:
            return _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(DYING_SECONDS / 50)


def _empty(folder: str) -> None:
    """Remove a folder and what is in it, following no link; raises OSError."""
    from .folders import remove_tree

    remove_tree(folder)


def remove(
    name: str,
    users: Callable[[str], list[str]],
    wipe: Callable[[str], None] | None = None,
) -> None:
    """Remove a volume that nothing uses; raises ViscumError.

    `users` returns the machines that use a volume, and is asked while nobody else can begin to.
    `wipe` removes a folder, also where files in it belong to ids that this user may not touch.
    """
    home = find(name).folder.removesuffix("/data")
    try:
        fd = _lock_alone(home)
    except BlockingIOError:
        hint = "end the machine that uses it first"
        raise ViscumError(f"volume {name!r} is in use", hint=hint) from None
    except FileNotFoundError:
        raise ViscumError(f"there is no volume {name!r}", hint="viscum volume ls") from None
    try:
        using = users(name)
        if using:
            text = ", ".join(using)
            hint = "viscum rm " + " ".join(using)
            raise ViscumError(f"volume {name!r} is used by {text}", hint=hint)
        if disks.is_mounted(home + "/data"):
            disks.unmount(home + "/data")
        gone = os.path.join(_base(), f"{GONE}{os.getpid():x}-{time.monotonic_ns():x}")
        try:
            os.rename(home, gone)
        except FileNotFoundError:
            raise ViscumError(f"there is no volume {name!r}", hint="viscum volume ls") from None
        (wipe or _empty)(gone)
    finally:
        os.close(fd)


def sweep(wipe: Callable[[str], None] | None = None) -> None:
    """Remove what commands that were killed left half made or half removed."""
    try:
        left = [name for name in os.listdir(_base()) if name.startswith((NEW, GONE))]
    except FileNotFoundError:
        return
    for name in left:
        folder = os.path.join(_base(), name)
        try:
            fd = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody works on it
        try:
            if name.startswith(NEW) and time.time() - os.fstat(fd).st_ctime < PATIENCE_SECONDS:
                continue  # just made, and not locked yet
            (wipe or _empty)(folder)
        except OSError:
            continue
        finally:
            os.close(fd)


def remove_anonymous(
    mounts: Iterable[Mount],
    users: Callable[[str], list[str]],
    wipe: Callable[[str], None] | None = None,
) -> None:
    """Remove the volumes without a name among `mounts`, which were a machine's, if nobody else
    has them.
    """
    for name in {mount.volume for mount in mounts if _is_random(mount.volume)}:
        try:
            if find(name).anonymous:
                remove(name, users, wipe)
        except ViscumError:
            continue  # somebody has it, or removed it
