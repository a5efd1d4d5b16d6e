"""Tar streams as an enemy writes them: nothing is made outside of the target, nothing crashes."""

from __future__ import annotations

import io
import os
import pathlib
import random
import tarfile
from typing import TYPE_CHECKING

import hypothesis
import hypothesis.strategies as st
import pytest

from needs import needs
from viscum.errors import ViscumError
from viscum.packing import Packer, open_source
from viscum.unpacking import Target, Unpacker, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator


class Field:
    """A target folder, and beside it what must never be touched."""

    def __init__(self, top: pathlib.Path) -> None:
        self.target = top / "target"
        self.outside = top / "outside"
        self.target.mkdir()
        self.outside.mkdir()
        (self.outside / "file").write_text("precious")

    def unpack(self, stream: bytes, *, packed: bool = False, **options: object) -> list[str]:
        """Unpack; return what was warned of. Raises ViscumError, OSError."""
        warnings: list[str] = []
        fd = os.open(self.target, os.O_RDONLY)
        target = Target(fd)
        try:
            settings = {"warn": warnings.append, **options}
            unpack(io.BytesIO(stream), lambda _: Unpacker(target, **settings), packed=packed)
        finally:
            target.close()
        return warnings

    def check(self) -> None:
        """Nothing but the target was touched."""
        assert sorted(os.listdir(self.target.parent)) == ["outside", "target"]
        assert os.listdir(self.outside) == ["file"]
        assert (self.outside / "file").read_text() == "precious"
        assert (self.outside / "file").stat().st_nlink == 1


@pytest.fixture
def field(tmp_path: pathlib.Path) -> Iterator[Field]:
    made = Field(tmp_path)
    yield made
    made.check()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    info.mode = more.pop("mode", 0o755 if kind == tarfile.DIRTYPE else 0o644)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


OUT = "../outside"
LINKS_OUT = {
    "parent in a name": [entry("../outside/x", data=b"x")],
    "parent further in": [entry("a/../../outside/x", data=b"x")],
    "link, then a file below it": [entry("l", tarfile.SYMTYPE, OUT), entry("l/x", data=b"x")],
    "link, then a folder of its name": [
        entry("l", tarfile.SYMTYPE, OUT),
        entry("l", tarfile.DIRTYPE, mode=0o700),
        entry("l/x", data=b"x"),
    ],
    "links one after the other": [
        entry("a", tarfile.SYMTYPE, "."),
        entry("a/b", tarfile.SYMTYPE, OUT),
        entry("a/b/x", data=b"x"),
    ],
    "hard link to what is outside": [entry("h", tarfile.LNKTYPE, "../outside/file")],
    "hard link by a link": [
        entry("l", tarfile.SYMTYPE, OUT),
        entry("h", tarfile.LNKTYPE, "l/file"),
    ],
    "hard link to a link": [
        entry("l", tarfile.SYMTYPE, "../outside/file"),
        entry("h", tarfile.LNKTYPE, "l"),
        entry("h", data=b"x"),
    ],
    "hard link to nothing": [entry("h", tarfile.LNKTYPE, "none")],
    "name too long": [entry("n" * 300, data=b"x")],
    "name with a NUL": [entry("a", pax_headers={"path": "a\0b"}, data=b"x")],
    "file over the target": [entry("./", data=b"x")],
    "file over a folder": [entry("d", tarfile.DIRTYPE), entry("d", data=b"x")],
}


@pytest.mark.parametrize("name", LINKS_OUT)
def test_names_and_links_lead_nowhere(field: Field, name: str) -> None:
    with pytest.raises(ViscumError):
        field.unpack(archive(*LINKS_OUT[name]))


def test_absolute_names_are_below_the_target(field: Field) -> None:
    field.unpack(archive(entry("/etc/x", data=b"x"), entry("//y", data=b"y")))
    assert (field.target / "etc" / "x").read_bytes() == b"x"
    assert (field.target / "y").read_bytes() == b"y"


def test_links_are_made_and_replaced_and_not_followed(field: Field) -> None:
    field.unpack(archive(entry("l", tarfile.SYMTYPE, "../outside/file"), entry("l", data=b"mine")))
    assert not (field.target / "l").is_symlink()
    assert (field.target / "l").read_bytes() == b"mine"
    field.unpack(archive(entry("l", tarfile.SYMTYPE, "../outside")))
    field.unpack(archive(entry("l", tarfile.FIFOTYPE)))
    assert (field.target / "l").is_fifo()


def test_hard_links_within_the_archive_are_made(field: Field) -> None:
    field.unpack(archive(entry("d/a", data=b"x"), entry("b", tarfile.LNKTYPE, "d/a")))
    assert (field.target / "b").samefile(field.target / "d" / "a")


def test_what_stood_there_is_not_linked_to(field: Field) -> None:
    (field.target / "old").write_text("of the user")
    with pytest.raises(ViscumError, match="which it has not"):
        field.unpack(archive(entry("new", tarfile.LNKTYPE, "old")))


def test_devices_are_left_out(field: Field) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE)
    warned = field.unpack(
        archive(*(entry(f"dev{n}", kind, devmajor=1, devminor=3) for n, kind in enumerate(kinds)))
    )
    assert len(warned) == 2
    assert os.listdir(field.target) == []


