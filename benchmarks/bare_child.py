"""Operations of a plan as literal C: those of the child, as native/ops_*.c makes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bare_host import (
    ATTR,
    EMPTY_PATH,
    O_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    OPEN_TREE_CLONE,
    RECURSIVE,
    Unknown,
    blob,
    number,
    quoted,
    slot,
    strings,
    text,
    word,
)
from viscum.plan import NONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from viscum.plan import Operation

__all__ = ["CHILD_WRITERS"]

NO_LINKS = 4
IN_ROOT, NO_MAGIC_LINKS, NO_SYMLINKS = 0x10, 0x02, 0x04
MOVE_EMPTY_PATHS = 0x4 | 0x40
STICKY = 0o7000
STREAMS = 3
MOST_CAPABILITIES = 63


def _below(
    directory: object, path: object, flags: int, *, mode: int = 0, links: bool = True
) -> str:
    """Return an openat2 call below a slot, as native/ops_file.c makes it."""
    resolve = IN_ROOT | NO_MAGIC_LINKS | (0 if links else NO_SYMLINKS)
    how = f".flags = {flags | O_CLOEXEC}, .mode = {mode}, .resolve = {resolve}"
    name = str(path).lstrip("/") or "."
    return (
        f"(int)IN(SYS_openat2, {slot(directory)}, {text(name)}, (&(struct open_how){{{how}}}), "
        "sizeof(struct open_how))"
    )


def _lookup(directory: object, path: object, flags: int, *, links: bool = True) -> str:
    if directory == NONE:
        return f"(int)IN(SYS_openat, AT_FDCWD, {text(path)}, {flags | O_CLOEXEC})"
    return _below(directory, path, flags, links=links)


def _call(form: str) -> Callable[[Operation], list[str]]:
    """Return a writer for an operation that is one call; `form` names its arguments."""

    def write(o: Operation) -> list[str]:
        values = {
            name.replace("-", "_"): text(value) if kind == "S" else value
            for name, kind, value in zip(o.verb.names, o.verb.kinds, o.values, strict=True)
        }
        return [f"IN({form.format(**values)});"]

    return write


def _options(o: Operation) -> list[str]:
    pairs = iter(strings(o, "options"))
    lines = []
    for key, value in zip(pairs, pairs, strict=True):
        kind = "STRING" if value else "FLAG"
        argument = quoted(value) if value else "0"
        lines.append(f"IN(SYS_fsconfig, fd, FSCONFIG_SET_{kind}, {quoted(key)}, {argument}, 0);")
    return lines


def _create(o: Operation) -> list[str]:
    made, attributes = slot(o["slot"]), number(o, "attributes")
    return [
        "IN(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, 0, 0, 0);",
        f"{made} = (int)IN(SYS_fsmount, fd, FSMOUNT_CLOEXEC, {attributes});",
        "IN(SYS_close, fd);",
    ]


def _open_context(kind: str) -> str:
    return f"fd = (int)IN(SYS_fsopen, {kind}, (unsigned)FSOPEN_CLOEXEC);"


def _fsmount(o: Operation) -> list[str]:
    source = [f'IN(SYS_fsconfig, fd, FSCONFIG_SET_STRING, "source", {text(o["source"])}, 0);']
    lines = [_open_context(text(o["type"])), *(source if o["source"] else [])]
    return lines + _options(o) + _create(o)


def _overlay(o: Operation) -> list[str]:
    lower = o["lower"]
    if not isinstance(lower, tuple) or len(lower) != 1:
        raise Unknown("an overlay of several layers")
    folders = [("lowerdir", lower[0], "")]
    folders += [(key + "dir", number(o, "scratch"), "/" + str(o[key])) for key in ("upper", "work")]
    return [
        _open_context('"overlay"'),
        *(
            f'IN(SYS_fsconfig, fd, FSCONFIG_SET_STRING, "{key}", '
            f"fd_path(r, {slot(where)}, {quoted(tail.encode())}), 0);"
            for key, where, tail in folders
        ),
        *_options(o),
        *_create(o),
    ]


def _set_attributes(fd: str, attributes: object, *, deep: object) -> str:
    flags = EMPTY_PATH | (RECURSIVE if deep else 0)
    attr = f"(&({ATTR}){{.attr_set = {attributes}}})"
    return f'IN(SYS_mount_setattr, {fd}, "", {flags}, {attr}, sizeof({ATTR}));'


def _clone_tree(o: Operation) -> list[str]:
    flags = OPEN_TREE_CLONE | O_CLOEXEC | EMPTY_PATH | (RECURSIVE if o["recursive"] else 0)
    lines = [
        f"fd = {_lookup(o['dir'], o['path'], O_PATH)};",
        f'{slot(o["slot"])} = (int)IN(SYS_open_tree, fd, "", {flags});',
        "IN(SYS_close, fd);",
    ]
    if o["set"]:
        lines.append(_set_attributes(slot(o["slot"]), o["set"], deep=o["recursive"]))
    return lines


def _attach(o: Operation) -> list[str]:
    flags = O_PATH | (O_DIRECTORY if o["dir"] == NONE else 0)
    links = not number(o, "create") & NO_LINKS
    return [
        f"fd = {_lookup(o['dir'], o['target'], flags, links=links)};",
        f'IN(SYS_move_mount, {slot(o["slot"])}, "", fd, "", {MOVE_EMPTY_PATHS});',
        "IN(SYS_close, fd);",
    ]


def _mkdir(o: Operation) -> list[str]:
    mode = number(o, "mode")
    lines = [f"IN(SYS_mkdirat, {slot(o['dir'])}, {text(o['path'])}, {mode & 0o777});"]
    if mode & STICKY:
        lines.append(f"IN(SYS_fchmodat, {slot(o['dir'])}, {text(o['path'])}, {mode});")
    return lines


def _opaque(o: Operation) -> list[str]:
    return [
        *_mkdir(o),
        f"IN(SYS_fchdir, {slot(o['dir'])});",
        f'IN(SYS_lsetxattr, {text(o["path"])}, "user.overlay.opaque", "y", 1, 0);',
    ]


def _network_join(o: Operation) -> list[str]:
    return [
        "IN(SYS_wait4, r->maker, 0, __WALL, 0);",
        f"IN(SYS_setns, {slot(o['slot'])}, CLONE_NEWNET);",
    ]


def _file(o: Operation) -> list[str]:
    data = blob(o, "data")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    opened = _below(o["dir"], o["path"], flags, mode=number(o, "mode"), links=False)
    write = [f"IN(SYS_write, fd, {quoted(data)}, {len(data)});"] if data else []
    return [f"fd = {opened};", *write, "IN(SYS_close, fd);"]


def _write(o: Operation) -> list[str]:
    data = word(o, "data").encode()
    return [
        f"fd = {_lookup(o['dir'], o['path'], os.O_WRONLY)};",
        f"IN(SYS_write, fd, {quoted(data)}, {len(data)});",
        "IN(SYS_close, fd);",
    ]


def _seal(o: Operation) -> list[str]:
    return [
        f"fd = {_lookup(o['dir'], o['path'], O_PATH)};",
        _set_attributes("fd", o["set"], deep=o["recursive"]),
        "IN(SYS_close, fd);",
    ]


def _pivot(o: Operation) -> list[str]:
    return [
        f'uint64_t own = mount_id({slot(o["slot"])}, "", {EMPTY_PATH});',
        f"IN(SYS_fchdir, {slot(o['slot'])});",
        'IN(SYS_pivot_root, ".", ".");',
        'while (mount_id(AT_FDCWD, "..", 0) != own) IN(SYS_umount2, ".", MNT_DETACH);',
        'IN(SYS_chdir, "/");',
    ]


def _set_ids(o: Operation) -> list[str]:
    uid, gid = number(o, "uid"), number(o, "gid")
    return [f"IN(SYS_setresgid, {gid}, {gid}, {gid});", f"IN(SYS_setresuid, {uid}, {uid}, {uid});"]


def _become(o: Operation) -> list[str]:
    return ["SYS(SYS_setgroups, 0, 0);", *_set_ids(o)]


CAPABILITY_HEAD = "(&(struct __user_cap_header_struct){_LINUX_CAPABILITY_VERSION_3, 0})"
CAPABILITY_SETS = "struct __user_cap_data_struct sets[2];"


def _user(o: Operation) -> list[str]:
    if not number(o, "keep"):
        return _set_ids(o)
    return [
        "IN(SYS_prctl, PR_SET_KEEPCAPS, 1);",
        *_set_ids(o),
        CAPABILITY_SETS,
        f"IN(SYS_capget, {CAPABILITY_HEAD}, sets);",
        "for (int i = 0; i < 2; i++) sets[i].effective = sets[i].permitted;",
        f"IN(SYS_capset, {CAPABILITY_HEAD}, sets);",
    ]


def _groups(o: Operation) -> list[str]:
    ids = word(o, "list").split()
    listed = f"(const uint32_t[]){{{', '.join(ids)}}}" if ids else "0"
    return [f"IN(SYS_setgroups, {len(ids)}, {listed});"]


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def _capabilities(o: Operation) -> list[str]:
    keep, last = number(o, "bounding"), _last_capability()
    dropped = [bit for bit in range(last + 1) if not keep >> bit & 1]
    lines = [f"IN(SYS_prctl, PR_CAPBSET_DROP, {bit});" for bit in dropped]
    if last < MOST_CAPABILITIES:  # the core asks until the kernel knows no more
        lines.append(f"SYS(SYS_prctl, PR_CAPBSET_DROP, {last + 1});")
    return [
        *lines,
        CAPABILITY_SETS,
        f"IN(SYS_capget, {CAPABILITY_HEAD}, sets);",
        "sets[0].inheritable = sets[1].inheritable = 0;",
        f"IN(SYS_capset, {CAPABILITY_HEAD}, sets);",
    ]


def _parent_death(o: Operation) -> list[str]:
    parent = "(&(struct pollfd){.fd = host_pidfd, .events = POLLIN})"
    return [
        f"IN(SYS_prctl, PR_SET_PDEATHSIG, {number(o, 'signal')});",
        f"SYS(SYS_ppoll, {parent}, 1, (&(struct timespec){{0, 0}}), 0, 8);",
    ]


def _loopback(_: Operation) -> list[str]:
    lo = '(&(struct ifreq){.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING})'
    return [
        "fd = (int)IN(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);",
        f"IN(SYS_ioctl, fd, SIOCSIFFLAGS, {lo});",
        "IN(SYS_close, fd);",
    ]


def _landlock(o: Operation) -> list[str]:
    rules = f"((uint64_t[]){{0, 0, {number(o, 'scoped')}}})"
    return [
        f"fd = (int)IN(SYS_landlock_create_ruleset, {rules}, 24, 0);",
        "IN(SYS_landlock_restrict_self, fd, 0);",
        "IN(SYS_close, fd);",
    ]


def _seccomp(o: Operation) -> list[str]:
    program = blob(o, "program")
    data, length = ", ".join(map(str, program)), len(program) // 8
    kind = "struct { unsigned short len; const void *filter; }"
    return [
        f"static const unsigned char filter[] __attribute__((aligned(8))) = {{{data}}};",
        f"{kind} program = {{{length}, filter}};",
        f"IN(SYS_seccomp, SECCOMP_SET_MODE_FILTER, {number(o, 'flags')}, &program);",
    ]


def _vector(name: str, words: list[bytes]) -> str:
    return f"static const char *const {name}[] = {{{', '.join(map(quoted, words))}, 0}};"


def _exec(o: Operation) -> list[str]:
    if "/" not in word(o, "file"):
        raise Unknown("a command that is searched for")
    return [
        _vector("argv", strings(o, "arguments")),
        _vector("envp", strings(o, "environment")),
        "r->executing = 1;",
        f"IN(SYS_execve, {text(o['file'])}, argv, envp);",
    ]


_STDIO = [f"IN(SYS_dup3, {slot(number)}, {number}, 0);" for number in range(STREAMS)]

CHILD_WRITERS: dict[str, Callable[[Operation], list[str]]] = {
    "await": lambda _: ["await_adoption(r);"],
    "parent-death": _parent_death,
    "cgroup-join": lambda o: [f'IN(SYS_write, {slot(o["slot"])}, "0", 1);'],
    "unshare": _call("SYS_unshare, {flags}"),
    "become": _become,
    "propagation": _call('SYS_mount, 0, "/", 0, {flags}, 0'),
    "fsmount": _fsmount,
    "overlay": _overlay,
    "clone-tree": _clone_tree,
    "attach": _attach,
    "mkdir": _mkdir,
    "opaque": _opaque,
    "symlink": _call("SYS_symlinkat, {target}, r->s[{dir}], {path}"),
    "network-make": lambda o: [f"start_maker(r, {number(o, 'slot')});"],
    "network-join": _network_join,
    "file": _file,
    "write": _write,
    "seal": _seal,
    "pivot": _pivot,
    "hostname": lambda o: [
        f"IN(SYS_sethostname, {text(o['name'])}, {len(word(o, 'name').encode())});"
    ],
    "loopback": _loopback,
    "umask": _call("SYS_umask, {mode}"),
    "session": _call("SYS_setsid"),
    "stdio": lambda _: _STDIO,
    "groups": _groups,
    "user": _user,
    "capabilities": _capabilities,
    "working-folder": _call("SYS_chdir, {path}"),
    "no-new-privileges": _call("SYS_prctl, PR_SET_NO_NEW_PRIVS, 1"),
    "landlock": _landlock,
    "close": _call("SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC"),
    "seccomp": _seccomp,
    "exec": _exec,
}
