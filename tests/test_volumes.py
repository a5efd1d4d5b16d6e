"""Named volumes: made and removed whole, writable by those they are for, kept while used."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import callers
import viscum
from needs import needs
from places import Place
from viscum import volumes
from viscum.errors import SpecError, ViscumError

if TYPE_CHECKING:
    pass


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> pathlib.Path:
    """A folder of state for this process alone."""
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    return folder / "data"


@needs("userns")
def test_volume_is_made_kept_and_removed(place: Place) -> None:
    place("run", "-v", "data:/d", "--", "sh", "-c", "echo kept >/d/file")
    assert place("run", "-v", "data:/d:ro", "--", "cat", "/d/file") == "kept\n"
    place("run", "-v", "data:/d:ro", "--", "touch", "/d/other", code=1)
    assert place("volume", "ls", "-q") == "data\n"
    assert place("volume", "rm", "data") == "data\n"
    assert place("volume", "ls", "--format", "json") == "[]\n"
    assert os.listdir(place.data / "volumes") == []


@needs("userns")
def test_volume_of_the_long_form(place: Place) -> None:
    mount = "type=volume,source=data,target=/d"
    place("run", "--mount", mount, "--", "touch", "/d/file")
    place("run", "--mount", mount + ",readonly", "--", "touch", "/d/other", code=1)
    assert place("volume", "ls", "-q") == "data\n"


@needs("userns")
def test_fresh_volume_is_writable_by_the_machines_user(place: Place) -> None:
    if place.caller.kind == "one-id":
        text = place("run", "-v", "d:/d", "--user", "1000", "--", "true", code=125)
        assert "outside of the machine's 1 ids" in text
        return
    text = "touch /d/file && stat -c %u /d/file"
    assert place("run", "-v", "d:/d", "--user", "1000", "--", "sh", "-c", text) == "1000\n"
    # What root left there stays root's: only a fresh volume gets an owner.
    place("run", "-v", "e:/d", "--", "mkdir", "-m", "700", "/d/roots")
    place("run", "-v", "e:/d", "--user", "1000", "--", "touch", "/d/roots/x", code=1)
    # Files of other ids go with the volume.
    assert place("volume", "rm", "d", "e") == "d\ne\n"
    assert os.listdir(place.data / "volumes") == []


@needs("root")
def test_volume_belongs_to_nobody_else_of_the_host(data: pathlib.Path) -> None:
    volumes.create("data")
    assert (data / "volumes").stat().st_mode & 0o77 == 0
    assert (data / "volumes" / "data").stat().st_mode & 0o77 == 0


@needs("userns")
def test_python_machines_have_volumes_and_hold_them(data: pathlib.Path) -> None:
    mount = viscum.Mount("", "/data", volume="notes")
    viscum.run(["touch", "/data/x"], mounts=[mount])
    with viscum.Machine(mounts=[mount]) as machine:
        assert machine.run(["ls", "/data"]).text == "x\n"
        with pytest.raises(ViscumError, match="in use"):
            volumes.remove("notes", lambda name: [])
    volumes.remove("notes", lambda name: [])
    with pytest.raises(SpecError, match="is not usable"):
        viscum.run(["true"], mounts=[viscum.Mount("", "/data", volume="a/b")])
    assert volumes.names() == []


@needs("root")
def test_volume_in_use_is_not_removed(data: pathlib.Path) -> None:
    words = [callers.script("viscum"), "run", "-v", "data:/d", "--", "sleep", "60"]
    with subprocess.Popen(words) as process:
        while not (data / "volumes" / "data").exists() or (data / "volumes/data/fresh").exists():
            time.sleep(0.01)
        with pytest.raises(ViscumError, match="in use"):
            volumes.remove("data", lambda name: [])
        assert (data / "volumes" / "data" / "data").exists()
        process.send_signal(signal.SIGTERM)
    volumes.remove("data", lambda name: [])
    assert volumes.names() == []


def test_volume_that_a_machine_has_is_not_removed(data: pathlib.Path) -> None:
    volumes.create("data")
    with pytest.raises(ViscumError, match="used by web") as caught:
        volumes.remove("data", lambda name: ["web"])
    assert caught.value.hint == "viscum rm web"
    assert volumes.find("data").name == "data"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "-x", ".new-1", "_x", "a b", "a\0b", "é", "x" * 129]
)
def test_name_that_is_none_is_refused(data: pathlib.Path, name: str) -> None:
    for act in (volumes.create, volumes.find, volumes.hold, volumes.path_of):
        with pytest.raises(SpecError, match="is not usable"):
            act(name)
    assert not data.exists() or not (data / "volumes").exists()


def test_volume_is_made_once_by_many(data: pathlib.Path) -> None:
    def attempt(_number: int) -> bool:
        try:
            volumes.create("data", {"by": "one"})
        except ViscumError as error:
            assert "exists already" in error.message
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 1
    assert os.listdir(data / "volumes") == ["data"]


MANY = """
import os, random, sys
from viscum import volumes
from viscum.errors import ViscumError
for _ in range(60):
    try:
        match random.randrange(3):
            case 0: volumes.create("data")
            case 1: volumes.remove("data", lambda name: [])
            case 2:
                fd = volumes.hold("data")
                home = os.path.dirname(volumes.path_of("data"))
                assert os.path.samestat(os.fstat(fd), os.stat(home)), "removed while held"
                assert os.path.isdir(home + "/data")
                os.close(fd)
    except ViscumError:
        pass
