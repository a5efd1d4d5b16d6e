"""Machines whose root is an image, and the commands around images."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

import callers
import viscum
from imaging import Layout, archive, busybox_layer, folder_of, keep_as_folders, member
from needs import missing, needs
from viscum import Image, folders, from_image, image_mounts, image_pulling, images
from viscum.cli.images.choosing import names_image
from viscum.errors import ImageError, SpecError
from viscum.unpacker import make_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viscum.image.manifest import Descriptor
    from viscum.image.store import Store

pytestmark = needs("image-tools", "userns")


class Place:
    """A caller with a store of its own, and a layout to fill it from."""

    def __init__(self, caller: callers.Caller, folder: pathlib.Path) -> None:
        self.caller = caller
        self.folder = folder
        os.chown(folder, caller.uid, -1)
        self.data = folder / "data"
        (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
        own = {
            "VISCUM_DATA": str(self.data),
            "VISCUM_RUN": str(folder / "run"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
            "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        }
        self.own = own
        self.env = {**caller.environment(), **own}
        if caller.uid == 0:
            keep_as_folders(self.data)

    def __call__(self, *words: str, code: int = 0, **options: object) -> str:
        done = self.caller.viscum(*words, env=self.env, **options)
        text = done.stderr.decode()
        assert done.returncode == code, (words, text)
        assert "Traceback" not in text
        return done.stdout.decode() if not code else text


@pytest.fixture(scope="module")
def layout() -> Iterator[Layout]:
    """Images that every user can read."""
    folder = pathlib.Path(callers.shared_folder())
    made = Layout(folder / "layout")
    shell = busybox_layer()
    home = archive(
        folder_of("home/app", uid=1000, gid=1000),
        member("home/app/mine", uid=1000, gid=1000, mode=0o600),
    )
    settings = {
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["echo $A:$B; id -u; pwd"],
        "Env": ["A=image", "B=image"],
        "User": "app",
        "WorkingDir": "/home/app/new/deep",
        "StopSignal": "SIGINT",
        "Labels": {"from": "image"},
        "Volumes": {"/data": {}},
    }
    made.image("localhost/shell:1", [shell], Cmd=["sh"])
    made.image("localhost/full:1", [shell, home], **settings)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    yield made
    shutil.rmtree(folder)


@pytest.fixture
def place(caller: callers.Caller, folder: pathlib.Path, layout: Layout) -> Iterator[Place]:
    made = Place(caller, folder)
    made("load", "-q", "-i", str(layout.path))
    yield made
    folders.remove_tree(str(folder / "data"))


@pytest.fixture
def data(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, layout: Layout
) -> Iterator[pathlib.Path]:
    """The same for this process."""
    (folder / "registries.conf").write_text("")
    keep_as_folders(folder / "data")
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
    image_pulling.load(str(layout.path))
    yield folder / "data"
    make_worker().remove(str(folder / "data"))


def test_image_runs_with_what_it_says(place: Place) -> None:
    if place.caller.kind == "one-id":
        assert "outside of the machine's 1 ids" in place("run", "localhost/full:1", code=125)
        shown = place("run", "-u", "root", "-e", "B=own", "localhost/full:1")
        assert shown == "image:own\n0\n/home/app/new/deep\n"
        return
    shown = place(
        "run", "-e", "B=own", "localhost/full:1", "echo $A:$B; id -u; cat mine ../../mine; pwd"
    )
    assert shown.split() == ["image:own", "1000", "/home/app/new/deep"]
    assert (
        place("run", "-w", "/", "-u", "0", "--entrypoint", "id", "localhost/full:1", "-u") == "0\n"
    )
    assert place("run", "localhost/full:1").splitlines() == [
        "image:image",
        "1000",
        "/home/app/new/deep",
    ]


def test_the_root_can_be_written_and_the_image_stays(place: Place) -> None:
    script = "echo new >/bin/added; rm /bin/busybox; ls /bin/busybox; echo gone >/etc/passwd; cat /bin/added"
    assert "new" in place(
        "run",
        "localhost/shell:1",
        "sh",
        "-c",
        "echo new >/bin/added; cat /bin/added; echo x >/etc/passwd",
    )
    assert script
    assert "app" in place("run", "localhost/shell:1", "cat", "/etc/passwd")
    assert "No such file" in place("run", "localhost/shell:1", "ls", "/bin/added", code=1)
    refused = place("run", "--read-only", "localhost/shell:1", "touch", "/x", code=1)
    assert "Read-only" in refused


def test_owners_are_those_of_the_image(place: Place) -> None:
    shown = place(
        "run",
        "-u",
        "0",
        "--entrypoint",
        "stat",
        "localhost/full:1",
        "-c",
        "%u:%g %a",
        "/home/app/mine",
        "/bin/busybox",
    )
    mine = "0:0 600" if place.caller.kind == "one-id" else "1000:1000 600"
    assert shown.splitlines() == [mine, "0:0 755"]


def test_words_are_images_or_commands(place: Place) -> None:
    assert place("run", "--", "echo", "localhost/shell:1") == "localhost/shell:1\n"
    assert place("run", "echo", "shell") == "shell\n"
    assert place("run", "--image", "shell:1", "echo", "hi") == "hi\n"
    assert place("run", "shell:1", "echo", "hi") == "hi\n"
    assert "is not in the store" in place("run", "--pull", "never", "none:1", "true", code=125)
    assert "an image and a rootfs" in place(
        "run", "--rootfs", "/", "--image", "shell:1", "true", code=125
    )
    place("tag", "shell:1", "short")
    assert place("run", "short", "echo", "hi") == "hi\n"
    place("rmi", "short")
    assert "was not found" in place("run", "short", code=127)
    assert "was not found" in place("run", "shell:1", "nothing-there", code=127)


def test_verbs_tell_and_change(place: Place) -> None:
    rows = json.loads(place("images", "--format", "json"))
    assert {row["Repository"] for row in rows} == {"localhost/shell", "localhost/full"}
    (told,) = json.loads(place("image", "inspect", "full:1"))
    assert told["Config"]["Labels"] == {"from": "image"}
    assert told["RepoTags"] == ["localhost/full:1"]
    assert "LAYER" in place("history", "full:1")
    assert place("image", "inspect", "--format", "{{.Os}}", "shell:1") == "linux\n"
    saved = str(place.folder / "saved.tar")
    place("save", "-o", saved, "shell:1", "full:1")
    assert (
        place("rmi", "shell:1", "full:1")
        == "untagged localhost/shell:1\nuntagged localhost/full:1\n"
    )
    assert place("images", "-q") == ""
    assert not [name for name in os.listdir(place.data / "layers") if name[0] != "."]
    assert place("load", "-q", "-i", saved).split() == ["localhost/shell:1", "localhost/full:1"]
    assert place("store", "check") == ""
    assert place("gc").startswith("freed ")
    place("tag", "shell:1", "example.com/a/b:c")
    assert "example.com/a/b:c" in place("image", "prune", "--all", "--force")
    assert place("images", "-q") == ""


def test_bad_words_are_one_error(place: Place) -> None:
    cases = {
        ("pull", "Upper/Case"): "small letters",
        ("pull", "a\x1b[2J"): "no reference",
        ("pull", "a/../b"): "no reference",
        ("pull",): "too few words",
        ("pull", "--platform", "a/b/c/d", "x"): "platform",
        ("run", "--pull", "sometimes", "--image", "shell:1", "true"): "pull 'sometimes'",
        ("tag", "none", "x"): "not in the store",
        ("tag", "shell:1", "X"): "no reference",
        ("rmi", "none:1"): "not in the store",
        ("save", "shell:1", "--format", "zip", "-o", "x"): "format 'zip'",
        ("save", "-o", "/nonexistent/x", "shell:1"): "no such file",
        ("load", "-i", "/etc/hostname"): "no tar archive",
        ("load", "-i", "/nonexistent"): "no such file",
        ("import", "/etc/hostname", "x"): "its tar archive",
        ("push", "none:1", "localhost:1/x"): "not in the store",
        ("image", "inspect", "none"): "not in the store",
        ("image", "unmount", "none"): "not mounted",
        ("logout", "none.example"): "not logged in",
        ("login", "none.example"): "no terminal|no user",
        ("store", "check", "x"): "too many words",
        ("run", "ftp://x", "y"): "unknown|no reference",
    }
    for words, expected in cases.items():
        text = place(*words, code=125)
        assert any(part in text for part in expected.split("|")), (words, text)
        assert text.count("viscum: ") == 1, text
        assert "\x1b" not in text


def test_lives_on_with_its_image(place: Place) -> None:
    machine = place("run", "-d", "--name", "web", "shell:1", "sleep", "60").strip()
    try:
        assert place("exec", "web", "cat", "/etc/passwd").startswith("root:")
        assert "localhost/shell:1" in place("ps")
        place("rmi", "shell:1")
        place("gc", "--all")
        place("stop", "-t", "0", "web")
        place("start", "web")
        assert place("exec", "web", "cat", "/etc/passwd").startswith("root:")
    finally:
        place("rm", "-f", "web")
    assert machine
    place("rmi", "full:1")
    assert not [name for name in os.listdir(place.data / "layers") if name[0] != "."]


def test_what_a_machine_changed_becomes_an_image(place: Place) -> None:
    script = "echo new >/etc/added; rm /etc/passwd; echo x >/tmp/f; ln /tmp/f /tmp/g; rm -r /home; mkdir /home; echo h >/home/h"
    place("run", "-d", "--name", "worker", "shell:1", "sh", "-c", script + "; sleep 60")
    try:
        for _ in range(100):
            if "/home/h" in place("diff", "worker"):
                break
        text = place("diff", "worker")
        assert "A /etc/added" in text
        assert "D /etc/passwd" in text
        place("commit", "-c", 'CMD ["cat", "/etc/added"]', "-m", "by hand", "worker", "made:1")
    finally:
        place("rm", "-f", "worker")
    assert place("run", "made:1") == "new\n"
    shown = place(
        "run", "made:1", "sh", "-c", "ls /etc /home; cat /tmp/g; cat /home/h; ls -l /tmp/f"
    )
    assert "passwd" not in shown
    assert "x\nh\n" in shown
    assert " 2 0 " in shown
    assert "by hand" in place("history", "made:1")
    place("store", "check")


@needs("root")
def test_health_and_labels_come_from_the_image(data: pathlib.Path, folder: pathlib.Path) -> None:
    made = Layout(folder / "healthy")
    check = {"Test": ["CMD", "true"], "Interval": 50_000_000, "Timeout": 5_000_000_000}
    made.image(
        "localhost/healthy:1",
        [busybox_layer()],
        Cmd=["sleep", "60"],
        Healthcheck=check,
        Labels={"a": "b", "c": "d"},
    )
    image_pulling.load(str(made.path))
    machine = viscum.DetachedMachine.create((), image="localhost/healthy:1", labels={"c": "own"})
    try:
        assert dict(machine.config.labels) == {"a": "b", "c": "own"}
        assert machine.config.health is not None
        assert machine.config.health.command == ("true",)
        assert machine.config.spec.command == ("sleep", "60")
    finally:
        machine.remove(force=True)


# From Python.


def test_python_runs_images(data: pathlib.Path) -> None:
    assert viscum.run(["cat", "/etc/passwd"], image="localhost/shell:1").text.startswith("root:")
    assert {image.name for image in Image.list()} == {"localhost/shell:1", "localhost/full:1"}
    image = Image.get("localhost/shell:1")
    assert viscum.run(["echo", "x"], image=image).text == "x\n"
    assert viscum.run((), image=image).exit_code == 0
    with viscum.Machine(image="localhost/full:1", user=0) as machine:
        assert machine.run(["sh", "-c", "echo $A; pwd"]).text == "image\n/home/app/new/deep\n"
        assert machine.spec.stop_signal == 2
    for options in (
        {"image": ""},
        {"image": 5},
        {"image": "x:1", "rootfs": "/"},
        {"image": "x:1", "pull": "no"},
    ):
        with pytest.raises(SpecError):
            viscum.run(["true"], **options)
    with pytest.raises(ImageError):
        viscum.run(["true"], image="none:1", pull="never")


def test_a_name_that_changes_is_noticed(data: pathlib.Path) -> None:
    store = images.own_store()
    images.tag(store, "localhost/shell:1", "moving:1")
    assert viscum.run(["ls", "/home"], image="localhost/moving:1").exit_code != 0
    images.tag(store, "localhost/full:1", "moving:1")
    assert viscum.run(["ls /home"], image="localhost/moving:1", user=0).text == "app\n"


def test_no_names_are_images_that_are_commands() -> None:
    for word in ("ls", "./x:1", "/bin/sh", "../a:b", "~/x", "a/b", "-x", ""):
        assert not names_image(word), word
    for word in (
        "debian:12",
        "x.io/a",
        "localhost/a",
        "oci:x",
        "docker://x",
        "a@sha256:" + "0" * 64,
    ):
        assert names_image(word), word


@needs("root")
def test_an_image_is_mounted_and_unmounted(data: pathlib.Path, folder: pathlib.Path) -> None:
    where = folder / "mounted"
    where.mkdir()
    assert image_mounts.mount("localhost/full:1", str(where)) == str(where)
    try:
        assert (where / "home/app/mine").exists()
        with pytest.raises(OSError, match="Read-only"):
            (where / "x").write_text("x")
        assert images.mounted() == [("localhost/full:1", str(where))]
        images.remove(images.own_store(), "localhost/full:1")
        images.collect(images.own_store(), everything=True)
        assert (where / "home/app/mine").exists()
    finally:
        image_mounts.unmount(str(where))
    assert images.mounted() == []
    assert image_mounts.mount("localhost/shell:1").startswith(str(data))
    image_mounts.unmount("localhost/shell:1")
    with pytest.raises(ImageError, match="not mounted"):
        image_mounts.unmount("localhost/shell:1")


def test_importing_viscum_imports_no_images() -> None:
    done = callers.make_caller("root").python(
        "import viscum, sys; print([m for m in sys.modules if 'viscum.image' in m or m == 'socket'])"
    )
    assert done.stdout.strip() == b"[]", sys.version


def test_a_remembered_start_notices_what_a_name_stands_for(place: Place, layout: Layout) -> None:
    if not place.caller.here:
        return  # other users' commands start without the native front
    plans = place.folder / "run/plans"
    for _ in range(2):
        assert place("run", "shell:1", "id", "-u") == "0\n"
    assert len(list(plans.iterdir())) == 1
    place("tag", "full:1", "shell:1")
    assert place("run", "-u", "0", "--entrypoint", "ls", "shell:1", "/home") == "app\n"
    kept = len(list(plans.iterdir()))
    place("run", f"oci:{layout.path}:localhost/shell:1", "true")
    assert len(list(plans.iterdir())) == kept


def test_a_bound_holds_for_every_user(place: Place) -> None:
    made = Layout(place.folder / "own")
    made.image("localhost/bomb:1", [archive(member("zeros", bytes(20 << 20)))])
    for path in (place.folder / "own").rglob("*"):
        path.chmod(0o755)
    (place.folder / "own").chmod(0o755)
    before = place("store", "show")
    place("store", "set", "--quota", "12m")
    text = place("pull", "-q", f"oci:{made.path}:localhost/bomb:1", code=125)
    assert "the store may hold 12MiB" in text
    assert "hint: viscum gc" in text
    assert "bomb" not in place("images")
    place("store", "set", "--quota", "none")
    assert place("store", "show") == before
    place("pull", "-q", f"oci:{made.path}:localhost/bomb:1")
    assert place("store", "check") == ""


def test_only_root_keeps_images_as_one_file(place: Place) -> None:
    if place.caller.kind == "root":
        if not missing("erofs"):
            shown = place("run", "--storage", "erofs", "localhost/shell:1", "cat", "/etc/passwd")
            assert "app" in shown
        return
    for words in (
        ["run", "--storage", "erofs", "localhost/shell:1"],
        ["store", "set", "--storage", "erofs"],
    ):
        text = place(*words, code=125)
        assert "only root can keep images as EROFS" in text
        assert "hint: --storage overlay" in text
    assert "overlay" in place("store", "show")


def test_the_policy_is_asked_once_at_a_first_start(
    data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = from_image.admit

    def admit(store: Store, name: str, descriptor: Descriptor) -> None:
        asked.append(name)
        real(store, name, descriptor)

    monkeypatch.setattr(from_image, "admit", admit)
    assert viscum.run(["id", "-u"], image="localhost/shell:1").text == "0\n"
    assert asked == ["localhost/shell:1"]
    assert data.exists()