def test_setuid_is_taken_away_or_kept_as_asked(field: Field) -> None:
    stream = archive(entry("f", mode=0o6755), entry("d", tarfile.DIRTYPE, mode=0o3777))
    field.unpack(stream)
    assert (field.target / "f").stat().st_mode & 0o7777 == 0o755
    assert (field.target / "d").stat().st_mode & 0o7777 == 0o1777
    field.unpack(stream, plain=False)
    assert (field.target / "f").stat().st_mode & 0o7777 == 0o6755


@needs("root")
def test_owners_are_the_entries_or_the_ones_given(field: Field) -> None:
    stream = archive(entry("f", uid=7, gid=8), entry("l", tarfile.SYMTYPE, "x", uid=9, gid=9))
    field.unpack(stream, ids=None)
    assert (field.target / "f").stat().st_uid == 7
    assert (field.target / "l").lstat().st_gid == 9
    field.unpack(stream, ids=(3, 4))
    assert (field.target / "f").stat().st_gid == 4


@pytest.mark.parametrize(
    "headers",
    [
        {"mtime": "-1e400"},
        {"mtime": "99999999999999999999"},
        {"mtime": "nan"},
        {"mtime": "1.9x"},
        {"uid": "99999999999999999"},
        {"gid": "-5"},
        {"size": "x"},
        {"path": "\udcff\udcfe"},
        {"linkpath": "x" * 5000},
    ],
)
def test_senseless_headers_are_errors_or_made_sense_of(field: Field, headers: dict) -> None:
    try:
        field.unpack(archive(entry("f", pax_headers=headers, data=b"x")), ids=(-1, -1))
    except ViscumError as error:
        assert error.message


def test_folders_that_are_read_only_take_their_files(field: Field) -> None:
    field.unpack(archive(entry("d", tarfile.DIRTYPE, mode=0o500), entry("d/f", data=b"x")))
    assert (field.target / "d" / "f").read_bytes() == b"x"
    assert (field.target / "d").stat().st_mode & 0o777 == 0o500


ENTRIES = st.builds(
    entry,
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "l", "outside", "file"]), max_size=4).map(
        "/".join
    ),
    st.sampled_from(
        [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
        + [tarfile.CHRTYPE, b"X", tarfile.CONTTYPE]
    ),
    st.sampled_from(["a", "b", "l", ".", "..", "../outside", "../outside/file", "/", "a/b", ""]),
    mode=st.integers(0, 0o7777),
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_any_archive_stays_in_its_target(tmp_path_factory, entries) -> None:
    field = Field(tmp_path_factory.mktemp("field"))
    for info, data in entries:
        info.size = len(data) if info.isreg() else 0
    try:
        field.unpack(archive(*entries))
    except ViscumError:
        pass
    except OSError as error:
        # What the file system refuses, such as a link without a target; never a crash.
        assert error.errno
    field.check()


SEED = archive(
    entry("d", tarfile.DIRTYPE),
    entry("d/file", data=b"content" * 200),
    entry("d/link", tarfile.SYMTYPE, "file"),
    entry("d/" + "long" * 60, pax_headers={"comment": "x" * 300, "mtime": "1.5"}, data=b"y"),
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(st.integers(), st.integers(1, 12), st.booleans())
def test_damaged_archives_are_errors_or_files(tmp_path_factory, seed, count, cut) -> None:
    field = Field(tmp_path_factory.mktemp("field"))
    chance, data = random.Random(seed), bytearray(SEED)
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    stream = bytes(data[: chance.randrange(len(data))] if cut else data)
    try:
        field.unpack(stream, packed=chance.random() < 0.5)
    except (ViscumError, OSError) as error:
        assert str(error)
    field.check()


def test_packing_and_unpacking_keep_everything(field: Field, tmp_path: pathlib.Path) -> None:
    top = field.outside.parent / "outside"
    source = field.target / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 100_000)
    (source / "empty").write_bytes(b"")
    os.link(source / "file", source / "deep" / "second")
    (source / "link").symlink_to("file")
    (source / b"odd \xff\n name".decode("utf-8", "surrogateescape")).write_text("odd")
    (source / ("n" * 200) / ("m" * 200)).mkdir(parents=True)
    os.utime(source / "file", ns=(0, -1_500_000_000))
    (source / "large").write_bytes(b"y" * 300_001)
    archive_path = top.parent / "target" / "archive"
    root, out = os.open("/", os.O_PATH), os.open(archive_path, os.O_CREAT | os.O_RDWR)
    packer = Packer(out)
    packer.add(open_source(root, str(source), 0, follow=False), "copy")
    packer.close()
    os.close(root)
    os.close(out)
    field.unpack(archive_path.read_bytes())
    with tarfile.open(archive_path) as tar:  # as others read it
        assert len(tar.getnames()) == len(list(source.rglob("*"))) + 1
    copy = field.target / "copy"
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*"))
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == names
    assert (copy / "file").read_bytes() == b"x" * 100_000
    assert (copy / "large").read_bytes() == b"y" * 300_001
    assert (copy / "deep" / "second").samefile(copy / "file")
    assert (copy / "file").stat().st_mtime_ns == -1_500_000_000
    assert os.readlink(copy / "link") == "file"
    assert os.listdir(top) == ["file"]
