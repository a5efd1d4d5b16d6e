"""A parser of command lines from a declarative table; argparse alone takes longer than a launch.

The same table gives the parser, the help and the reference in docs/.
"""

from __future__ import annotations

from ..errors import SpecError

__all__ = ["HELP", "Command", "Option", "Parsed", "parse"]


class Option:
    """An option: its flags, what it takes ("" for a switch), whether it repeats, its help."""

    __slots__ = ("flags", "help", "key", "repeats", "value")

    def __init__(self, flags: str, value: str, help_text: str, *, repeats: bool = False) -> None:
        self.flags = flags.split()
        self.key = self.flags[-1].lstrip("-").replace("-", "_")
        self.value = value
        self.repeats = repeats
        self.help = help_text


HELP = Option("-h --help", "", "show this help")


class Command:
    """A verb: its name, the module under `viscum.cli` that has its `main`, and its options.

    With `passes` everything from the first word that is no option belongs to the machine.
    """

    __slots__ = ("help", "module", "name", "options", "passes", "usage")

    def __init__(
        self,
        name: str,
        module: str,
        usage: str,
        help_text: str,
        options: tuple[Option, ...] = (),
        *,
        passes: bool = False,
    ) -> None:
        self.name = name
        self.module = module
        self.usage = usage
        self.help = help_text
        self.options = options
        self.passes = passes


class Parsed:
    """What was given: options by key, and the words that are none."""

    __slots__ = ("dashed", "options", "words")

    def __init__(self) -> None:
        self.options: dict[str, str | bool | list[str]] = {}
        self.words: list[str] = []
        self.dashed = False
        """Whether -- stands before the words."""

    def text(self, key: str) -> str | None:
        """Return the value of an option, or None."""
        value = self.options.get(key)
        return value if isinstance(value, str) else None

    def texts(self, key: str) -> list[str]:
        """Return every value of an option that repeats."""
        value = self.options.get(key)
        return value if isinstance(value, list) else []

    def on(self, key: str) -> bool:
        """Return whether a switch was given."""
        return self.options.get(key) is True


def _unknown(command: Command, flag: str) -> SpecError:
    return SpecError(f"{flag} is no option of {command.name}", hint=f"viscum {command.name} --help")


def _switch(text: str, flag: str) -> bool:
    if text not in ("true", "false"):
        raise SpecError(f"{flag}={text} is neither true nor false")
    return text == "true"


def _store(parsed: Parsed, option: Option, value: str | bool) -> None:  # noqa: FBT001
    if option.repeats and isinstance(value, str):
        values = parsed.options.setdefault(option.key, [])
        values.append(value)  # type: ignore[union-attr]
    else:
        parsed.options[option.key] = value


def _expand(flags: dict[str, Option], word: str) -> list[str]:
    """Split `-it` into `-i -t`, and `-eA=1` into `-e` and its value."""
    words = []
    for index in range(1, len(word)):
        flag = "-" + word[index]
        words.append(flag)
        option = flags.get(flag)
        if option is not None and option.value and word[index + 1 :]:
            words.append("\0" + word[index + 1 :])
            break
    return words


def parse(command: Command, words: list[str]) -> Parsed:
    """Return what `words` say to `command`; raises SpecError for what it does not know."""
    flags = {flag: option for option in command.options for flag in option.flags}
    parsed, rest = Parsed(), list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            parsed.dashed = not parsed.words
            parsed.words += reversed(rest)
            break
        if word[:1] != "-" or word == "-":
            parsed.words.append(word)
            if command.passes:
                parsed.words += reversed(rest)
                break
            continue
        if word[:2] != "--" and word not in flags and len(word) > 2:
            rest += reversed(_expand(flags, word))
            continue
        _take(command, flags, parsed, word, rest)
    return parsed


def _take(
    command: Command, flags: dict[str, Option], parsed: Parsed, word: str, rest: list[str]
) -> None:
    flag, equals, value = word.partition("=")
    option = flags.get(flag)
    if option is None:
        raise _unknown(command, flag)
    if not option.value:
        _store(parsed, option, _switch(value, flag) if equals else True)
    elif equals:
        _store(parsed, option, value)
    elif rest:
        _store(parsed, option, rest.pop().removeprefix("\0"))
    else:
        raise SpecError(f"{flag} needs a value: {option.value}")
