"""Write the system call tables and the pre-resolved default profile of `viscum.guard`.

    gen_syscalls.py tables DIRECTORY    src/viscum/guard/syscalls_<arch>.py
    gen_syscalls.py ranges              src/viscum/guard/profile_<arch>.py

DIRECTORY holds the kernel's exported headers of every architecture, laid out as the wheel of
`ziglang` carries them (`pip download ziglang`, then `ziglang/lib/libc/include` of the archive):
`<family>-linux-any/asm/unistd_64.h` and so on, and `any-linux-any/linux/version.h`. The numbers
are the kernel's user interface: they never change, and new ones are only added.
"""

from __future__ import annotations

import pathlib
import re
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUARD = ROOT / "src" / "viscum" / "guard"
sys.path.insert(0, str(ROOT / "src"))

from viscum.guard import policy, profile, syscalls  # noqa: E402

HEADERS = {
    "x86_64": ("x86-linux-any/asm/unistd_64.h",),
    "x86": ("x86-linux-any/asm/unistd_32.h",),
    "x32": ("x86-linux-any/asm/unistd_x32.h",),
    "aarch64": ("aarch64-linux-any/asm/unistd_64.h",),
    "arm": ("arm-linux-any/asm/unistd-eabi.h", "arm-linux-any/asm/unistd.h"),
    "riscv64": ("riscv-linux-any/asm/unistd_64.h",),
    "s390x": ("s390x-linux-any/asm/unistd_64.h",),
    "ppc64le": ("powerpc-linux-any/asm/unistd_64.h",),
}
BASES = {
    "__X32_SYSCALL_BIT": 0x40000000,
    "__NR_SYSCALL_BASE": 0,
    "__ARM_NR_BASE": 0xF0000,
}
NOT_CALLS = {"SYSCALL_MASK", "syscalls", "BASE", "OABI_SYSCALL_BASE", "SYSCALL_BASE"}
DEFINE = re.compile(r"#\s*define\s+__(?:ARM_)?NR_(\w+)\s+(.+)")
RANGED = {"x86_64": ("x86_64", "x86", "x32"), "aarch64": ("aarch64", "arm")}


def definitions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the expression of every number that `text` defines."""
    for line in text.splitlines():
        found = DEFINE.match(line)
        if found and found[1] not in NOT_CALLS:
            yield found[1], found[2].split("/*")[0].strip(" ()\t")


def numbers(paths: list[pathlib.Path]) -> dict[str, int]:
    """Return the number of each system call that the headers at `paths` name."""
    table: dict[str, int] = {}
    for path in paths:
        for name, expression in definitions(path.read_text()):
            base, _, offset = expression.replace(" ", "").rpartition("+")
            if offset.startswith("__NR_"):
                table[name] = table[offset.removeprefix("__NR_")]
            else:
                table[name] = (BASES[base] if base else 0) + int(offset, 0)
    return table


def literal(number: int) -> str:
    """Return `number` as these files write it."""
    return f"0x{number:X}" if number > 0xFFFF else str(number)


def words(table: dict[str, int], base: int) -> list[str]:
    """Return `table` as words: a number, and the names that count up from it.

    A second name of one number comes last, after its number again.
    """
    names: dict[int, str] = {}
    seconds: list[str] = []
    for name, number in table.items():
        if names.setdefault(number, name) != name:
            seconds += [str(number - base), name]
    found: list[str] = []
    for number in sorted(names):
        if number - 1 not in names:
            found.append(str(number - base))
        found.append(names[number])
    return found + seconds


def table_module(arch: str, version: str, table: dict[str, int]) -> str:
    """Return the text of the module that holds the table of `arch`."""
    base = BASES["__X32_SYSCALL_BIT"] if arch == "x32" else 0
    return "\n".join(
        [
            f'"""System call numbers of {arch} as of Linux {version}.',
            "",
            "TABLE holds numbers, each followed by the names that count up from it; BASE is added.",
            "",
            "Written by tools/gen_syscalls.py; do not edit.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            f"BASE = {literal(base)}",
            'TABLE = """',
            *textwrap.wrap(" ".join(words(table, base)), 96, break_on_hyphens=False),
            '"""',
            "",
        ]
    )


def write_tables(directory: pathlib.Path) -> None:
    """Write the table of every architecture from the headers in `directory`."""
    text = (directory / "any-linux-any" / "linux" / "version.h").read_text()
    code = int(re.findall(r"LINUX_VERSION_CODE\s+(\d+)", text)[0])
    version = f"{code >> 16}.{code >> 8 & 0xFF}"
    for arch, paths in HEADERS.items():
        table = numbers([directory / path for path in paths])
        (GUARD / f"syscalls_{arch}.py").write_text(table_module(arch, version, table))


def columns(name: str, values: list[str]) -> list[str]:
    """Return the lines of a tuple called `name`, filled to the width of a line."""
    filled = textwrap.wrap(", ".join(values) + ",", 92)
    return [f"{name} = (", *(f"    {line}" for line in filled), ")"]


def always(group: profile.Group) -> bool:
    """Return whether `group` lets its calls through whatever the machine is."""
    return group.action == policy.ALLOW and not (group.conditions or group.caps or group.arches)


def range_module(native: str) -> str:
    """Return the text of the module that holds the default profile resolved for `native`."""
    rules = tuple(group.rule(profile.DENY) for group in profile.GROUPS)
    plain = {(place,) for place, group in enumerate(profile.GROUPS) if always(group)}
    keys: dict[tuple[int, ...] | None, int] = {}
    lines: list[str] = []
    for arch in RANGED[native]:
        found = syscalls.segments(rules, arch)
        starts: list[str] = []
        indexes: list[int] = []
        for start, place in zip(*found[:2], strict=True):
            owner = min(plain) if found[2][place] in plain else found[2][place]
            index = keys.setdefault(owner, len(keys))
            if indexes[-1:] != [index]:
                starts.append(literal(start))
                indexes.append(index)
        lines += columns(f"STARTS_{arch.upper()}", starts)
        lines += columns(f"KEYS_{arch.upper()}", [str(index) for index in indexes])
    table = [
        f'    "{arch}": (STARTS_{arch.upper()}, KEYS_{arch.upper()}),' for arch in RANGED[native]
    ]
    groups = [repr(key) for key in keys]
    return "\n".join(
        [
            f'"""The default profile as ranges of numbers for {native} and its companions.',
            "",
            "A range begins at a number of STARTS_* and belongs to the groups that GROUPS has at",
            "its place of KEYS_*: indexes into `profile.GROUPS`, or None past the newest call.",
            "",
            "Written by tools/gen_syscalls.py; do not edit.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            "# fmt: off",
            "GROUPS: tuple[tuple[int, ...] | None, ...] = (",
            *(f"    {group}," for group in groups),
            ")",
            *lines,
            "RANGES = {",
            *table,
            "}",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Run the command that `arguments` name."""
    if arguments[:1] == ["tables"] and len(arguments) == 2:
        write_tables(pathlib.Path(arguments[1]))
    elif arguments == ["ranges"]:
        for native in RANGED:
            (GUARD / f"profile_{native}.py").write_text(range_module(native))
    else:
        sys.stderr.write(__doc__ or "")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
