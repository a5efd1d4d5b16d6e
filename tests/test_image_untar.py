"""Layers as they are unpacked: every kind of entry, and every trick."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging import archive, digest, folder_of, link, member, run, tree
from needs import needs
from viscum import folders, native
from viscum.errors import ImageError
from viscum.image import trees
from viscum.image.incoming import Stored
from viscum.image.room import Part, Room
from viscum.unpacker import LocalWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT_FLAGS = 7
USER_FLAGS = 0


def unpack(
    data: bytes, top: pathlib.Path, *, flags: int | None = None, limit: int = 1 << 30, step: int = 0
) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]:
    """Unpack an archive below a folder, in pieces of `step` bytes."""
    top.mkdir(exist_ok=True)
    if flags is None:
        flags = ROOT_FLAGS if os.geteuid() == 0 else USER_FLAGS
    with folders.opened(str(top)) as folder:
        untar = native.Untar(folder, flags, limit, 10_000)
        for at in range(0, len(data), step or len(data) or 1):
            untar.feed(data[at : at + (step or len(data))])
        return untar.finish()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [0, 1, 511, 700])
def test_layer_has_what_the_archive_has(folder: pathlib.Path, form: int, step: int) -> None:
    deep = "/".join(["n" * 60] * 3)
    made = [
        folder_of("d", 0o750),
        member("d/f", b"data" * 500, mode=0o640),
        member("./d/../x".replace("../", ""), b"x"),
        member("/absolute", b"y"),
        link("l", "d/f"),
        link("d/h", "d/f", tarfile.LNKTYPE),
        member("empty"),
        member(f"{deep}/long", b"z"),
        member("suid", b"s", mode=0o6755),
        member("pipe", type=tarfile.FIFOTYPE),
    ]
    if form != tarfile.USTAR_FORMAT:
        made += [member("e" * 200, b"1"), link("t", "t" * 180), member("ö/é", b"2")]
    unpack(archive(*made, form=form), folder / "out", step=step)
    out = folder / "out"
    assert (out / "d/f").read_bytes() == b"data" * 500
    assert (out / "d/h").stat().st_ino == (out / "d/f").stat().st_ino
    assert stat.S_IMODE((out / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((out / "suid").stat().st_mode) == 0o6755
    assert (out / "l").readlink() == pathlib.Path("d/f")
    assert (out / deep / "long").read_bytes() == b"z"
    assert (out / "absolute").exists()
    assert int((out / "d").stat().st_mtime) == int((out / "d/f").stat().st_mtime) == 1_600_000_000
    assert stat.S_ISFIFO((out / "pipe").stat().st_mode)


@needs("root", "image-tools")
def test_layer_is_as_tar_and_bsdtar_unpack_it(folder: pathlib.Path) -> None:
    """A tree with every odd thing, packed by GNU tar in three formats, is the same by each."""
    source = folder / "source"
    (source / "a/b").mkdir(parents=True)
    (source / "a/file").write_bytes(os.urandom(70_000))
    os.link(source / "a/file", source / "a/b/hard")
    (source / "a/link").symlink_to("../../outside")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(source / "fifo")
    os.chown(source / "a/file", 1234, 70_000)
    (source / "a/file").chmod(0o4711)
    (source / ("n" * 150)).mkdir()
    os.chown(source / "a/link", 5, 6, follow_symlinks=False)
    with open(source / "sparse", "wb") as file:
        for at in (0, 1 << 20, 5 << 20):
            file.seek(at)
            file.write(b"part" * 300)
        file.truncate(9 << 20)
    os.setxattr(source / "a/b", "user.note", b"\0\n=kept")
    os.setxattr(
        source / "a/b/hard",
        "security.capability",
        bytes.fromhex("010000020020000000000000" + "00" * 8),
    )
    for form in ("gnu", "pax", "posix"):
        packed = folder / f"{form}.tar"
        options = ["--sparse", f"--format={form}", "--numeric-owner"]
        options += ["--xattrs", "--xattrs-include=*"] if form != "gnu" else []
        run("tar", *options, "-cf", packed, "-C", source, ".")
        unpack(packed.read_bytes(), folder / form, step=100_000)
        theirs = folder / f"{form}-theirs"
        theirs.mkdir()
        run("bsdtar", "-xpf", packed, "-C", theirs)
        assert tree(folder / form) == tree(theirs) == tree(source)
        assert (folder / form / "sparse").stat().st_blocks * 512 < 1 << 20
        if form != "gnu":
            assert os.getxattr(folder / form / "a/b", "user.note") == b"\0\n=kept"
            assert os.getxattr(folder / form / "a/file", "security.capability")


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
@needs("image-tools")
def test_sparse_files_of_every_version_keep_their_holes(folder: pathlib.Path, version: str) -> None:
    source = folder / "sparse"
    with open(source, "wb") as file:
        for at in range(0, 64 << 16, 1 << 16):
            file.seek(at)
            file.write(b"%d" % at)
    packed = folder / "p.tar"
    run(
        "tar",
        "--sparse",
        f"--sparse-version={version}",
        "--format=pax",
        "-cf",
        packed,
        "-C",
        folder,
        "sparse",
    )
    for step in (0, 513):
        unpack(packed.read_bytes(), folder / f"out{step}", step=step)
        assert (folder / f"out{step}/sparse").read_bytes() == source.read_bytes()


@needs("root")
def test_whiteouts_become_those_of_overlayfs(folder: pathlib.Path) -> None:
    data = archive(
        member("a/.wh.gone"),
        folder_of("o"),
        member("o/.wh..wh..opq"),
        member("o/new", b"n"),
        member(".wh.was-file"),
        folder_of("was-file"),
        member("was-file/in", b"i"),
        folder_of("late"),
        member(".wh.late"),
        member(".wh.implicit"),
        member("implicit/file", b"f"),
        member(".wh..wh.plnk", b"aufs"),
    )
    unpack(data, folder / "out")
    out = folder / "out"
    gone = (out / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    for name in ("o", "was-file", "late", "implicit"):
        for kind in ("user", "trusted"):
            assert os.getxattr(out / name, f"{kind}.overlay.opaque") == b"y", name
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a", "implicit", "late", "o", "was-file"]


def test_links_lead_nowhere_else(folder: pathlib.Path) -> None:
    """Paths through links of the archive end inside of the layer, whatever they say."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    for target in (str(outside), "../outside", "/../../outside", "l2", "/proc/self/root"):
        data = archive(
            folder_of("l2"),
            link("l", target),
            member("l/written", b"w"),
            member("l/kept", b"w"),
            link("hard", "l/kept", tarfile.LNKTYPE),
        )
        top = folder / f"out{len(target)}{target[0] == '/'}"
        with contextlib.suppress(native.TarFailure):
            unpack(data, top)
        assert [path.name for path in outside.iterdir()] == ["kept"], target
        assert (outside / "kept").read_text() == "kept"
        assert (outside / "kept").stat().st_nlink == 1
    assert not pathlib.Path("/written").exists()


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "a/..", "/.."])
def test_names_that_lead_out_are_refused(folder: pathlib.Path, name: str) -> None:
    for entry in (member(name, b"x"), folder_of(name), link("ok", name, tarfile.LNKTYPE)):
        with pytest.raises(native.TarFailure) as caught:
            unpack(archive(entry), folder / "out")
        assert caught.value.args[0] == 4