"""


def test_volume_is_whole_for_all_who_make_use_and_remove_it(data: pathlib.Path) -> None:
    words = [sys.executable, "-c", MANY]
    running = [subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(6)]
    for process in running:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint.decode()
    assert set(os.listdir(data / "volumes")) <= {"data"}


def test_what_a_killed_command_left_is_swept(data: pathlib.Path) -> None:
    volumes.create("data")
    gone = data / "volumes" / ".gone-1"
    (gone / "data").mkdir(parents=True)
    (gone / "data" / "link").symlink_to("/etc")
    (data / "volumes" / ".new-1").mkdir()
    volumes.sweep()
    assert sorted(os.listdir(data / "volumes")) == [".new-1", "data"]  # this one may be at work
    assert os.path.isdir("/etc")


def test_removal_follows_no_link(data: pathlib.Path, folder: pathlib.Path) -> None:
    volumes.create("data")
    (folder / "precious").mkdir()
    (folder / "precious" / "file").write_text("x")
    (data / "volumes/data/data/link").symlink_to(folder / "precious")
    volumes.remove("data", lambda name: [])
    assert (folder / "precious" / "file").read_text() == "x"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"created": "x"}', '{"created":1,"labels":3}'])
def test_damaged_record_is_as_good_as_none(data: pathlib.Path, text: str) -> None:
    volumes.create("data", {"a": "1"})
    (data / "volumes/data/volume.json").write_text(text)
    assert dict(volumes.find("data").labels) == {}


def test_commands_list_inspect_and_filter(place: Place) -> None:
    place("volume", "create", "one", "-l", "use=test", "-l", "x")
    place("volume", "create", "two")
    name = place("volume", "create").strip()
    assert len(name) == 64
    lines = place("volume", "ls").splitlines()
    assert lines[0].split() == ["VOLUME", "NAME", "CREATED", "LABELS", "MOUNTPOINT"]
    assert len(lines) == 4
    assert place("volume", "ls", "-q", "--filter", "label=use=test") == "one\n"
    assert place("volume", "ls", "-f", "name=tw", "--format", "{{.Name}}") == "two\n"
    assert place("volume", "ls", "-f", "dangling=false", "-q") == ""
    (told,) = json.loads(place("volume", "inspect", "one"))
    assert told["Labels"] == {"use": "test", "x": ""}
    assert told["Mountpoint"] == str(place.data / "volumes/one/data")
    assert place("volume", "inspect", "one", "two", "--format", "{{.Name}}") == "one\ntwo\n"
    assert sorted(place("volume", "prune", "--force").split()) == sorted(["one", "two", name])


def test_command_for_several_goes_on_after_one_that_fails(place: Place) -> None:
    place("volume", "create", "one")
    place("volume", "create", "two")
    text = place("volume", "rm", "one", "absent", "two", code=125)
    assert text.splitlines()[0] == "viscum: there is no volume 'absent'"
    assert place("volume", "ls", "-q") == ""
    assert place("volume", "rm", "--force", "absent") == ""


@pytest.mark.parametrize(
    "words",
    [
        ["volume", "create", "a", "b"],
        ["volume", "create", "a/b"],
        ["volume", "create", "--driver", "nfs", "a"],
        ["volume", "create", "-l", "=x", "a"],
        ["volume", "ls", "--filter", "nme=a"],
        ["volume", "ls", "--format", "{{.Nme"],
        ["volume", "inspect"],
        ["volume", "inspect", "absent", "--format", "{{"],
        ["volume", "rm"],
        ["volume", "prune", "x"],
        ["volume", "frobnicate"],
        ["run", "-v", "a/b:/d", "--", "true"],
        ["run", "-v", ".new:/d", "--", "true"],
        ["run", "--mount", "type=volume,target=/d", "--", "true"],
    ],
)
def test_senseless_command_is_one_clear_error(place: Place, words: list[str]) -> None:
    text = place(*words, code=125)
    assert text.startswith("viscum: ")
    assert not place.data.exists() or os.listdir(place.data / "volumes") == []


def test_prune_asks_at_a_terminal_only(place: Place) -> None:
    place("volume", "create", "one")
    assert "no terminal to ask at" in place("volume", "prune", code=125)
    assert place("volume", "ls", "-q") == "one\n"
