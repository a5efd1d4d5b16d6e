"""Layers as they are decompressed: by isal, by zlib, by zstd."""

from __future__ import annotations

import gzip
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscum.errors import ImageError
from viscum.image import compression

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def read(data: bytes, step: int, kind: str = "") -> bytes:
    """Return what `data` holds, given in pieces of `step` bytes."""
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    parts = list(compression.decompressed(pieces, kind or compression.detect(data)))
    assert all(0 < len(part) <= compression.CHUNK for part in parts)
    return b"".join(parts)


@pytest.fixture(params=["isal", "zlib"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each of the libraries for gzip."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        __import__("isal")
    return request.param


@pytest.mark.parametrize("step", [1 << 20, 70_000, 997])
def test_gzip_members_are_read_in_turn(by: str, step: int) -> None:
    first, second = os.urandom(300_000), b"\0" * 5_000_000
    data = gzip.compress(first) + gzip.compress(second) + gzip.compress(b"")
    for tail in (b"", b"\0" * 2000):
        assert read(data + tail, step) == first + second


def test_damaged_gzip_is_refused(by: str) -> None:
    data = gzip.compress(os.urandom(100_000))
    cut = [data[:-1], data[:50_000], data[:12], data + gzip.compress(b"x")[:-2]]
    wrong = [data[:40_000] + b"\xff" * 200 + data[40_200:], data[:-8] + b"\0" * 8]
    for case in (*cut, *wrong, data + b"tail" * 10):
        with pytest.raises(ImageError, match=r"ends too early|damaged"):
            read(case, 10_000)
    with pytest.raises(ImageError):
        read(b"", 1, "gzip")


@pytest.mark.parametrize("step", [1 << 20, 70_000, 997])
def test_zstd_frames_are_read_in_turn(step: int) -> None:
    first, second = os.urandom(300_000), b"\0" * 5_000_000
    assert read(zstd.compress(first) + zstd.compress(second), step) == first + second


def test_damaged_zstd_is_refused() -> None:
    data = zstd.compress(os.urandom(100_000))
    for case in (data[:-1], data[:1000], data[:5], data + b"tail"):
        with pytest.raises(ImageError):
            read(case, 10_000)


def test_zstd_windows_are_bounded() -> None:
    """A frame may not ask for gigabytes of memory."""
    options = {zstd.CompressionParameter.window_log: 30}
    packer = zstd.ZstdCompressor(options=options)
    data = packer.compress(b"x" * 1000) + packer.flush()
    assert read(zstd.compress(b"x"), 100) == b"x"
    with pytest.raises(ImageError, match="damaged"):
        read(data, 1000)


@given(st.binary(max_size=300), st.integers(1, 400), st.sampled_from(["gzip", "zstd"]))
def test_any_bytes_are_read_or_refused(data: bytes, step: int, kind: str) -> None:
    magic = {"gzip": b"\x1f\x8b\x08\0", "zstd": b"\x28\xb5\x2f\xfd"}[kind]
    try:
        read(magic + data, step, kind)
    except ImageError:
        return
