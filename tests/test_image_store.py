"""What a store may hold, layers that are unpacked while they come, and short names that are chosen."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import random
import stat
import subprocess
import sys
import sysconfig
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from imaging import Layout, Server, archive, folder_of, keep_as_folders, member, run
from needs import needs
from terminals import Terminal
from viscum import folders, image_exchange, image_pulling, images, storing
from viscum.errors import ImageError, SpecError
from viscum.image import short_names
from viscum.image.incoming import Incoming, Restarted
from viscum.image.layers import Layers
from viscum.image.platforms import parse_platform
from viscum.image.registries import read_registries
from viscum.image.room import OverQuota
from viscum.image.settings import read_settings
from viscum.image.transport import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viscum.image.store import Store

OWN = parse_platform(None)
PLAIN = Settings(tls_verify=False)
VISCUM = os.path.join(sysconfig.get_path("scripts"), "viscum")
MIB = 1 << 20


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    (folder / "registries.conf").write_text("")
    keep_as_folders(folder / "data")
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
    monkeypatch.setenv("VISCUM_SHORT_NAMES", str(folder / "cache" / "short.conf"))
    monkeypatch.setattr("viscum.image.registry.STALLED_SECONDS", 0.01)
    yield folder / "data"
    folders.remove_tree(str(folder / "data"))


def noise(seed: int, size: int = MIB) -> bytes:
    return archive(member(f"f{seed}", random.Random(seed).randbytes(size)))


@pytest.fixture
def layout(folder: pathlib.Path) -> Layout:
    """Images `1` to `4` of one layer each, 1 MiB packed and 1 MiB unpacked."""
    made = Layout(folder / "layout")
    for number in range(1, 5):
        made.image(f"localhost/n{number}:1", [noise(number)])
    made.image("localhost/bomb:1", [archive(member("zeros", bytes(20 * MIB)))])
    return made


def take(layout: Layout, number: object) -> images.Image:
    return image_pulling.pull(f"oci:{layout.path}:localhost/{number}:1", OWN, Settings())


def files_of(store: Store) -> set[str]:
    """Return everything that a store has, but for its locks."""
    return {
        os.path.relpath(os.path.join(top, name), store.folder)
        for top, _, names in os.walk(store.folder)
        for name in names
        if not name.endswith(".lock")
    }


def holding(quota: int, over: str = "fail") -> Store:
    store = images.own_store()
    storing.configure(store, quota=quota, over=over)
    return store


# Quotas.


def test_a_store_without_a_bound_takes_what_comes(layout: Layout) -> None:
    for number in range(1, 5):
        take(layout, f"n{number}")
    usage = storing.usage(images.own_store())
    assert 8 * MIB < usage.total < 9 * MIB
    assert usage.images == usage.partial == 0


@pytest.mark.parametrize("quota", [MIB // 2, 3 * MIB, 4 * MIB - 1], ids=str)
def test_what_is_too_much_is_one_error_and_changes_nothing(layout: Layout, quota: int) -> None:
    take(layout, "n1")
    store = holding(quota)
    before, index = files_of(store), store.entries()
    with pytest.raises(OverQuota, match="the store may hold") as caught:
        take(layout, "n2")
    assert "store set --quota" in caught.value.hint
    assert files_of(store) == before
    assert store.entries() == index
    storing.configure(store, quota=None)
    assert take(layout, "n2").name == "localhost/n2:1"


def test_what_unpacks_to_too_much_is_stopped_on_the_way(layout: Layout) -> None:
    store = holding(5 * MIB)
    before = files_of(store)
    with pytest.raises(OverQuota):
        take(layout, "bomb")
    assert files_of(store) == before
    assert storing.usage(store).total == 0


def test_what_nothing_needs_goes_first_where_that_is_wanted(layout: Layout) -> None:
    take(layout, "n1")
    store = images.own_store()
    store.forget("localhost/n1:1")
    holding(3 * MIB)
    with pytest.raises(OverQuota):
        take(layout, "n2")
    holding(3 * MIB, "gc")
    take(layout, "n2")
    assert list(store.names()) == ["localhost/n2:1"]
    with pytest.raises(OverQuota):
        take(layout, "n3")
    assert list(store.names()) == ["localhost/n2:1"]


def test_the_oldest_images_go_where_that_is_wanted(layout: Layout) -> None:
    for number in (2, 1, 3):
        take(layout, f"n{number}")
    store = holding(7 * MIB, "evict")
    take(layout, "n4")
    assert sorted(store.names()) == ["localhost/n1:1", "localhost/n3:1", "localhost/n4:1"]
    assert storing.usage(store).total < 7 * MIB
    assert images.check(store) == []
    holding(10 * MIB, "evict")
    with pytest.raises(OverQuota):
        take(layout, "bomb")
    assert take(layout, "n4").name


@needs("userns")
def test_images_of_machines_are_not_evicted(layout: Layout, data: pathlib.Path) -> None:
    for number in (1, 2):
        take(layout, f"n{number}")
    run(VISCUM, "create", "--name", "one", "localhost/n1:1", "/x")
    store = holding(5 * MIB, "evict")
    take(layout, "n3")
    assert sorted(store.names()) == ["localhost/n1:1", "localhost/n3:1"]
    with pytest.raises(OverQuota):
        holding(3 * MIB, "evict")
        take(layout, "n4")
    assert "localhost/n1:1" in store.names()
    run(VISCUM, "rm", "one")


def test_imports_keep_to_the_bound(folder: pathlib.Path) -> None:
    (folder / "root.tar").write_bytes(noise(9, 2 * MIB))
    store = holding(3 * MIB)
    before = files_of(store)
    with pytest.raises(OverQuota):
        image_exchange.import_file(str(folder / "root.tar"), "big:1")
    assert files_of(store) == before


def test_an_import_that_fails_leaves_nothing(folder: pathlib.Path) -> None:
    store = images.own_store()
    before = files_of(store)
    (folder / "root.tar").write_bytes(archive(member("a/../../b", b"x")))
    with pytest.raises(ImageError, match=r"leads out with '\.\.'"):
        image_exchange.import_file(str(folder / "root.tar"), "bad:1")
    assert files_of(store) == before


def test_pulls_at_once_keep_to_the_bound_together(layout: Layout) -> None:
    store = holding(5 * MIB)
    done: list[object] = []

    def one(number: int) -> None:
        try:
            done.append(take(layout, f"n{number}").name)
        except OverQuota as error:
            done.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in done if isinstance(each, str)]) == 2
    assert storing.usage(store).total <= 5 * MIB
    assert images.check(store) == []


def test_settings_are_kept_shown_and_refused(layout: Layout) -> None:
    take(layout, "n1")
    said = run(VISCUM, "store", "set", "--quota", "1g", "--over-quota", "gc").stdout.decode()
    assert said.startswith("the store has 2")
    assert said.endswith("of 1GiB\n")
    table = run(VISCUM, "store", "show").stdout.decode()
    assert "quota (gc)" in table
    form = "{{.Quota}} {{.OverQuota}} {{.Storage}} {{.Partial}}"
    shown = run(VISCUM, "store", "show", "--format", form)
    assert shown.stdout == b"1073741824 gc overlay 0\n"
    assert b"of 1GiB" in run(VISCUM, "gc").stdout
    run(VISCUM, "store", "set", "--quota", "none")
    store = images.own_store()
    assert read_settings(store.folder).quota is None
    for words in (
        ("--quota", "much"),
        ("--quota", "-1"),
        ("--over-quota", "x"),
        ("--storage", "x"),
        (),
    ):
        failed = subprocess.run(
            [VISCUM, "store", "set", *words], capture_output=True, text=True, check=False
        )
        assert failed.returncode == 125
        assert "Traceback" not in failed.stderr
    pathlib.Path(store.folder, "store.json").write_text('{"quota": "x"}')
    with pytest.raises(ImageError, match=r"store\.json"):
        take(layout, "n2")
    pathlib.Path(store.folder, "store.json").write_text('{"storage": "x"}')
    with pytest.raises(ImageError, match="unknown"):
        take(layout, "n2")


# While it comes.


def test_a_layer_is_unpacked_while_it_comes_and_has_no_name_before(
    folder: pathlib.Path, data: pathlib.Path
) -> None:
    made = Layout(folder / "layout")
    made.image("x", [noise(1, 4 * MIB)])
    seen: list[list[str]] = []
    go_on = threading.Event()
    with Server() as server:
        server.serve(made, "r")
        path, (_, _, body) = next(
            item for item in server.answers.items() if "blobs" in item[0] and len(item[1][2]) > MIB
        )

        def slowly(handler: object) -> None:
            handler.wfile.write(body[: 3 * MIB])
            for _ in range(2000):
                found = [str(each) for each in (data / "layers").glob("new-*/f1")]
                if found and os.stat(found[0]).st_size > MIB:
                    seen.append(os.listdir(data / "layers"))
                    break
                go_on.wait(0.005)
            handler.wfile.write(body[3 * MIB :])

        server.answers[path] = (200, {"Content-Length": str(len(body))}, slowly)
        image_pulling.pull(f"{server.host}/r:x", OWN, PLAIN)
    (names,) = seen
    assert [name for name in names if not name.startswith("new-")] == []
    assert images.check(images.own_store()) == []


def test_bytes_of_another_digest_get_no_name(folder: pathlib.Path, data: pathlib.Path) -> None:
    made = Layout(folder / "layout")
    made.image("x", [noise(1, 2 * MIB)], pack=bytes)
    with Server() as server:
        server.serve(made, "r")
        path, (_, _, body) = next(
            item for item in server.answers.items() if "blobs" in item[0] and len(item[1][2]) > MIB
        )
        # A whole archive, of the right length: nothing but the digest tells.
        other = bytearray(body)
        other[-1] ^= 1
        server.answers[path] = (200, {}, bytes(other))
        with pytest.raises(
            ImageError, match=f"has the digest sha256:{hashlib.sha256(other).hexdigest()}"
        ):
            image_pulling.pull(f"{server.host}/r:x", OWN, PLAIN)
        assert os.listdir(data / "layers") == []
        assert os.listdir(data / "pulls") == []
        server.answers[path] = (200, {}, body)
        assert image_pulling.pull(f"{server.host}/r:x", OWN, PLAIN).name


def test_a_download_that_begins_anew_is_unpacked_anew(
    folder: pathlib.Path, data: pathlib.Path
) -> None:
    made = Layout(folder / "layout")
    made.image("x", [noise(1, 4 * MIB)])
    asked: list[str] = []
    with Server() as server:
        server.serve(made, "r")
        path, (_, _, body) = next(
            item for item in server.answers.items() if "blobs" in item[0] and len(item[1][2]) > MIB
        )

        def broken(handler: object) -> None:
            asked.append(handler.headers.get("Range", ""))
            handler.wfile.write(body[: 2 * MIB] if len(asked) == 1 else body)

        # It breaks off, and knows no Range.
        server.answers[path] = (200, {"Content-Length": str(len(body))}, broken)
        image_pulling.pull(f"{server.host}/r:x", OWN, PLAIN)
    assert len(asked) > 1
    assert asked[1].startswith("bytes=")
    (layer,) = [path for path in (data / "layers").iterdir() if path.is_dir()]
    assert (layer / "f1").read_bytes() == random.Random(1).randbytes(4 * MIB)
    assert images.check(images.own_store()) == []


def test_readers_of_what_comes_wait_fail_and_notice(folder: pathlib.Path) -> None:
    path = folder / "blob"
    with open(path, "w+b", buffering=0) as file:
        incoming = Incoming(str(path))
        incoming.begin(file.fileno())
        file.write(b"first")
        incoming.grew(5)
        reader = incoming.open()
        assert reader.read(3) + reader.read(9) == b"first"
        late = threading.Timer(0.05, lambda: (file.write(b"more"), incoming.grew(9)))
        late.start()
        assert reader.read(9) == b"more"
        late.join()
        incoming.restarted()
        with pytest.raises(Restarted):
            reader.read(1)
        incoming.end(ImageError("broken"))
        for again in (incoming.open, incoming.whole):
            with pytest.raises(ImageError, match="broken"):
                again()
        reader.close()
    done = Incoming(str(path))
    done.end()
    done.end(ImageError("too late"))
    assert done.whole() == str(path)
    with contextlib.closing(done.open()) as reader:
        assert reader.read(99) == b"firstmore"


KILLED = """
import sys, threading, os, time, random
from viscum import image_pulling
from viscum.image.transport import Settings
from viscum.image.platforms import parse_platform
threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), 9)).start()
image_pulling.pull("oci:" + sys.argv[1], parse_platform(None), Settings(), None, sys.argv[3] or None)
"""


@needs("root")
@pytest.mark.parametrize("storage", ["", "erofs"])
def test_pulls_killed_anywhere_leave_a_store_that_is_whole(
    folder: pathlib.Path, storage: str
) -> None:
    made = Layout(folder / "layout")
    made.image("localhost/x:1", [noise(number, 2 * MIB) for number in range(6)])
    place = f"{made.path}:localhost/x:1"
    chance = random.Random(4)
    ends = []
    for _ in range(8):
        words = [sys.executable, "-c", KILLED, place, str(0.08 + chance.random() / 4), storage]
        ends.append(subprocess.run(words, capture_output=True, check=False).returncode)
        store = images.own_store()
        layers: Layers = storing.open_layers(store)
        for name in os.listdir(store.layers):
            if layers.note(f"{store.layers}/{name}") is not None and name.startswith("sha256"):
                (file,) = os.listdir(f"{store.layers}/{name}")
                assert os.stat(f"{store.layers}/{name}/{file}").st_size == 2 * MIB
        assert not [fault for fault in images.check(store) if "digest" in fault.what]
    assert -9 in ends
    image = image_pulling.pull(f"oci:{place}", OWN, Settings(), None, storage or None)
    assert image.name == "localhost/x:1"
    images.collect(images.own_store(), everything=True)
    assert images.check(images.own_store()) == []
    assert not [name for name in os.listdir(images.own_store().layers) if name.startswith("new-")]


# Short names.


TWO = 'unqualified-search-registries = ["{0}", "{1}"]\nshort-name-mode = "{2}"\n'
INSECURE = '[[registry]]\nlocation = "{0}"\ninsecure = true\n'


@pytest.fixture
def two(folder: pathlib.Path, layout: Layout) -> Iterator[tuple[Server, Server]]:
    """Two registries, the second of which has `n1`."""
    with Server() as first, Server() as second:
        second.serve(layout, "n1")
        second.answers["/v2/n1/manifests/latest"] = second.answers[
            "/v2/n1/manifests/localhost/n1:1"
        ]
        configure(folder, first, second, "enforcing")
        yield first, second


def configure(folder: pathlib.Path, first: Server, second: Server, mode: str) -> None:
    text = TWO.format(first.host, second.host, mode)
    text += INSECURE.format(first.host) + INSECURE.format(second.host)
    (folder / "registries.conf").write_text(text)


def test_one_of_several_registries_is_chosen_at_a_terminal_and_remembered(
    two: tuple[Server, Server], folder: pathlib.Path
) -> None:
    first, second = two
    with Terminal([VISCUM, "pull", "-q", "n1"]) as terminal:
        terminal.expect(r"1  127.0.0.1:\d+/n1\s+2  127.0.0.1:\d+/n1")
        terminal.expect(r"which one\? \[1-2\]")
        terminal.type("7\n")
        terminal.expect(r"which one\? \[1-2\]")
        terminal.type("2\n")
        terminal.expect("sha256:[0-9a-f]{64}")
        assert terminal.process.wait(20) == 0
    assert list(images.own_store().names()) == [f"{second.host}/n1:latest"]
    assert not first.asked
    assert short_names.path() == str(folder / "cache" / "short.conf")
    assert f'"n1" = "{second.host}/n1"' in pathlib.Path(short_names.path()).read_text()
    again = run(VISCUM, "pull", "-q", "n1", stdin=subprocess.DEVNULL)
    assert again.stdout.startswith(b"sha256:")
    assert images.find(images.own_store(), "n1").name == f"{second.host}/n1:latest"


def test_without_a_terminal_nothing_is_chosen(two: tuple[Server, Server]) -> None:
    failed = subprocess.run(
        [VISCUM, "pull", "n1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 125
    assert "short name 'n1' could be of" in failed.stderr
    assert "hint: write the registry too" in failed.stderr
    assert not two[0].asked
    assert not os.path.exists(short_names.path())


def test_a_name_is_remembered_only_once_it_was_pulled(two: tuple[Server, Server]) -> None:
    with pytest.raises(ImageError):
        image_pulling.pull("n1", OWN, PLAIN, ask=lambda _text, choices: choices[0])
    assert not os.path.exists(short_names.path())
    with Terminal([VISCUM, "run", "n1:latest", "/x"]) as terminal:
        terminal.expect(r"which one\?")
        terminal.type("\x04")
        terminal.expect("no registry was chosen for 'n1:latest'")


def test_other_modes_ask_as_podman_does(two: tuple[Server, Server], folder: pathlib.Path) -> None:
    asked: list[str] = []

    def ask(text: str, choices: object) -> object:
        asked.append(text)
        return choices[1]

    configure(folder, *two, "disabled")
    assert image_pulling.pull("n1", OWN, PLAIN, ask=ask).name == f"{two[1].host}/n1:latest"
    assert not asked
    configure(folder, *two, "permissive")
    image_pulling.pull("n1", OWN, PLAIN, ask=ask)
    image_pulling.pull("n1", OWN, PLAIN, ask=ask)
    assert asked == ["n1"]


def test_chosen_names_are_kept_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    short_names.remember("a", "one.example/a")
    short_names.remember("b/c", "two.example/b/c")
    short_names.remember("a", "three.example/a")
    known = dict(read_registries().aliases)
    assert known == {"a": "three.example/a", "b/c": "two.example/b/c"}
    pathlib.Path(short_names.path()).write_text("[aliases\n")
    with pytest.raises(ImageError, match=r"short.conf is no usable TOML"):
        short_names.remember("d", "one.example/d")
    monkeypatch.delenv("VISCUM_SHORT_NAMES")
    if os.geteuid() == 0:
        assert short_names.path() == "/var/cache/containers/short-name-aliases.conf"


def test_strange_words_for_storage_are_refused(layout: Layout) -> None:
    with pytest.raises(SpecError, match="unknown"):
        image_pulling.obtain("localhost/n1:1", storage="btrfs")
    assert images.own_store().names() == {}
    take(layout, "n1")


# What strangers nest.


@needs("root")
def test_folders_nested_deep_come_run_and_go(folder: pathlib.Path) -> None:
    depth = 1900
    made = Layout(folder / "layout")
    deep = archive(
        *(folder_of("/".join(["d"] * count)) for count in range(1, depth)),
        member("/".join([*["d"] * (depth - 1), "f"]), b"deep"),
    )
    layers = [archive(member(f"f{number}", b"x")) for number in range(5)]
    made.image("localhost/deep:1", [*layers, deep])
    image = image_pulling.pull(f"oci:{made.path}:localhost/deep:1", OWN, Settings())
    (flat,) = images.prepare(image).layers
    assert "flat-" in flat
    with folders.opened(flat) as top:
        with open(
            os.open("/".join([*["d"] * (depth - 1), "f"]), os.O_RDONLY, dir_fd=top), "rb"
        ) as file:
            assert file.read() == b"deep"
    images.remove(images.own_store(), image.name)
    images.collect(images.own_store(), everything=True)
    assert os.listdir(images.own_store().layers) == []


def test_closed_folders_are_removed(folder: pathlib.Path) -> None:
    made = Layout(folder / "layout")
    closed = archive(folder_of("a", 0o500), folder_of("a/b", 0), member("a/b/c", b"x", mode=0))
    made.image("localhost/closed:1", [closed])
    image = image_pulling.pull(f"oci:{made.path}:localhost/closed:1", OWN, Settings())
    images.remove(images.own_store(), image.name)
    assert os.listdir(images.own_store().layers) == []


def test_layers_of_an_archive_are_read_apart(folder: pathlib.Path) -> None:
    """Several threads take blobs from one archive, whose reader has one position."""
    made = Layout(folder / "layout")
    made.image("localhost/many:1", [noise(number, 300_000) for number in range(12)])
    with tarfile.open(folder / "archive.tar.gz", "w:gz", compresslevel=1) as packed:
        packed.add(made.path, ".")
    with tarfile.open(folder / "archive.tar", "w") as plain:
        plain.add(made.path, ".")
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for name in ("archive.tar", "archive.tar.gz") * 3:
            (image,) = image_pulling.load(str(folder / name))
            images.remove(images.own_store(), image.name)
    finally:
        sys.setswitchinterval(switch)


# What a crash leaves.


def test_what_a_killed_process_left_is_in_nobodys_way(layout: Layout, data: pathlib.Path) -> None:
    image = take(layout, "n1")
    chain = image.chains[-1].replace(":", "-")
    images.remove(images.own_store(), image.name)
    layers = data / "layers"
    for name in (f"new-{chain}", f"new-tree-erofs-{chain}", "new-gone", chain, "new-other"):
        (layers / name / "below").mkdir(parents=True)
    for name in (f"new-{chain}.json", f"new-erofs-{chain}", f"new-erofs-{chain}.json"):
        (layers / name).write_text("{")
    image = take(layout, "n1")
    if os.geteuid() == 0:
        assert images.prepare(image, "erofs").layers[0].endswith(f"erofs-{chain}")
    images.remove(images.own_store(), image.name)
    assert os.listdir(layers) == []


def test_a_layer_waits_for_all_below_it(folder: pathlib.Path, data: pathlib.Path) -> None:
    """The one right below may be there while one further down is gone."""
    made = Layout(folder / "layout")
    bottom = archive(folder_of("d", 0o711), *(member(f"d/{n}", b"x" * 9) for n in range(4000)))
    middle, top = archive(member("m", b"")), archive(member("d/new", b""))
    made.image("localhost/three:1", [bottom, middle, top])
    image = image_pulling.pull(f"oci:{made.path}:localhost/three:1", OWN, Settings())
    for chain in (image.chains[0], image.chains[2]):
        name = data / "layers" / chain.replace(":", "-")
        pathlib.Path(f"{name}.json").unlink()
        folders.remove_tree(str(name))
    image_pulling.pull(f"oci:{made.path}:localhost/three:1", OWN, Settings())
    there = data / "layers" / image.chains[2].replace(":", "-") / "d"
    assert stat.S_IMODE(there.stat().st_mode) == 0o711