def test_later_entries_replace_earlier_ones(folder: pathlib.Path) -> None:
    data = archive(
        member("f", b"1"),
        member("f", b"2", mode=0o600),
        folder_of("d"),
        member("d/in", b"x"),
        member("d", b"file now"),
        member("g", b"x"),
        folder_of("g"),
        member("g/in", b"y"),
        link("s", "f"),
        member("s", b"no link"),
        folder_of("t"),
        member("t/a", b"a"),
        link("t", "g"),
        member("t/b", b"b"),
    )
    unpack(data, folder / "out")
    out = folder / "out"
    assert (out / "f").read_bytes() == b"2"
    assert (out / "d").read_bytes() == b"file now"
    assert (out / "g/in").read_bytes() == b"y"
    assert (out / "s").read_bytes() == b"no link"
    assert (out / "t").is_symlink()
    assert (out / "g/b").read_bytes() == b"b"


def failing(data: bytes, top: pathlib.Path, **options: int) -> int:
    with pytest.raises(native.TarFailure) as caught:
        unpack(data, top, **options)
    return int(caught.value.args[0])


def test_broken_archives_are_refused(folder: pathlib.Path) -> None:
    good = archive(member("f", b"x" * 2000))
    out = folder / "out"
    assert failing(good[:1000], out) == 10
    assert failing(b"x" * 512, out) == 2
    assert failing(good[:156] + b"Z" + good[157:], out) == 2  # the checksum does not fit
    assert failing(archive(member("f", b"", type=b"Z")), out) == 7
    assert failing(archive(member("f", b"x" * 2000)), out, limit=1999) == 8
    many = archive(*[member(f"f{n}") for n in range(10_001)])
    assert failing(many, out) == 9
    assert failing(archive(member("a", b"x"), member("a/b", b"y")), out) == 11


