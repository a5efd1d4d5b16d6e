"""Decompressing layers: gzip by isal where it is installed (the extra `fast`), else by zlib;
zstd by Python's own module or backports.zstd.
"""

from __future__ import annotations

from ..errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["decompressed", "detect"]

CHUNK = 1 << 20
MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
MAX_WINDOW_LOG = 27
"""zstd frames may ask for a window of at most 128 MiB."""


def detect(first: bytes) -> str:
    """Return how data that begins with `first` is compressed."""
    return next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), "none")


def _gzip_member() -> tuple[object, object]:
    try:
        from isal import isal_zlib

        return isal_zlib.decompressobj(isal_zlib.MAX_WBITS | 16), isal_zlib.error
    except ImportError:
        import zlib

        return zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error


def _gunzip(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what gzip members hold, in pieces of at most CHUNK. Zeros may follow the last."""
    member, error = _gzip_member()
    begun = False
    for block in blocks:
        data = block
        while data:
            if member.eof:  # type: ignore[attr-defined]
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, error = _gzip_member()
                begun = False
            begun = True
            try:
                out = member.decompress(data, CHUNK)  # type: ignore[attr-defined]
            except error as reason:  # type: ignore[misc]
                raise ImageError(f"its gzip data is damaged: {reason}") from None
            if out:
                yield out
            data = member.unconsumed_tail or member.unused_data  # type: ignore[attr-defined]
            while not data and len(out) == CHUNK:  # more may wait inside
                out = member.decompress(b"", CHUNK)  # type: ignore[attr-defined]
                if out:
                    yield out
    if begun and not member.eof:  # type: ignore[attr-defined]
        raise ImageError("its gzip data ends too early")
    if not begun:
        raise ImageError("it has no gzip data")


def _zstd_decompressor() -> tuple[Callable[[], object], type[Exception]]:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ImageError(
                "a layer is compressed by zstd, and Python before 3.14 cannot read that",
                hint="pip install viscum[zstd]",
            ) from None
    options = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    return (lambda: zstd.ZstdDecompressor(options=options)), zstd.ZstdError


def _unzstd(blocks: Iterator[bytes]) -> Iterator[bytes]:
    make, error = _zstd_decompressor()
    frame, begun = make(), False
    for block in blocks:
        data = block
        while data or not frame.needs_input:  # type: ignore[attr-defined]
            begun = True
            try:
                out = frame.decompress(data, CHUNK)  # type: ignore[attr-defined]
            except error as reason:
                raise ImageError(f"its zstd data is damaged: {reason}") from None
            if out:
                yield out
            data = b""
            if frame.eof:  # type: ignore[attr-defined]
                data, frame = frame.unused_data, make()  # type: ignore[attr-defined]
                begun = False
    if begun:
        raise ImageError("its zstd data ends too early")


def decompressed(blocks: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """Yield what `blocks` hold, decompressed, in pieces of at most a mebibyte.

    Raises ImageError for data that is damaged or cut off.
    """
    if kind == "gzip":
        return _gunzip(blocks)
    return _unzstd(blocks) if kind == "zstd" else blocks
