"""The script for zsh: one function for each command, with what each option means."""

from __future__ import annotations

from .kinds import groups, kind_of_value, kind_of_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..parser import Command, Option
    from .kinds import Kind

__all__ = ["script"]

HEAD = """\
#compdef viscum
# Completion of viscum for zsh, from: viscum completion zsh
_viscum_names() {
    local -a found options
    # What _arguments has to say about the place stands before our own word.
    found=("${(@f)$(viscum __names ${@[-1]} 2>/dev/null)}")
    [[ ${@[-1]} == paths ]] && options=(-S '')
    compadd "${@[1,-2]}" $options -- ${found:#}
}
_viscum_paths() { _alternative 'machines:machine:_viscum_names paths' 'files:file:_files' }
_viscum_volumes() { _alternative 'volumes:volume:_viscum_names volumes' 'files:file:_files' }
"""

TAIL = """\
if [[ $funcstack[1] == _viscum ]]; then
    _viscum "$@"
else
    compdef _viscum viscum
fi
"""


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def _action(kind: Kind) -> str:
    if kind.names == "paths":
        return "_viscum_paths"
    if kind.names and kind.files:
        return "_viscum_volumes"
    if kind.names:
        return f"_viscum_names {kind.names}"
    if kind.files:
        return "_files"
    return f"({' '.join(kind.words)})" if kind.words else " "


def _option(option: Option) -> list[str]:
    told = f"[{_help(option.help)}]"
    if option.value:
        told += f":{_help(option.value)}:{_action(kind_of_value(option))}"
    shuts = "" if option.repeats else f"({' '.join(option.flags)})"
    words = []
    for flag in option.flags:
        takes = "" if not option.value else "=" if flag[:2] == "--" else "+"
        words.append(_quote(f"{'*' if option.repeats else shuts}{flag}{takes}{told}"))
    return words


def _function(command: Command) -> str:
    specs = [word for option in command.options for word in _option(option)]
    if command.passes:
        first = kind_of_words(command)
        specs += [_quote(f"1:word:{_action(first)}")] if first.names else []
        specs += ["'*::command:_normal'"]
    else:
        specs.append(_quote(f"*:word:{_action(kind_of_words(command))}"))
    lines = " \\\n        ".join(specs)
    name = command.name.replace(" ", "_")
    return f"_viscum_of_{name}() {{\n    _arguments -s -S \\\n        {lines}\n}}\n"


def _choice(function: str, told: Mapping[str, str], called: Mapping[str, str]) -> str:
    """Return a function that completes the first word and goes on as `called` says."""
    described = "\n        ".join(_quote(f"{name}:{_help(text)}") for name, text in told.items())
    cases = "\n".join(f"        {name}) {called[name]} ;;" for name in told)
    return (
        f"{function}() {{\n    local -a commands\n    commands=(\n        {described}\n    )\n"
        "    if (( CURRENT == 2 )); then\n        _describe -t commands command commands\n"
        "        return\n    fi\n    shift words\n    (( CURRENT-- ))\n"
        f"    case $words[1] in\n{cases}\n    esac\n}}\n"
    )


def script(listed: list[Command]) -> str:
    """Return the script."""
    by_name = {command.name: command for command in listed}
    found = groups(list(by_name))
    told = {name: by_name[name].help for name in found.pop("")}
    called = {name: f"_viscum_of_{name}" for name in told}
    parts = [HEAD, *(_function(command) for command in listed)]
    for first, seconds in found.items():
        told[first], called[first] = f"commands about {first}s", f"_viscum_group_{first}"
        own = {second: by_name[f"{first} {second}"].help for second in seconds}
        inner = {second: f"_viscum_of_{first}_{second}" for second in seconds}
        parts.append(_choice(called[first], own, inner))
    parts.append(_choice("_viscum", told, called))
    return "".join([*parts, TAIL])
