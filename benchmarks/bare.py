"""Writes and builds the bare C program of a plan: its operations as literal system calls.

Each operation becomes the calls that the core makes for it on its way to success, with the
arguments in place. An operation that has no words here ends the benchmark, so that the two cannot
drift apart unseen.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bare_child import CHILD_WRITERS
from bare_host import HOST_WRITERS, LOAD_WRITERS, Unknown, number, quoted, slot
from viscum.drivers.process import BASE_ID
from viscum.plan import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from viscum.drivers.process import Compiled

__all__ = ["build", "mark_names", "steps"]

HERE = os.path.dirname(os.path.abspath(__file__))
NATIVE = os.path.join(os.path.dirname(HERE), "native")
FIXED_MARKS = "STARTED PIPED CLONED ADOPTED ENTERED EXECUTED ENDED REAPED READ RELEASED".split()
"""Points that every launch passes; those of the operations follow them."""
FUNCTIONS = {
    "load": "load(void)",
    "prepare": "prepare(struct run *r)",
    "adopt": "adopt(struct run *r)",
    "enter": "enter(struct run *r)",
    "release": "give_back(struct run *r)",
}
REMOVE_GROUP = """
static void remove_group(struct run *r, int root, const char *name) {
    long ret;
    while ((ret = SYS(SYS_unlinkat, root, name, AT_REMOVEDIR)) == -EBUSY)
        SYS(SYS_nanosleep, (&(struct timespec){0, 1000000}), 0);
    host_call(ret, __LINE__);
    (void)r;
}
"""


def mark_names(compiled: Compiled) -> list[str]:
    """Return what each number that a profile gives was taken at."""
    return FIXED_MARKS + [operation.describe() for operation in compiled.plan.operations]


def _section(compiled: Compiled, section: str) -> Iterator[str]:
    """Yield the C statements of a section; `exec` belongs to `enter`."""
    names = ("enter", "exec") if section == "enter" else (section,)
    for index, operation in enumerate(compiled.plan.operations):
        if operation.section not in names:
            continue
        for writers in (LOAD_WRITERS, HOST_WRITERS, CHILD_WRITERS):
            if operation.name in writers:
                yield f"    {{ // {operation.describe()}"
                yield from (f"        {line}" for line in writers[operation.name](operation))
                yield "    }"
                break
        else:
            raise Unknown(f"bare.py has no words for: {operation.describe()}")
        if section != "load":
            yield f"    MARK({len(FIXED_MARKS) + index});"


def _owned(compiled: Compiled) -> list[int]:
    """Return the slots that a launch fills in the launching process and closes at its end."""
    made = [o for o in compiled.plan.operations if o.section == "prepare"]
    return [number(o, "slot") for o in made if o.name != "cgroup-write"]


def _usage(compiled: Compiled) -> Iterator[str]:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    for at, name in compiled.files:
        if at != NONE:
            yield f"    fd = (int)HOST(SYS_openat, {slot(at)}, {quoted(name.encode())}, {flags});"
            yield "    HOST(SYS_read, fd, r->file, sizeof r->file);"
            yield "    HOST(SYS_close, fd);"


def write_calls(compiled: Compiled) -> str:
    """Return the text of calls.h; the streams are given to the machine's root."""
    clone = next(o for o in compiled.plan.operations if o.name == "clone")
    flags, group = number(clone, "flags"), clone["cgroup"]
    into = f"{flags:#x}ull | 0x200000000ull" if group != NONE else f"{flags:#x}ull"
    marks = [f"    {name}," for name in FIXED_MARKS]
    lines = ["/* Written by bare.py. */", "enum {", *marks, "};"]
    lines.append(f"#define MARKS {len(FIXED_MARKS) + len(compiled.plan.operations)}")
    lines.append(f"#define CLONE_FLAGS ({into})")
    lines.append(f"#define CLONE_CGROUP {slot(group) if group != NONE else 0}")
    lines += [f"#define STREAM_UID {BASE_ID}", f"#define STREAM_GID {BASE_ID}"]
    lines.append(REMOVE_GROUP)
    for section, head in FUNCTIONS.items():
        lines += [f"static void {head} {{", "    int fd;", "    (void)fd;"]
        lines += [] if section == "load" else ["    (void)r;"]
        lines += _section(compiled, section)
        if section == "release":
            lines += [f"    HOST(SYS_close, {slot(at)});" for at in _owned(compiled)]
        lines.append("}\n")
    lines += ["static void usage(struct run *r) {", "    int fd;", "    (void)fd, (void)r;"]
    lines += [*_usage(compiled), "}"]
    return "\n".join(lines) + "\n"


def build(lab: Lab, compiled: Compiled, name: str, *, profile: bool = False) -> str:
    """Return the path of the bare program of a plan, built in a folder of its own."""
    folder = lab.folder(name)
    with open(os.path.join(folder, "calls.h"), "w", encoding="utf-8") as file:
        file.write(write_calls(compiled))
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wno-unused-function", "-I", folder, "-I", NATIVE]
    flags += ["-D_GNU_SOURCE", "-pthread", *(["-DPROFILE"] if profile else [])]
    return lab.compile(os.path.join(HERE, "bare.c"), os.path.join(folder, name), flags)


def steps(compiled: Compiled) -> Iterator[tuple[str, int, int]]:
    """Yield (name, mark before it, mark after it) for each step of a launch in order."""
    mark = {name: number for number, name in enumerate(FIXED_MARKS)}
    yield "pipes", mark["STARTED"], mark["PIPED"]
    last = {"prepare": mark["PIPED"], "adopt": mark["CLONED"], "release": mark["READ"]}
    last["enter"] = last["exec"] = mark["ENTERED"]
    for index, operation in enumerate(compiled.plan.operations):
        section, after = operation.section, len(FIXED_MARKS) + index
        if operation.name == "clone":
            yield operation.describe(), last["prepare"], mark["CLONED"]
            yield "child runs, signals reset", mark["CLONED"], mark["ENTERED"]
        elif operation.name in ("exec", "exec-slot"):
            yield "exec", last["enter"], mark["EXECUTED"]
            yield "command runs and ends", mark["EXECUTED"], mark["ENDED"]
            yield "output read, reaped", mark["ENDED"], mark["REAPED"]
            yield "usage read", mark["REAPED"], mark["READ"]
        elif section in last:
            yield operation.describe(), last[section], after
            last[section] = after
            last["enter"] = after if section == "enter" else last["enter"]
    yield "descriptors closed", last["release"], mark["RELEASED"]
    yield "all of it", mark["STARTED"], mark["RELEASED"]
