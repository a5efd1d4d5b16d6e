"""Images kept as EROFS: what is written is what the kernel shows, and machines run on it."""

from __future__ import annotations

import os
import pathlib
import random
import stat
import subprocess
import sysconfig
import threading
from typing import TYPE_CHECKING

import pytest

import viscum
from imaging import Layout, archive, busybox_layer, folder_of, keep_as_folders, link, member, run
from needs import needs
from viscum import (
    folders,
    image_mounts,
    image_pulling,
    images,
    native,
    storage_choice,
    storing,
)
from viscum.errors import ImageError, SpecError
from viscum.image import erofs
from viscum.image.image_files import ImageFiles
from viscum.image.platforms import parse_platform
from viscum.image.settings import Measured, read_settings
from viscum.image.transport import Settings
from viscum.image.unpacking import Hashed
from viscum.showing import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("root", "erofs", "image-tools")
OWN = parse_platform(None)
VISCUM = os.path.join(sysconfig.get_path("scripts"), "viscum")


def write(folder: pathlib.Path, path: pathlib.Path) -> str:
    with open(path, "xb", buffering=0) as file, folders.opened(str(folder)) as root:
        with Hashed(file) as out:
            size = erofs.write_image(root, out.write)
        assert os.fstat(file.fileno()).st_size == size
    return out.digest


def attributes(path: str) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def content(path: str, is_: os.stat_result) -> object:
    if stat.S_ISLNK(is_.st_mode):
        return os.readlink(path)
    if stat.S_ISDIR(is_.st_mode):
        return sorted(os.listdir(path))
    if not stat.S_ISREG(is_.st_mode):
        return is_.st_rdev
    with open(path, "rb", buffering=0) as file:
        size = is_.st_size
        places = [0] if size < 1 << 24 else [0, 1 << 32, size - 5000]
        return [os.pread(file.fileno(), 1 << 24, at) for at in places]


def told(top: str) -> dict[str, tuple[object, ...]]:
    """All that a folder's file system tells of what is in it; inodes by their first path."""
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}
    for folder, below, files in os.walk(top):
        for name in (*sorted(below), *sorted(files), "."):
            path = folder if name == "." else os.path.join(folder, name)
            is_ = os.lstat(path)
            size = 0 if stat.S_ISDIR(is_.st_mode) else is_.st_size
            same = first.setdefault(is_.st_ino, os.path.relpath(path, top))
            about = (is_.st_mode, is_.st_uid, is_.st_gid, size, is_.st_nlink, is_.st_mtime_ns, same)
            found[os.path.relpath(path, top)] = (*about, attributes(path), content(path, is_))
    return found


def compare(folder: pathlib.Path, image: pathlib.Path) -> None:
    with shown([str(image)]) as (root,):
        assert told(root) == told(str(folder))


def test_the_kernel_shows_what_was_written(folder: pathlib.Path) -> None:
    top = folder / "tree"
    (top / "many").mkdir(parents=True)
    for number in range(700):
        (top / "many" / ("n" * (number % 200) + str(number))).write_bytes(b"x" * (number * 17))
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub").chmod(0o2751)
    (top / "empty").touch()
    for size in (1, 3000, 3073, 4095, 4096, 4097, 1 << 20):
        (top / f"s{size}").write_bytes(random.Random(size).randbytes(size))
    os.symlink("t" * 4000, top / "long")
    os.symlink("x", top / "short")
    os.mkfifo(top / "pipe")
    os.mknod(top / "char", 0o20600, os.makedev(5, 1))
    os.mknod(top / "block", 0o60600, os.makedev(300, 70000))
    os.link(top / "s1", top / "sub" / "one")
    os.link(top / "s1", top / "sub" / "deep" / "two")
    os.chown(top / "s1", 1234, 70000)
    os.chmod(top / "s1", 0o4755)
    os.setxattr(top / "empty", "user.long", b"1" * 3000)
    os.setxattr(top / "empty", "trusted.mine", b"")
    os.setxattr(top / "sub", "security.mine", b"\0\1")
    (top / "before").touch()
    os.utime(top / "before", ns=(0, -7 * 10**9 + 3))
    with open(os.fsencode(top) + b"/\xff\xfe", "xb"):
        pass
    write(top, folder / "image")
    compare(top, folder / "image")