def test_huge_sizes_are_refused(folder: pathlib.Path) -> None:
    entry, _ = member("f", b"")
    entry.size = 1 << 50
    header = entry.tobuf(tarfile.GNU_FORMAT)
    assert failing(header, folder / "out", limit=1 << 40) == 8
    entry.size = 0
    for pax in ({"size": "-1"}, {"size": "9" * 30}, {"mtime": "x"}, {"path": ""}):
        entry.pax_headers = pax
        data = entry.tobuf(tarfile.PAX_FORMAT)
        assert failing(data + b"\0" * 1024, folder / "out") in (4, 5)
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "5", "GNU.sparse.name": "s"}
    for text in (b"99999999999999999999\n", b"1\n5\n", b"x\n", b"2\n0\n3\n1\n9\n"):
        entry.pax_headers = sparse
        entry.size = 512
        data = entry.tobuf(tarfile.PAX_FORMAT) + text.ljust(512, b"\0") + b"\0" * 1024
        assert failing(data, folder / "out") in (6, 10)


def test_overlay_attributes_of_strangers_are_dropped(folder: pathlib.Path) -> None:
    entry, data = member("f", b"x")
    entry.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.user.fine": "kept",
    }
    unpack(archive((entry, data)), folder / "out")
    assert os.listxattr(folder / "out/f") == ["user.fine"]


def test_without_privileges_what_cannot_be_made_is_left_out(folder: pathlib.Path) -> None:
    entries = [member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3), member("f", uid=77)]
    told = unpack(archive(*entries), folder / "out", flags=USER_FLAGS)
    assert told[2] == 1
    assert not (folder / "out/dev").exists()
    assert (folder / "out/f").stat().st_uid == os.geteuid()


# What a layer takes from those below.


def layered(folder: pathlib.Path, *archives: bytes) -> list[str]:
    """Unpack archives as layers on each other; return their folders, the lowest first."""
    made: list[str] = []
    for number, data in enumerate(archives):
        blob, top = folder / f"{number}.tar", folder / f"layer{number}"
        blob.write_bytes(data)
        top.mkdir()
        LocalWorker().unpack(
            Stored(str(blob)), digest(data), str(top), made, lambda: None, Part(Room())
        )
        made.append(str(top))
    return made


def test_folders_that_are_not_mentioned_look_as_below(folder: pathlib.Path) -> None:
    base = archive(folder_of("", 0o751), folder_of("tmp", 0o1777), folder_of("s", 0o700))
    made = layered(folder, base, archive(member("tmp/f", b"x"), member("s/f"), member("new/f")))
    top = pathlib.Path(made[1])
    modes = {name: stat.S_IMODE((top / name).stat().st_mode) for name in (".", "tmp", "s", "new")}
    assert modes == {".": 0o751, "tmp": 0o1777, "s": 0o700, "new": 0o755}
    assert int((top / "tmp").stat().st_mtime) == 1_600_000_000


