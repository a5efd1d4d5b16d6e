"""Operations of a plan as literal C: those of the launching process, and what both sides need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from viscum.plan import NONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from viscum.plan import Operation

__all__ = ["HOST_WRITERS", "LOAD_WRITERS", "Unknown"]

O_CLOEXEC, O_PATH, O_DIRECTORY = os.O_CLOEXEC, os.O_PATH, os.O_DIRECTORY
OPEN_TREE_CLONE, EMPTY_PATH, RECURSIVE = 1, 0x1000, 0x8000
IDMAP = 0x100000
ATTR = "struct mount_attr"


class Unknown(Exception):
    """A plan has an operation that bare.py cannot write."""


def text(value: object) -> str:
    """Return a C expression for a string of a plan; `{id}` is the machine's id."""
    return "r->id" if value == "{id}" else quoted(str(value).encode("utf-8", "surrogateescape"))


def quoted(data: bytes) -> str:
    """Return `data` as a C string literal."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in data
    )
    return f'"{plain}"'


def slot(number: object) -> str:
    """Return the C variable of a slot."""
    return f"r->s[{number}]"


def kept(number: object) -> str:
    """Return the C variable of a slot that `load` fills."""
    return f"kept[{number}]"


def number(o: Operation, name: str) -> int:
    """Return an argument that is an integer or a slot."""
    value = o[name]
    if not isinstance(value, int):
        raise Unknown(f"{o.describe()}: {name} is no number")
    return value


def word(o: Operation, name: str) -> str:
    """Return an argument that is a string."""
    value = o[name]
    if not isinstance(value, str):
        raise Unknown(f"{o.describe()}: {name} is no string")
    return value


def blob(o: Operation, name: str) -> bytes:
    """Return an argument that is bytes."""
    value = o[name]
    if not isinstance(value, bytes):
        raise Unknown(f"{o.describe()}: {name} is no bytes")
    return value


def strings(o: Operation, name: str) -> list[bytes]:
    """Return an argument that is a list of strings."""
    return blob(o, name).split(b"\0")[:-1]


def _cgroup(o: Operation) -> list[str]:
    root, name = slot(o["root"]), text(o["name"])
    flags = f"{os.O_RDONLY | O_DIRECTORY | O_CLOEXEC}"
    return [
        f"HOST(SYS_mkdirat, {root}, {name}, 0755);",
        f"{slot(o['slot'])} = (int)HOST(SYS_openat, {root}, {name}, {flags});",
    ]


_WRITE_ONLY = os.O_WRONLY | O_CLOEXEC | os.O_NOFOLLOW


def _cgroup_write(o: Operation) -> list[str]:
    data = word(o, "data").encode()
    return [
        f"fd = (int)HOST(SYS_openat, {slot(o['slot'])}, {text(o['file'])}, {_WRITE_ONLY});",
        f"HOST(SYS_write, fd, {quoted(data)}, {len(data)});",
        "HOST(SYS_close, fd);",
    ]


def _cgroup_open(o: Operation) -> list[str]:
    call = f"HOST(SYS_openat, {slot(o['cgroup'])}, {text(o['file'])}, {_WRITE_ONLY})"
    return [f"{slot(o['slot'])} = (int){call};"]


def _tree(o: Operation) -> list[str]:
    deep = RECURSIVE if o["recursive"] else 0
    flags = OPEN_TREE_CLONE | O_CLOEXEC | EMPTY_PATH | deep
    source, made = slot(o["source"]), slot(o["slot"])
    lines = [f'{made} = (int)HOST(SYS_open_tree, {source}, "", {flags});']
    idmap = o["idmap"] != NONE
    attributes = number(o, "set") | (IDMAP if idmap else 0)
    if attributes or o["clear"]:
        userns = f", .userns_fd = (uint64_t){slot(o['idmap'])}" if idmap else ""
        attr = f"(&({ATTR}){{.attr_set = {attributes}, .attr_clr = {number(o, 'clear')}{userns}}})"
        lines.append(
            f'HOST(SYS_mount_setattr, {made}, "", {EMPTY_PATH | deep}, {attr}, sizeof({ATTR}));'
        )
    return lines


def _map(o: Operation) -> list[str]:
    data = word(o, "data").encode()
    return [f"write_proc(r, {text(o['file'])}, {quoted(data)}, {len(data)});"]


def _cgroup_remove(o: Operation) -> list[str]:
    return [f"remove_group(r, {slot(o['root'])}, {text(o['name'])});"]


# Once, before any launch: these slots are kept.


def _load_open(o: Operation) -> list[str]:
    flags = number(o, "flags") | O_PATH | O_CLOEXEC
    return [f"{kept(o['slot'])} = (int)HOST(SYS_openat, AT_FDCWD, {text(o['path'])}, {flags});"]


def _load_group(o: Operation) -> list[str]:
    flags = O_PATH | O_DIRECTORY | O_CLOEXEC
    path = text(o["path"])
    return [
        f"SYS(SYS_mkdirat, AT_FDCWD, {path}, 0755);",
        f"{kept(o['slot'])} = (int)HOST(SYS_openat, AT_FDCWD, {path}, {flags});",
    ]


def _load_userns(o: Operation) -> list[str]:
    return [f"{kept(o['slot'])} = keep_userns({text(o['uid_map'])}, {text(o['gid_map'])});"]


def _load_devices(o: Operation) -> list[str]:
    return [f"{kept(o['slot'])} = keep_devices({number(o, 'uid')}, {number(o, 'gid')});"]


LOAD_WRITERS: dict[str, Callable[[Operation], list[str]]] = {
    "expect-host": lambda _: [],
    "expect-file": lambda _: [],
    "open": _load_open,
    "cgroup-root": _load_group,
    "userns": _load_userns,
    "devices": _load_devices,
}
HOST_WRITERS: dict[str, Callable[[Operation], list[str]]] = {
    "cgroup": _cgroup,
    "cgroup-write": _cgroup_write,
    "cgroup-open": _cgroup_open,
    "tree": _tree,
    "map": _map,
    "cgroup-remove": _cgroup_remove,
}
