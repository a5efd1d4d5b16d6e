"""The file of modules that a launch reads at once: it holds the same code, and gives way to edits."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import sysconfig

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


def test_another_python_imports_the_modules_as_they_are(tmp_path: pathlib.Path) -> None:
    """In a copy of the installation."""
    subprocess.run(["cp", "-r", "--parents", "viscum", tmp_path], cwd=FOLDER, check=True)
    lib = tmp_path / "lib/python{}.{}".format(*sys.version_info[:2])
    lib.mkdir(parents=True)
    (tmp_path / "viscum").rename(tmp_path / "moved")
    (lib / "site-packages").mkdir()
    (tmp_path / "moved").rename(lib / "site-packages/viscum")
    (tmp_path / "bin").mkdir()
    bin_ = pathlib.Path(sysconfig.get_path("scripts"))
    subprocess.run(["cp", bin_ / "viscum-oci", tmp_path / "bin"], check=True)
    os.symlink(os.path.realpath(sys.executable), tmp_path / "bin/python3")
    file = lib / "site-packages/viscum/oci/gathered"
    file.write_bytes(b"cpython-300 final\nof another Python")
    words = [
        tmp_path / "bin/viscum-oci",
        "--root",
        tmp_path / "root",
        "create",
        "--bundle",
        tmp_path,
        "x",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr
