"""EROFS images of a folder: written in one pass, uncompressed, the same bytes for the same tree.

The format is that of Linux, fs/erofs/erofs_fs.h, in the parts that every kernel since 5.15 reads:
extended inodes, small content behind its inode, other content in blocks, files with holes as
chunks. Metadata comes first, so all of the file is written, and hashed, from front to back. Only
what this writes is ever mounted: no file system that a stranger made reaches the kernel.
"""

from __future__ import annotations

import os
import stat
import struct

from ..errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["write_image"]

BLOCK_BITS = 12
BLOCK = 1 << BLOCK_BITS
SLOT = 32
"""Inodes are numbered by where they are, in units of this."""
SUPERBLOCK_AT, MAGIC = 1024, 0xE0F5E1E2
FIRST = SUPERBLOCK_AT + 128
CHUNKED_FILE = 0x4
PLAIN, INLINE, CHUNKED = 0, 2, 4
MAX_INLINE = 3072
MAX_CHUNKS = 1 << 18
MAX_BLOCKS = 0xFFFFFFFE
HOLE = 0xFFFFFFFF
READ = 1 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_INODE = struct.Struct("<HHHHQIIIIQII16x")
_DIRENT = struct.Struct("<QHBx")
_XATTR_HEADER = struct.Struct("<IB7x")
_XATTR = struct.Struct("<BBH")

_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_XATTR_KINDS = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)


class _Node:
    """An inode: what it says, and where it and its content will be."""

    __slots__ = (
        "block",
        "chunk_bits",
        "chunks",
        "data",
        "is_",
        "layout",
        "links",
        "nid",
        "path",
        "size",
        "xattrs",
    )

    def __init__(self, path: bytes, is_: os.stat_result, xattrs: bytes) -> None:
        self.path = path
        self.is_ = is_
        self.xattrs = xattrs
        self.links = 0
        self.nid = 0
        self.size = is_.st_size
        self.layout = PLAIN
        self.block = 0
        self.data: bytes | None = None
        self.chunk_bits = 0
        self.chunks: list[int] = []

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.is_.st_mode)

    @property
    def tail(self) -> int:
        """Bytes that stand behind the inode and its attributes."""
        if self.layout == CHUNKED:
            return 4 * len(self.chunks)
        return self.size if self.layout == INLINE else 0

    @property
    def blocks(self) -> int:
        """Blocks of content."""
        if self.layout == CHUNKED:
            return sum(count for _, count in _chunk_extents(self))
        return _blocks(self.size) if self.layout == PLAIN else 0


def _blocks(size: int) -> int:
    return (size + BLOCK - 1) >> BLOCK_BITS


def _padding(size: int, unit: int) -> bytes:
    return bytes(-size % unit)


# What is in the folder.


def _packed_xattrs(values: list[tuple[bytes, bytes]]) -> bytes:
    """Return attributes as they stand behind an inode; empty for none."""
    out = []
    for name, value in sorted(values):
        prefix, kind = next((p, k) for p, k in _XATTR_KINDS if name.startswith(p))
        suffix = name[len(prefix) :]
        entry = _XATTR.pack(len(suffix), kind, len(value)) + suffix + value
        out.append(entry + _padding(len(entry), 4))
    return _XATTR_HEADER.pack(0, 0) + b"".join(out) if out else b""


def _xattrs(path: str) -> bytes:
    found = []
    for name in os.listxattr(path, follow_symlinks=False):
        raw = os.fsencode(name)
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue  # would direct overlayfs
        if any(raw.startswith(prefix) for prefix, _ in _XATTR_KINDS):
            found.append((raw, os.getxattr(path, name, follow_symlinks=False)))
    return _packed_xattrs(found)


class _Tree:
    """The inodes of a folder in the order they are written; those of equal files once."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.nodes: list[_Node] = []
        self.entries: dict[int, list[tuple[bytes, _Node]]] = {}
        self._known: dict[tuple[int, int], _Node] = {}

    def read(self) -> None:
        """Take in everything below the root, without recursion."""
        top = _Node(b".", os.fstat(self.root), _xattrs(f"/proc/self/fd/{self.root}/."))
        top.links = 2
        self.nodes.append(top)
        rest = [(top, top)]
        while rest:
            node, parent = rest.pop()
            rest += [(each, node) for each in self._folder(node, parent)]

    def _folder(self, folder: _Node, parent: _Node) -> list[_Node]:
        """Take in one folder; return the folders in it."""
        entries, below = [(b".", folder), (b"..", parent)], []
        fd = os.open(folder.path, FOLDER, dir_fd=self.root)
        try:
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                node = self._node(fd, name, folder)
                entries.append((name, node))
                if node.kind == stat.S_IFDIR:
                    node.links, folder.links = 2, folder.links + 1
                    below.append(node)
                else:
                    node.links += 1
        finally:
            os.close(fd)
        entries.sort(key=lambda entry: entry[0])
        self.entries[id(folder)] = entries
        folder.data = b""
        folder.size = _folder_size([name for name, _ in entries])
        return below

    def _node(self, fd: int, name: bytes, folder: _Node) -> _Node:
        is_ = os.stat(name, dir_fd=fd, follow_symlinks=False)
        known = self._known.get((is_.st_dev, is_.st_ino))
        if known is not None:
            return known
        xattrs = _xattrs(f"/proc/self/fd/{fd}/{os.fsdecode(name)}")
        node = _Node(name if folder.path == b"." else folder.path + b"/" + name, is_, xattrs)
        if node.kind == stat.S_IFLNK:
            node.data = os.readlink(name, dir_fd=fd)
            node.size = len(node.data)
        elif node.kind != stat.S_IFREG:
            node.size = 0
        if is_.st_nlink > 1 and node.kind != stat.S_IFDIR:
            self._known[is_.st_dev, is_.st_ino] = node
        self.nodes.append(node)
        return node


# Folders.


def _dir_blocks(names: list[bytes]) -> Iterator[list[int]]:
    """Yield the indexes of the names that stand in one block each."""
    block: list[int] = []
    used = 0
    for index, name in enumerate(names):
        size = _DIRENT.size + len(name)
        if used + size > BLOCK:
            yield block
            block, used = [], 0
        block.append(index)
        used += size
    yield block


def _folder_size(names: list[bytes]) -> int:
    blocks = list(_dir_blocks(names))
    last = sum(_DIRENT.size + len(names[index]) for index in blocks[-1])
    return (len(blocks) - 1) * BLOCK + last


def _folder_data(entries: list[tuple[bytes, _Node]]) -> bytes:
    """Return the content of a folder: in each block records first, then their names."""
    out = []
    for block in _dir_blocks([name for name, _ in entries]):
        offset = len(block) * _DIRENT.size
        records, names = [], []
        for index in block:
            name, node = entries[index]
            records.append(_DIRENT.pack(node.nid, offset, _FILE_TYPES[node.kind]))
            names.append(name)
            offset += len(name)
        made = b"".join(records + names)
        out.append(made if block[-1] == len(entries) - 1 else made + _padding(len(made), BLOCK))
    return b"".join(out)


# Places.


def _find_holes(node: _Node, root: int) -> None:
    """Lay out a file with holes as chunks; a chunk that is a hole takes no place."""
    if node.is_.st_blocks * 512 >= node.size or node.size <= BLOCK:
        return
    while (_blocks(node.size) >> node.chunk_bits) >= MAX_CHUNKS:
        node.chunk_bits += 1
    chunk = BLOCK << node.chunk_bits
    chunks = [HOLE] * -(-node.size // chunk)
    fd = os.open(node.path, FILE, dir_fd=root)
    try:
        for start, end in _extents(fd, node.size):
            for index in range(start // chunk, -(-end // chunk)):
                chunks[index] = 0
    finally:
        os.close(fd)
    if HOLE in chunks:
        node.layout, node.chunks = CHUNKED, chunks


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a file has data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: only a hole is left
        end = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        yield start, end


def _chunk_extents(node: _Node) -> Iterator[tuple[int, int]]:
    """Yield index and number of blocks of each chunk that is no hole."""
    for index, place in enumerate(node.chunks):
        if place != HOLE:
            first = index << node.chunk_bits
            yield index, min(1 << node.chunk_bits, _blocks(node.size) - first)


def _place(tree: _Tree) -> int:
    """Give every inode and its content a place; return the blocks of the whole image."""
    at = FIRST
    for node in tree.nodes:
        head = _INODE.size + len(node.xattrs)
        if node.kind == stat.S_IFREG:
            _find_holes(node, tree.root)
        if node.layout != CHUNKED and head + node.size <= MAX_INLINE:
            node.layout = INLINE
        at += -at % SLOT
        room = head + node.tail if node.layout == INLINE else _INODE.size
        if at // BLOCK != (at + room - 1) // BLOCK:
            at += -at % BLOCK  # neither an inode nor its content stands in two blocks
        node.nid = at // SLOT
        at += head + node.tail
    block = _blocks(at)
    for node in tree.nodes:
        if node.layout == CHUNKED:
            for index, count in _chunk_extents(node):
                node.chunks[index] = block
                block += count
        else:
            node.block = block if node.blocks else 0
            block += node.blocks
    if block > MAX_BLOCKS:
        raise ImageError("the image is too large for EROFS", hint="--storage overlay")
    return block


# Writing.


def _superblock(tree: _Tree, blocks: int) -> bytes:
    root = tree.nodes[0].nid
    fields = (MAGIC, 0, 0, BLOCK_BITS, 0, root, len(tree.nodes), 0, 0, blocks, 0, 0)
    incompat = CHUNKED_FILE if any(node.layout == CHUNKED for node in tree.nodes) else 0
    return _SUPERBLOCK.pack(*fields, b"", b"viscum", incompat, 0, 0, 0, 0, 0, 0, 0)


def _device(number: int) -> int:
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _inode(node: _Node, number: int) -> bytes:
    is_ = node.is_
    place = node.block
    if node.layout == CHUNKED:
        place = node.chunk_bits
    elif node.kind in (stat.S_IFCHR, stat.S_IFBLK):
        place = _device(is_.st_rdev)
    count = (len(node.xattrs) - _XATTR_HEADER.size) // 4 + 1 if node.xattrs else 0
    seconds, nanoseconds = divmod(is_.st_mtime_ns, 10**9)
    return _INODE.pack(
        1 | node.layout << 1,
        count,
        is_.st_mode,
        0,
        node.size,
        place,
        number,
        is_.st_uid,
        is_.st_gid,
        seconds & 0xFFFFFFFFFFFFFFFF,
        nanoseconds,
        node.links,
    )


def _read_exactly(fd: int, at: int, size: int, path: bytes) -> Iterator[bytes]:
    while size:
        data = os.pread(fd, min(size, READ), at)
        if not data:
            raise ImageError(f"{os.fsdecode(path)!r} became shorter while it was read")
        yield data
        at, size = at + len(data), size - len(data)


def _content(tree: _Tree, node: _Node) -> Iterator[bytes]:
    """Yield what a node has in it, without holes."""
    if node.kind == stat.S_IFDIR:
        yield _folder_data(tree.entries[id(node)])
    elif node.data is not None:
        yield node.data
    elif node.size:
        fd = os.open(node.path, FILE, dir_fd=tree.root)
        try:
            if node.layout != CHUNKED:
                yield from _read_exactly(fd, 0, node.size, node.path)
            for index, count in _chunk_extents(node):
                at = index << node.chunk_bits + BLOCK_BITS
                size = min(count << BLOCK_BITS, node.size - at)
                yield from _read_exactly(fd, at, size, node.path)
                yield _padding(size, BLOCK)
        finally:
            os.close(fd)


def _metadata(tree: _Tree) -> Iterator[bytes]:
    at = FIRST
    for number, node in enumerate(tree.nodes, 1):
        start = node.nid * SLOT
        yield bytes(start - at)
        parts = [_inode(node, number), node.xattrs]
        if node.layout == INLINE:
            parts += _content(tree, node)
        elif node.layout == CHUNKED:
            parts.append(struct.pack(f"<{len(node.chunks)}I", *node.chunks))
        made = b"".join(parts)
        yield made
        at = start + len(made)
    yield _padding(at, BLOCK)


def _pieces(tree: _Tree, blocks: int) -> Iterator[bytes]:
    yield bytes(SUPERBLOCK_AT) + _superblock(tree, blocks)
    yield from _metadata(tree)
    for node in tree.nodes:
        if node.layout == PLAIN and node.size:
            yield from _content(tree, node)
            yield _padding(node.size, BLOCK)
        elif node.layout == CHUNKED:
            yield from _content(tree, node)


def write_image(
    folder: int, write: Callable[[bytes], object], allow: Callable[[int], object] | None = None
) -> int:
    """Write an image of the open `folder`, piece by piece; return its bytes.

    `allow` is told the bytes before any is written, and raises where they are too many. Raises
    OSError, and ImageError where EROFS has no way to say what is in the folder.
    """
    tree = _Tree(folder)
    tree.read()
    blocks = _place(tree)
    if allow is not None:
        allow(blocks << BLOCK_BITS)
    batch, held = [], 0
    for piece in _pieces(tree, blocks):
        batch.append(piece)
        held += len(piece)
        if held >= READ:
            write(b"".join(batch))
            batch, held = [], 0
    write(b"".join(batch))
    return blocks << BLOCK_BITS