def test_files_with_holes_take_what_they_have(folder: pathlib.Path) -> None:
    top = folder / "tree"
    top.mkdir()
    with open(top / "huge", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 32)
        file.write(b"middle" * 1000)
        file.seek((1 << 40) - 3)
        file.write(b"end")
    with open(top / "small", "wb") as file:
        file.truncate(100_000)
        file.seek(50_000)
        file.write(b"within")
    with open(top / "hole", "wb") as file:
        file.truncate(1 << 20)
    write(top, folder / "image")
    compare(top, folder / "image")
    assert (folder / "image").stat().st_size < 40 << 20


def test_the_same_tree_is_the_same_image(folder: pathlib.Path) -> None:
    for name in ("b", "a", "c"):
        (folder / name).write_text(name)
    digests = []
    for turn, names in enumerate(("abc", "cba")):
        top = folder / f"tree{turn}"
        top.mkdir()
        for name in names:
            os.link(folder / name, top / name)
        os.utime(top, (5, 5))
        digests.append(write(top, folder / f"image{turn}"))
    assert digests[0] == digests[1]


def test_what_would_direct_overlayfs_stays_out(folder: pathlib.Path) -> None:
    top = folder / "tree"
    top.mkdir()
    os.setxattr(top, "trusted.overlay.redirect", b"/etc")
    os.setxattr(top, "user.overlay.metacopy", b"")
    write(top, folder / "image")
    with shown([str(folder / "image")]) as (root,):
        assert attributes(root) == {}


# In the store.


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    (folder / "registries.conf").write_text("")
    keep_as_folders(folder / "data")
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
    layout = Layout(folder / "layout")
    change = archive(
        member("etc/.wh.gone"),
        folder_of("opt"),
        member("opt/.wh..wh..opq"),
        member("opt/new", b"new"),
        link("opt/shell", "../bin/busybox"),
        folder_of("home/app", uid=1000, gid=1000),
        member("home/app/mine", b"mine", uid=1000, gid=1000, mode=0o600),
    )
    below = archive(member("etc/gone"), folder_of("opt"), member("opt/old"))
    layers = [busybox_layer(), below, change]
    settings = {"Cmd": ["cat", "/opt/new"], "User": "app", "WorkingDir": "/home/app"}
    layout.image("localhost/kept:1", layers, **settings)
    yield folder / "data"
    folders.remove_tree(str(folder / "data"))


def pull(folder: pathlib.Path, storage: str | None = None) -> images.Image:
    return image_pulling.pull(
        f"oci:{folder}/layout:localhost/kept:1", OWN, Settings(), None, storage
    )


def names(data: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(data / "layers") if not name.endswith(".json"))


def test_an_image_is_one_file(data: pathlib.Path, folder: pathlib.Path) -> None:
    image = pull(folder, "erofs")
    (name,) = names(data)
    assert name == "erofs-" + image.chains[-1].replace(":", "-")
    assert pull(folder).digest == image.digest
    assert names(data) == [name]
    assert viscum.run([], image="localhost/kept:1").text == "new"
    script = "id -u; cat mine; echo; ls /opt /etc; echo more >/opt/more; cat /opt/more"
    shown_ = viscum.run(["sh", "-c", script], image="localhost/kept:1", user="0:0").text.split()
    assert shown_ == "0 mine /etc: hostname hosts passwd /opt: new shell more".split()
    assert viscum.run(["cat", "/opt/more"], image="localhost/kept:1").exit_code == 1
    assert not [
        line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if name in line
    ]


def test_both_ways_of_keeping_show_the_same(data: pathlib.Path, folder: pathlib.Path) -> None:
    image = pull(folder, "overlay")
    chains, layers = image.chains, storing.open_layers(images.own_store())
    flat = layers.flatten(chains)
    root = images.prepare(image, "erofs")
    with shown(root.layers) as (top,):
        for path, about in told(flat).items():
            there = told(top)[path]
            kept = [value for place, value in enumerate(about) if place not in (4, 7)]
            assert kept == [value for place, value in enumerate(there) if place not in (4, 7)]
    assert images.prepare(image, "overlay").layers != root.layers
    pull(folder, "overlay")
    assert not [name for name in names(data) if name.startswith("erofs-")]


