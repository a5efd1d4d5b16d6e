"""The file of modules that a launch reads at once: it holds the same code, and gives way to edits."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import socket
import subprocess
import sys
import sysconfig

import pytest

from conformance.container import CONFIG, make_rootfs
from needs import needs

FOLDER = pathlib.Path(sysconfig.get_path("purelib"))
FILE = FOLDER / "viscum/oci/gathered"

RESTORE = """
import json, marshal, os, sys
folder, verb, made = sys.argv[1], sys.argv[2], float(sys.argv[3])
mark, _, data = open(folder + "/viscum/oci/gathered", "rb").read().partition(b"\\n")
assert mark.decode() == sys.implementation.cache_tag + " " + sys.version_info.releaselevel
code, modules, orders = marshal.loads(data)
space = {"__name__": "viscum.oci.gathered"}
exec(marshal.loads(code), space)
space["restore"](folder, verb, made or os.stat(folder + "/viscum/oci/gathered").st_mtime, modules, orders)
restored = {name for name in sys.modules if name.startswith("viscum")}
sys.path.append(folder)
import viscum.oci.main, viscum.oci.words, viscum.oci.create
if verb == "exec":
    import viscum.oci.execute
ours = {name: module for name, module in sys.modules.items() if name.startswith("viscum")}
print(json.dumps({
    "restored": sorted(restored),
    "imported": sorted(set(ours) - restored),
    "files": sorted(module.__file__ for module in ours.values()),
    "missing": [name for name in ours if not os.path.exists(ours[name].__file__)],
}))
"""


def restored(verb: str, made: float = 0) -> dict[str, list[str]]:
    words = [sys.executable, "-IS", "-c", RESTORE, str(FOLDER), verb, str(made)]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def test_create_imports_nothing_that_is_not_gathered() -> None:
    found = restored("create")
    assert "viscum.drivers.container" in found["restored"]
    assert (found["imported"], found["missing"]) == ([], [])


def test_exec_imports_nothing_that_is_not_gathered() -> None:
    found = restored("exec")
    assert "viscum.oci.execute" in found["restored"]
    assert found["imported"] == []


def test_verbs_that_launch_nothing_restore_nothing() -> None:
    assert restored("list")["restored"] == []


def test_sources_that_were_edited_later_are_imported_as_they_are() -> None:
    newest = max(path.stat().st_mtime for path in (FOLDER / "viscum").rglob("*.py"))
    found = restored("create", newest - 3600)
    assert found["restored"] == []
    assert "viscum.oci.create" in found["imported"]


@pytest.fixture
def installation(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the installation; its `python3` says that it was asked and ends with 99."""
    packages = tmp_path / "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
    packages.mkdir(parents=True)
    subprocess.run(["cp", "-r", FOLDER / "viscum", packages], check=True)
    (tmp_path / "bin").mkdir()
    program = os.path.join(sysconfig.get_path("scripts"), "viscum-oci")
    subprocess.run(["cp", program, tmp_path / "bin"], check=True)
    python = tmp_path / "bin/python3"
    python.write_text("#!/bin/sh\necho asked >&2; exit 99\n")
    python.chmod(0o755)
    return tmp_path


def call(installation: pathlib.Path, *words: object) -> subprocess.CompletedProcess:
    """Run it with files for its output: a container holds what it got until it ends."""
    command = [installation / "bin/viscum-oci", "--root", installation / "state", *words]
    out, err = installation / "out", installation / "err"
    with out.open("wb") as output, err.open("wb") as errors:
        done = subprocess.run(
            list(map(str, command)), stdout=output, stderr=errors, check=False, stdin=-3, timeout=60
        )
    return subprocess.CompletedProcess(command, done.returncode, out.read_text(), err.read_text())


def container(installation: pathlib.Path) -> dict:
    """A bundle with a filter of system calls, as engines ask for."""
    make_rootfs(installation / "rootfs")
    config = copy.deepcopy(CONFIG)
    config["process"]["args"] = ["/bin/sleep", "1000"]
    rule = {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (installation / "config.json").write_text(json.dumps(config))
    return config


@needs("root", "busybox", "quick-interpreter")
def test_create_and_exec_do_without_the_ordinary_python(installation: pathlib.Path) -> None:
    container(installation)
    name = f"quick-{os.getpid()}"
    try:
        made = call(installation, "create", "--bundle", installation, name)
        assert (made.returncode, made.stderr) == (0, "")
        done = call(installation, "exec", name, "/bin/echo", "inside")
        assert (done.returncode, done.stdout, done.stderr) == (0, "inside\n", "")
    finally:
        call(installation, "delete", "--force", name)


@needs("root", "busybox", "quick-interpreter")
def test_what_the_quick_interpreter_lacks_is_left_to_the_ordinary_one(
    installation: pathlib.Path,
) -> None:
    config = container(installation)
    config["linux"]["seccomp"]["listenerPath"] = str(installation / "listener")
    (installation / "config.json").write_text(json.dumps(config))
    listener = socket.socket(socket.AF_UNIX)  # the plan needs a socket, whose module it lacks
    listener.bind(str(installation / "listener"))
    listener.listen()
    done = call(installation, "create", "--bundle", installation, "x")
    assert (done.returncode, done.stderr) == (99, "asked\n")
    assert not (installation / "state/x").exists()
    listener.close()


@needs("quick-interpreter")
def test_errors_are_told_once_without_the_ordinary_python(installation: pathlib.Path) -> None:
    done = call(installation, "create", "--bundle", installation, "x")
    assert done.returncode == 1
    assert done.stderr.count("config.json") == 1


def test_another_python_imports_the_modules_as_they_are(installation: pathlib.Path) -> None:
    (installation / "bin/python3").unlink()
    (installation / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    for path in installation.glob("lib/*/site-packages/viscum/bin/viscum-oci-compile"):
        path.unlink()
    (file,) = installation.glob("lib/*/site-packages/viscum/oci/gathered")
    file.write_bytes(b"cpython-300 final\nof another Python")
    done = call(installation, "create", "--bundle", installation, "x")
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr
