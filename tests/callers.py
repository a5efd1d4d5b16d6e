"""Who starts machines in these tests: root, a user with subordinate ids, a user without."""

from __future__ import annotations

import functools
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile

import pytest

import viscum
from needs import needs, users_with_ranges

PLAIN_ID = 60123
RANGED_ID = 60124
FIRST_SUBORDINATE = 700000
CALL_TIMEOUT = 60
TIMEOUT = 30

KINDS = (
    pytest.param("root", marks=needs("root")),
    pytest.param("subids", marks=needs("subuid", "userns", "namespace-tools")),
    pytest.param("one-id", marks=needs("one-id", "userns", "namespace-tools")),
)
ROOTLESS = KINDS[1:]

RUNNER = """
import pickle, sys, viscum
command, options = pickle.load(sys.stdin.buffer)
try:
    result = viscum.run(command, **options)
except Exception as error:
    result = error
sys.stdout.buffer.write(pickle.dumps(result))
"""


class Caller:
    """A user of the host who starts machines, in this process or in one of their own."""

    def __init__(self, kind: str, prefix: list[str], uid: int, home: str) -> None:
        self.kind = kind
        self.prefix = prefix
        self.uid = uid
        self.home = home

    @property
    def here(self) -> bool:
        """Whether this process is that user."""
        return not self.prefix

    def run(self, command: list[str], **options: object) -> viscum.Result:
        """Run a machine as `viscum.run` does; raises what it raises."""
        if self.here:
            return viscum.run(command, **options)
        done = self.python(RUNNER, input=pickle.dumps((command, options)))
        assert done.stdout, done.stderr.decode()
        result = pickle.loads(done.stdout)
        if isinstance(result, Exception):
            raise result
        return result

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` as this user."""
        return [*self.prefix, *words]

    def python_command(self, source: str, *words: str) -> list[str]:
        """Return the command line that runs Python source as this user."""
        return self.command(*python_words(self.here), "-c", source, *words)

    def environment(self) -> dict[str, str]:
        """Return the environment that this user's programs get."""
        own = {"HOME": self.home, "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}
        return own if self.here else {**own, "PYTHONPATH": package_folder()}

    def python(self, source: str, *words: str, **options: object) -> subprocess.CompletedProcess:
        """Run Python source as this user; its output is kept."""
        return self._call(self.python_command(source, *words), options)

    def viscum(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        """Run the `viscum` command as this user; its output is kept."""
        if self.here:
            return self._call([script("viscum"), *words], options)
        return self._call(self.command(*python_words(False), "-m", "viscum", *words), options)

    def _call(self, command: list[str], options: dict[str, object]) -> subprocess.CompletedProcess:
        settings = {"timeout": CALL_TIMEOUT, "env": self.environment(), "cwd": "/", **options}
        if "input" not in settings:
            settings.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(command, capture_output=True, check=False, **settings)


def sh(script: str, **options: object) -> viscum.Result:
    """Run a shell script in a machine of this process."""
    return viscum.run(["sh", "-c", script], **{"timeout": TIMEOUT, **options})


def output(script: str, **options: object) -> str:
    """Return what a shell script in a machine of this process printed; it has to succeed."""
    result = sh(script, **options)
    assert result.ok, (result.exit_code, result.verdict, result.stderr)
    return result.text.strip()


def script(name: str) -> str:
    """Return the path of an installed command."""
    return os.path.join(sysconfig.get_path("scripts"), name)


def installation(folder: pathlib.Path) -> str:
    """Copy the OCI runtime to where every user can reach it, and return its path."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    (folder / "bin").mkdir()
    site.mkdir(parents=True)
    shutil.copy(script("viscum-oci"), folder / "bin")
    for name in ("viscum", "jeepney"):
        there = pathlib.Path(sysconfig.get_path("purelib"), name)
        if there.exists():
            shutil.copytree(there, site / name)
    (folder / "bin/python3").symlink_to("/usr/bin/python3")
    return str(folder / "bin/viscum-oci")


@functools.cache
def make_caller(kind: str) -> Caller:
    """Return the caller of that kind; the test has checked that there can be one."""
    if kind == "root" or os.geteuid():
        return Caller(kind, [], os.geteuid(), os.path.expanduser("~"))
    if kind == "one-id":
        return Caller(kind, _become(PLAIN_ID, PLAIN_ID), PLAIN_ID, "/nonexistent")
    users = users_with_ranges()
    if users:
        user = users[0]
        return Caller(kind, _become(user.pw_uid, user.pw_gid), user.pw_uid, user.pw_dir)
    return Caller(
        kind, [*_with_ranges(), *_become(RANGED_ID, RANGED_ID)], RANGED_ID, "/nonexistent"
    )


def _become(uid: int, gid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all"]


def _with_ranges() -> list[str]:
    """Return a command that shows the rest of its words /etc files with a user who has ranges."""
    folder = shared_folder()
    rows = {"passwd": f"ranged:x:{RANGED_ID}:{RANGED_ID}::/nonexistent:/bin/sh\n"}
    for file in ("subuid", "subgid"):
        rows[file] = f"ranged:{FIRST_SUBORDINATE}:65536\n"
    binds = []
    for file, row in rows.items():
        there = pathlib.Path("/etc", file)
        if not there.exists():
            continue
        path = pathlib.Path(folder, file)
        path.write_text(there.read_text() + row)
        path.chmod(0o644)
        binds.append(f"mount --bind {path} {there}")
    text = " && ".join([*binds, 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", text, "sh"]


V1_ONLY = "umount /sys/fs/cgroup/unified 2>/dev/null; "
NO_GROUPS = "umount -l /sys/fs/cgroup; "


def in_mounts(script: str, command: list[str]) -> list[str]:
    """Return `command` in a mount namespace in which `script` has changed something."""
    text = f'{script} exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", text, "sh", *command]


_folders: list[str] = []


def shared_folder() -> str:
    """Return a new folder that every user may look into; it goes away with the session."""
    folder = tempfile.mkdtemp(prefix="viscum-test-")
    os.chmod(folder, 0o755)
    _folders.append(folder)
    return folder


def remove_folders() -> None:
    """Remove every shared folder."""
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)
    make_caller.cache_clear()


@functools.cache
def package_folder() -> str:
    """Return a folder with the installed package in it that ordinary users can read."""
    home = pathlib.Path(viscum.__file__).parent
    if _reachable(home):
        return str(home.parent)
    copy = pathlib.Path(shared_folder())
    shutil.copytree(home, copy / "viscum", ignore=shutil.ignore_patterns("__pycache__"))
    return str(copy)


def _reachable(path: pathlib.Path) -> bool:
    """Whether any user can read what is at `path`."""
    try:
        modes = [part.stat().st_mode for part in (path, *path.parents)]
    except OSError:
        return False
    return all(mode & 0o5 == 0o5 for mode in modes)


@functools.cache
def python_words(here: bool) -> tuple[str, ...]:
    """Return the interpreter to use: this one, where the user can reach it."""
    real = pathlib.Path(sys.executable).resolve()
    parents = (real, pathlib.Path(sys.executable), *pathlib.Path(sys.executable).parents)
    if here or (_reachable(real) and all(_reachable(path) for path in parents[:2])):
        return (sys.executable, "-W", "error")
    return ("/usr/bin/python3", "-W", "error")