def test_machines_that_live_on_have_it(data: pathlib.Path, folder: pathlib.Path) -> None:
    pull(folder, "erofs")
    (name,) = names(data)

    def do(*words: str) -> str:
        return run(VISCUM, *words).stdout.decode()

    for _ in range(2):
        do("run", "-d", "-u", "0", "localhost/kept:1", "sleep", "100")
    do(
        "create",
        "--name",
        "later",
        "-u",
        "0",
        "localhost/kept:1",
        "sh",
        "-c",
        "echo x >/new; sleep 9",
    )
    do("rmi", "localhost/kept:1")
    do("gc", "--all")
    assert names(data) == [name]
    do("start", "later")
    assert do("exec", "later", "cat", "/opt/new") == "new"
    assert "A /new" in do("diff", "later")
    do("rm", "-f", *do("ps", "-aq").split())
    do("gc", "--all")
    assert names(data) == []
    assert name not in pathlib.Path("/proc/mounts").read_text()


def test_it_is_mounted_and_unmounted(data: pathlib.Path, folder: pathlib.Path) -> None:
    pull(folder, "erofs")
    where = image_mounts.mount("localhost/kept:1")
    try:
        assert pathlib.Path(where, "opt/new").read_text() == "new"
        with pytest.raises(OSError, match="Read-only"):
            pathlib.Path(where, "x").touch()
    finally:
        image_mounts.unmount("localhost/kept:1")
    assert str(data) not in pathlib.Path("/proc/mounts").read_text()


def test_damage_of_an_image_file_is_found_and_repaired(
    data: pathlib.Path, folder: pathlib.Path
) -> None:
    image = pull(folder, "erofs")
    path = images.prepare(image).layers[0]
    assert images.check(images.own_store()) == []
    is_ = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    os.utime(path, ns=(is_.st_atime_ns, is_.st_mtime_ns))  # as a failing disk would
    store = images.own_store()
    (fault,) = images.check(store)
    assert "has the digest" in fault.what
    assert images.check(store, repair=True)[0].repaired
    assert images.check(store) == []
    assert viscum.run([], image="localhost/kept:1", storage="erofs").text == "new"
    assert images.check(store) == []


def test_a_file_that_was_written_to_is_made_again(data: pathlib.Path, folder: pathlib.Path) -> None:
    image = pull(folder, "erofs")
    path = images.prepare(image).layers[0]
    os.utime(path)  # the same bytes, as after a copy of the store
    assert ImageFiles(storing.open_layers(images.own_store())).ready(image.chains[-1])
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    assert images.prepare(image, "erofs").layers == (path,)
    assert images.check(images.own_store()) == []


def test_many_make_and_use_one_file(data: pathlib.Path, folder: pathlib.Path) -> None:
    image = pull(folder, "overlay")
    failures: list[BaseException] = []

    def use() -> None:
        try:
            made = viscum.run(["cat", "/opt/new"], image=image, storage="erofs", user="0")
            assert made.text == "new"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len([name for name in names(data) if name.startswith("erofs-")]) == 1
    assert not [name for name in names(data) if name.startswith("new-")]


def test_a_store_can_keep_all_images_so(data: pathlib.Path, folder: pathlib.Path) -> None:
    storing.configure(images.own_store(), storage="erofs")
    pull(folder)
    assert [name.partition("-")[0] for name in names(data)] == ["erofs"]
    pull(folder, "overlay")
    assert not [name for name in names(data) if name.startswith("erofs")]


