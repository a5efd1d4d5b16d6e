"""The script for fish: one line for each option of each command."""

from __future__ import annotations

from .kinds import groups, kind_of_value, kind_of_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..parser import Command, Option
    from .kinds import Kind

__all__ = ["script"]

HEAD = """\
# Completion of viscum for fish, from: viscum completion fish
function __viscum_at
    # Whether the words so far are those of the command $argv, and its options.
    set -l words (commandline -opc)
    set -l count (math (count $argv) + 1)
    test (count $words) -ge $count; and test "$words[2..$count]" = "$argv"
end
function __viscum_first
    test (count (commandline -opc)) -eq 1
end
function __viscum_second
    set -l words (commandline -opc)
    test (count $words) -eq 2; and test $words[2] = $argv[1]
end
complete -c viscum -f
"""


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _argument(kind: Kind) -> str:
    names = f"(viscum __names {kind.names} 2>/dev/null)" if kind.names else ""
    offered = " ".join([*kind.words, *([names] if names else [])])
    return f" -a {_quote(offered)}" if offered else ""


def _line(condition: str, rest: str, told: str) -> str:
    return f"complete -c viscum -n {_quote(condition)}{rest} -d {_quote(told)}\n"


def _option(command: Command, option: Option) -> str:
    flags = "".join(
        f" -l {flag[2:]}" if flag[:2] == "--" else f" -s {flag[1:]}" for flag in option.flags
    )
    if option.value:
        kind = kind_of_value(option)
        flags += (" -rF" if kind.files else " -x") + _argument(kind)
    return _line(f"__viscum_at {command.name}", flags, option.help)


def _lines(listed: list[Command]) -> Iterator[str]:
    by_name = {command.name: command for command in listed}
    found = groups(list(by_name))
    for name in found.pop(""):
        yield _line("__viscum_first", f" -a {name}", by_name[name].help)
    for first, seconds in found.items():
        yield _line("__viscum_first", f" -a {first}", f"commands about {first}s")
        for second in seconds:
            told = by_name[f"{first} {second}"].help
            yield _line(f"__viscum_second {first}", f" -a {second}", told)
    for command in listed:
        yield from (_option(command, option) for option in command.options)
        kind = kind_of_words(command)
        if kind.files or kind.names or kind.words:
            rest = (" -F" if kind.files else "") + _argument(kind)
            yield _line(f"__viscum_at {command.name}", rest, "")


def script(listed: list[Command]) -> str:
    """Return the script."""
    return HEAD + "".join(_lines(listed))