def test_hard_links_reach_into_layers_below(folder: pathlib.Path) -> None:
    made = layered(
        folder,
        archive(member("d/f", b"below", mode=0o600), member("gone", b"g")),
        archive(link("d/h", "d/f", tarfile.LNKTYPE)),
    )
    assert (pathlib.Path(made[1]) / "d/h").read_bytes() == b"below"
    hidden = archive(member(".wh.gone"), link("h", "gone", tarfile.LNKTYPE))
    second = folder / "second"
    second.mkdir()
    with pytest.raises(ImageError, match="no layer has"):
        layered(second, archive(member("gone", b"g")), hidden)


@needs("root")
def test_a_flat_chain_shows_what_the_overlay_shows(folder: pathlib.Path) -> None:
    layers = layered(
        folder,
        archive(
            folder_of("", 0o755),
            member("keep", b"k"),
            member("gone", b"g"),
            folder_of("d", 0o711),
            member("d/a", b"a"),
            folder_of("o"),
            member("o/old", b"o"),
            folder_of("x"),
            member("x/in", b"x"),
            member("file-then-folder", b"f"),
        ),
        archive(
            member(".wh.gone"),
            member("d/b", b"b"),
            member("d/.wh.a"),
            folder_of("o", 0o700),
            member("o/.wh..wh..opq"),
            member("o/new", b"n"),
            member("x", b"a file"),
            folder_of("file-then-folder"),
        ),
        archive(member("gone", b"again"), link("keep", "d/b")),
    )
    flat, shown = folder / "flat", folder / "shown"
    flat.mkdir()
    shown.mkdir()
    trees.flatten(str(flat), layers)
    options = "ro,lowerdir=" + ":".join(reversed(layers))
    script = f"mount -t overlay overlay -o {options} {shown} && tar -cf - -C {shown} . | tar -tvf -"
    listed = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=True)
    own = run("sh", "-c", f"tar -cf - -C {flat} . | tar -tvf -")

    def rows(text: bytes) -> list[bytes]:
        return sorted(line.replace(b" link to ", b" ") for line in text.splitlines())

    assert rows(listed.stdout) == rows(own.stdout)


_names = st.sampled_from(
    "a b a/b a/b/c l l/x .wh.a a/.wh..wh..opq d d/ ./d l/../x .wh. / ..".split()
)
_entries = st.lists(
    st.tuples(
        _names,
        st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
        st.sampled_from(["a", "../outside", "/", "l", "/outside", "a/b"]),
        st.binary(max_size=40),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    path = tmp_path_factory.mktemp("ground")
    (path / "outside").mkdir()
    (path / "outside/a").write_text("kept")
    yield path
    folders.remove_tree(str(path))


@given(_entries, st.integers(0, 600))
@settings(max_examples=150)
def test_no_archive_reaches_outside(
    ground: pathlib.Path, entries: list[tuple[str, bytes, str, bytes]], step: int
) -> None:
    made = []
    for name, kind, target, data in entries:
        info, _ = member(name, data if kind == tarfile.REGTYPE else b"", type=kind)
        info.linkname = target if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        made.append((info, data if kind == tarfile.REGTYPE else b""))
    top = ground / "out"
    with contextlib.suppress(native.TarFailure):
        unpack(archive(*made), top, step=step)
    folders.remove_tree(str(top))
    assert sorted(path.name for path in ground.iterdir()) == ["outside"]
    assert [(path.name, path.read_text()) for path in (ground / "outside").iterdir()] == [
        ("a", "kept")
    ]


@given(st.binary(max_size=1500), st.integers(1, 600))
@settings(max_examples=150)
def test_any_bytes_end_cleanly(ground: pathlib.Path, data: bytes, step: int) -> None:
    """Bytes with a checksum that fits, so that they are taken for a header."""
    block = bytearray(data[:512].ljust(512, b"\0"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(native.TarFailure):
        unpack(bytes(block) + data[512:], ground / "out", step=step)
    folders.remove_tree(str(ground / "out"))
    assert [path.name for path in ground.iterdir()] == ["outside"]