def test_what_is_measured_decides_how_new_images_are_kept(
    data: pathlib.Path, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for a kernel; what is there stays as it is."""
    made: list[Measured] = []

    def measure(times: tuple[int, int]) -> None:
        def answer(_store: object) -> Measured:
            made.append(Measured(os.uname().release, *times))
            return made[-1]

        monkeypatch.setattr(storage_choice, "_measure", answer)

    measure((1000, 900))
    storing.configure(images.own_store(), storage="")
    pull(folder)
    assert [name.partition("-")[0] for name in names(data)] == ["erofs"]
    pull(folder, "overlay")
    measure((1000, 1))
    store = images.own_store()
    known = read_settings(store.folder).measured
    assert known is not None
    assert known.best == "erofs"
    assert len(made) == 1
    storing.configure(store, measured=known.replace(kernel="6.1.0"))
    image = pull(folder)
    assert len(images.prepare(image).layers) > 1
    assert storage_choice.default_storage(store) == "erofs"
    assert len(made) == 2
    storing.configure(store, storage="overlay")
    assert storage_choice.default_storage(store) == "overlay"


@pytest.mark.parametrize(
    ("times", "best"),
    [((100, 90), "erofs"), ((100, 91), "overlay"), ((100, 200), "overlay"), ((0, 0), "overlay")],
)
def test_erofs_is_chosen_only_where_it_is_clearly_faster(times: tuple[int, int], best: str) -> None:
    assert Measured("6.18", *times).best == best


def test_measuring_leaves_nothing_and_tells_both_times(data: pathlib.Path) -> None:
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    store = images.own_store()
    storing.configure(store, storage="")
    known = storage_choice.measured(store)
    assert known.overlay > 0
    assert known.erofs > 0
    assert os.listdir(data / "pulls") == os.listdir(data / "layers") == []
    assert pathlib.Path("/proc/self/mountinfo").read_text() == mounts
    assert read_settings(store.folder).measured == known
    words = [f"{sysconfig.get_path('scripts')}/viscum", "store", "show", "--format"]
    form = "{{.Storage}} {{.Measured.Overlay}} {{.Measured.Erofs}}"
    told = subprocess.run([*words, form], capture_output=True, text=True, check=True).stdout
    assert told == f"{known.best} {known.overlay} {known.erofs}\n"


def test_where_no_erofs_can_be_mounted_the_reason_is_told(
    data: pathlib.Path, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int) -> int:
        raise OSError(19, "No such device")

    monkeypatch.setattr(native, "mount_erofs", refuse)
    storing.configure(images.own_store(), storage="")
    pull(folder)
    known = read_settings(images.own_store().folder).measured
    assert known is not None
    assert known.reason == "this kernel mounts no EROFS from a file: no such device"
    assert not [name for name in names(data) if "erofs" in name]


def test_ways_to_keep_images_that_there_are_not(
    data: pathlib.Path, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match="'squashfs' is unknown"):
        pull(folder, "squashfs")
    assert images.own_store().names() == {}

    def refuse(_file: int) -> int:
        raise OSError(15, "Block device required")

    monkeypatch.setattr(native, "mount_erofs", refuse)
    with pytest.raises(ImageError, match="mounts no EROFS from a file") as caught:
        pull(folder, "erofs")
    assert "--storage overlay" in caught.value.hint
    assert images.own_store().names() == {}
    assert not [name for name in names(data) if "erofs" in name]


def test_a_machine_keeps_its_file_when_the_image_is_kept_otherwise(
    data: pathlib.Path, folder: pathlib.Path
) -> None:
    pull(folder, "erofs")
    (name,) = names(data)
    run(VISCUM, "create", "--name", "waits", "-u", "0", "localhost/kept:1", "sleep", "9")
    pull(folder, "overlay")
    assert name in names(data)
    assert len(names(data)) > 1
    assert images.check(images.own_store()) == []
    assert (
        not images.prepare(images.find(images.own_store(), "localhost/kept:1"))
        .layers[0]
        .endswith(name)
    )
    run(VISCUM, "start", "waits")
    assert run(VISCUM, "exec", "waits", "cat", "/opt/new").stdout == b"new"
    run(VISCUM, "rm", "-f", "waits")
    before = os.stat(data / "layers" / name).st_ino
    images.prepare(images.find(images.own_store(), "localhost/kept:1"), "erofs")
    assert os.stat(data / "layers" / name).st_ino == before
    pull(folder, "overlay")
    assert name not in names(data)
