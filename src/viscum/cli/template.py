"""The part of Go's templates that people type after `--format`, read and carried out.

Fields (`.ID`, `.Labels.x`, `$`), literals, pipelines, parentheses, the functions of
`viscum.cli.functions`, `if`, `range`, `with`, `else`, `end`, comments and trim marks. Anything
else is one SpecError that says at which character it stands.
"""

from __future__ import annotations

from ..errors import SpecError
from .functions import FUNCTIONS, as_text, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Never

__all__ = ["Template"]

MAX_TEXT = 1 << 16
MAX_DEPTH = 50
MAX_OUTPUT = 1 << 24
OPEN_MAPS = frozenset(("Annotations", "Labels", "Limits", "Options", "Sysctls", "Storage"))
"""Fields whose value is filled by people: a key that is not there is empty, not an error."""

_SPACE = " \t\r\n"
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_BLOCKS = ("if", "range", "with")


def _fail(position: int, what: str, hint: str = "") -> Never:
    hint = hint or "fields such as {{.Name}}, if, range, with, and: " + ", ".join(FUNCTIONS)
    raise SpecError(f"--format, character {position + 1}: {what}", hint=hint)


class _Operand:
    """A literal, a field of something, or a call; `at` is where it stands."""

    __slots__ = ("at", "base", "kind", "path", "value")

    def __init__(
        self,
        kind: str,
        at: int,
        value: object = None,
        path: tuple[str, ...] = (),
        base: _Pipeline | None = None,
    ) -> None:
        self.kind = kind  # "literal", "dot", "root", "function" or "group"
        self.at = at
        self.value = value
        self.path = path
        self.base = base


_Pipeline = list[list[_Operand]]


class _Block:
    """An action (`kind` is "") or a block with its two bodies."""

    __slots__ = ("at", "body", "kind", "otherwise", "pipeline")

    def __init__(self, kind: str, at: int, pipeline: _Pipeline) -> None:
        self.kind = kind
        self.at = at
        self.pipeline = pipeline
        self.body: list[str | _Block] = []
        self.otherwise: list[str | _Block] = []


class _Words:
    """Splits the inside of one action into operands."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.at = start
        self.end = end
        self.depth = 0
        self.is_comment = False

    def skip(self) -> str:
        """Skip white space; return the next character, "" at the end."""
        while self.at < self.end and self.text[self.at] in _SPACE:
            self.at += 1
        return self.text[self.at] if self.at < self.end else ""

    def word(self) -> str:
        """Take letters, digits and _."""
        start = self.at
        while self.at < self.end and self.text[self.at] in _WORD:
            self.at += 1
        return self.text[start : self.at]

    def keyword(self) -> str:
        """Return the word that stands first, and take it where it is one of a block."""
        self.skip()
        start = self.at
        word = self.word()
        if word in (*_BLOCKS, "else", "end"):
            return word
        self.at = start
        return ""

    def pipeline(self) -> _Pipeline:
        """Read commands up to the end of the action or the closing parenthesis."""
        commands: _Pipeline = [[]]
        while (character := self.skip()) and character != ")":
            if character == "|":
                if not commands[-1]:
                    _fail(self.at, "nothing stands before |")
                self.at += 1
                commands.append([])
            else:
                commands[-1].append(self.operand(character))
        if not commands[-1]:
            _fail(self.at, "a value is missing")
        for command in commands:
            self.check(command, piped=command is not commands[0])
        return commands

    @staticmethod
    def check(command: list[_Operand], *, piped: bool) -> None:
        """Refuse a value that is called like a function."""
        first = command[0]
        if first.kind != "function" and (piped or len(command) > 1):
            _fail(first.at, "a function is needed here")

    def operand(self, character: str) -> _Operand:
        """Read one operand, which begins with `character`."""
        at = self.at
        if character in ('"', "`"):
            return _Operand("literal", at, self.string(character))
        if character == "(":
            return self.group()
        if character in ".$":
            self.at += 1
            if character == "$" and self.at < self.end and self.text[self.at] in _WORD:
                _fail(at, "variables are not known")
            return _Operand("root" if character == "$" else "dot", at, None, self.path(character))
        if character.isdecimal() or character == "-":
            return _Operand("literal", at, self.number())
        return self.name()

    def path(self, before: str) -> tuple[str, ...]:
        """Read `a.b.c` after a dot, or `.a.b` after anything else."""
        names = []
        dot = before == "."
        while dot or (self.at < self.end and self.text[self.at] == "."):
            self.at += 0 if dot else 1
            name = self.word()
            if not name and not (
                dot and (self.at >= self.end or self.text[self.at] in " )|\t\r\n")
            ):
                _fail(self.at, "a field's name is missing")
            if not name:
                break
            names.append(name)
            dot = False
        return tuple(names)

    def group(self) -> _Operand:
        """Read a pipeline in parentheses, and fields of its value."""
        at = self.at
        self.at += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            _fail(at, "too many parentheses")
        inner = self.pipeline()
        if self.skip() != ")":
            _fail(at, "( is not closed")
        self.at += 1
        self.depth -= 1
        return _Operand("group", at, None, self.path(")"), inner)

    def number(self) -> int:
        """Read a whole number."""
        start = self.at
        self.at += 1
        digits = self.word()
        text = self.text[start : self.at]
        if not text.isascii() or not text.lstrip("-").isdecimal() or len(digits) > 18:
            _fail(start, f"{text!r} is no whole number")
        return int(text)

    def string(self, quote: str) -> str:
        """Read a quoted string, with escapes where the quote is a double one."""
        start = self.at
        self.at += 1
        kept: list[str] = []
        while self.at < self.end:
            character = self.text[self.at]
            self.at += 1
            if character == quote:
                return "".join(kept)
            if character == "\\" and quote == '"' and self.at < self.end:
                character = _ESCAPES.get(self.text[self.at], "\\" + self.text[self.at])
                self.at += 1
            kept.append(character)
        _fail(start, "the string is not closed")

    def name(self) -> _Operand:
        """Read the name of a function, or true, false and nil."""
        at = self.at
        name = self.word()
        if name in ("true", "false", "nil"):
            return _Operand("literal", at, {"true": True, "false": False, "nil": None}[name])
        if name not in FUNCTIONS:
            _fail(at, f"{name or self.text[at]!r} is not known")
        return _Operand("function", at, name)


class _Reader:
    """Reads a whole template: text and actions, blocks within blocks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.trim = False

    def literal(self, end: int, *, trim: bool) -> str:
        """Return the text up to `end`, escapes resolved, white space trimmed where marked."""
        piece = self.text[self.at : end]
        if self.trim:
            piece = piece.lstrip(_SPACE)
        if trim:
            piece = piece.rstrip(_SPACE)
        return piece.replace("\\t", "\t").replace("\\n", "\n")

    def close_of(self, start: int) -> int:
        """Return where the action that begins at `start` ends; quotes hide braces."""
        if self.text.startswith("/*", start):
            end = self.text.find("*/", start + 2)
            return self.text.find("}}", end) if end >= 0 else -1
        at, quote = start, ""
        while at < len(self.text):
            character = self.text[at]
            if quote:
                at += character == "\\" and quote == '"'
                quote = "" if character == quote else quote
            elif character in ('"', "`"):
                quote = character
            elif self.text.startswith("}}", at):
                return at
            at += 1
        return -1

    def action(self) -> tuple[str, _Words | None]:
        """Return the text before the next action, and the action; None at the end."""
        start = self.text.find("{{", self.at)
        if start < 0:
            piece = self.literal(len(self.text), trim=False)
            self.at = len(self.text)
            return piece, None
        inner = start + 2
        before = self.text[inner : inner + 1] == "-" and self.text[inner + 1 : inner + 2] in _SPACE
        piece = self.literal(start, trim=before)
        inner += 2 * before
        while self.text[inner : inner + 1] in (" ", "\t") and self.text.startswith("/*", inner + 1):
            inner += 1
        end = self.close_of(inner)
        if end < 0:
            _fail(start, "{{ is not closed")
        self.at = end + 2
        self.trim = self.text[end - 1] == "-" and self.text[end - 2] in _SPACE and end - 1 > inner
        words = _Words(self.text, inner, end - self.trim)
        words.is_comment = self.text.startswith("/*", inner)
        return piece, words

    def read(self, depth: int = 0) -> tuple[list[str | _Block], _Words | None]:
        """Read up to `else`, `end` or the end of the text; return that too."""
        if depth > MAX_DEPTH:
            _fail(self.at, "too many blocks within blocks")
        nodes: list[str | _Block] = []
        while True:
            piece, words = self.action()
            if piece:
                nodes.append(piece)
            if words is None:
                return nodes, None
            if words.is_comment:
                continue
            keyword = words.keyword()
            if keyword in ("else", "end"):
                return nodes, words
            nodes.append(self.block(keyword, words, depth))

    def block(self, keyword: str, words: _Words, depth: int) -> _Block:
        """Read an action, or a block to its end."""
        words.skip()
        made = _Block(keyword, words.at, words.pipeline())
        if words.skip():
            _fail(words.at, f"{words.skip()!r} is not expected here")
        if keyword:
            made.body, ending = self.read(depth + 1)
            self.finish(made, ending, depth)
        return made

    def finish(self, made: _Block, ending: _Words | None, depth: int) -> None:
        """Read what follows the first body of a block: `end`, `else` or `else if`."""
        if ending is None:
            _fail(made.at, f"{{{{{made.kind}}}}} has no {{{{end}}}}")
        is_else = self.text[: ending.at].endswith("else")
        if not is_else:
            self.nothing_after(ending)
            return
        keyword = ending.keyword()
        if keyword in _BLOCKS:
            made.otherwise = [self.block(keyword, ending, depth + 1)]
            return
        self.nothing_after(ending)
        made.otherwise, ending = self.read(depth + 1)
        if ending is None or self.text[: ending.at].endswith("else"):
            _fail(made.at, f"{{{{{made.kind}}}}} has no {{{{end}}}}")
        self.nothing_after(ending)

    @staticmethod
    def nothing_after(words: _Words) -> None:
        """Refuse words after `else` and `end`."""
        if words.skip():
            _fail(words.at, "nothing is expected here")


class Template:
    """A template that was read; `render` fills it in."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise SpecError(f"--format is longer than {MAX_TEXT} characters")
        reader = _Reader(text)
        self.nodes, ending = reader.read()
        if ending is not None:
            _fail(ending.at, "there is no block to end here")

    def render(self, value: object) -> str:
        """Return the text for `value`; raises SpecError for a field it has not."""
        return _Run(value).text(self.nodes, value)

    def heading(self, headings: Mapping[str, str]) -> str:
        """Return the text with the heading of each field in its place."""
        return "".join(_headings(self.nodes, headings))


def _headings(nodes: Sequence[str | _Block], headings: Mapping[str, str]) -> list[str]:
    parts: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif node.kind:
            parts += _headings(node.body, headings)
        else:
            parts.append(_heading(node.pipeline, headings))
    return parts


def _heading(pipeline: _Pipeline, headings: Mapping[str, str]) -> str:
    """Return the heading of the first field of an action: of `.Labels.x`, what it is called."""
    for operand in (operand for command in pipeline for operand in command):
        if operand.base is not None:
            return _heading(operand.base, headings)
        if operand.path:
            return headings.get(operand.path[-1], operand.path[-1].upper())
    return ""


class _Run:
    """One filling in: what `$` is, and how much was written."""

    def __init__(self, root: object) -> None:
        self.root = root
        self.left = MAX_OUTPUT

    def text(self, nodes: Sequence[str | _Block], dot: object) -> str:
        """Return the text of `nodes`, in which `.` is `dot`."""
        parts = []
        for node in nodes:
            piece = node if isinstance(node, str) else self.block(node, dot)
            self.left -= len(piece)
            if self.left < 0:
                raise SpecError(f"--format: more than {MAX_OUTPUT} characters come out of it")
            parts.append(piece)
        return "".join(parts)

    def block(self, node: _Block, dot: object) -> str:
        """Return the text of an action or of a block."""
        value = self.pipeline(node.pipeline, dot)
        if not node.kind:
            return as_text(value)
        if node.kind == "range":
            items = self.items(node, value)
            if items:
                return "".join([self.text(node.body, item) for item in items])
            return self.text(node.otherwise, dot)
        if truth(value):
            return self.text(node.body, value if node.kind == "with" else dot)
        return self.text(node.otherwise, dot)

    @staticmethod
    def items(node: _Block, value: object) -> list[object]:
        """Return what `range` goes over: a list's items, a map's values in order of its keys."""
        if isinstance(value, dict):
            return [value[key] for key in sorted(value)]
        if isinstance(value, (list, tuple)):
            return list(value)
        if value is None:
            return []
        _fail(node.at, f"range cannot go over {as_text(value)!r}", "over a list or a map")

    def pipeline(self, commands: _Pipeline, dot: object) -> object:
        """Return the value of a pipeline."""
        value = self.command(commands[0], dot, [])
        for command in commands[1:]:
            value = self.command(command, dot, [value])
        return value

    def command(self, command: list[_Operand], dot: object, piped: list[object]) -> object:
        """Return the value of an operand, or of a function with its arguments."""
        first = command[0]
        if first.kind != "function":
            return self.operand(first, dot)
        arguments = [self.operand(operand, dot) for operand in command[1:]] + piped
        return _call(first, arguments)

    def operand(self, operand: _Operand, dot: object) -> object:
        """Return the value of one operand."""
        if operand.kind == "literal":
            return operand.value
        if operand.kind == "function":
            return _call(operand, [])
        if operand.base is not None:
            value = self.pipeline(operand.base, dot)
        else:
            value = dot if operand.kind == "dot" else self.root
        return _field(value, operand)


def _call(operand: _Operand, arguments: list[object]) -> object:
    name = str(operand.value)
    try:
        return FUNCTIONS[name](*arguments)
    except TypeError:
        _fail(operand.at, f"{name} does not take {len(arguments)} such arguments")
    except (ValueError, OverflowError) as error:  # FunctionError among them
        _fail(operand.at, f"{name}: {error}")


def _field(value: object, operand: _Operand) -> object:
    is_open = False
    for name in operand.path:
        if not isinstance(value, dict):
            _fail(operand.at, f".{name} is asked of {as_text(value)[:40]!r}, which has no fields")
        if name in value:
            value = value[name]
        elif is_open:
            value = ""
        else:
            known = ", ".join(str(key) for key in value)
            _fail(operand.at, f"there is no field .{name}", f"one of: {known}")
        is_open = name in OPEN_MAPS
    return value
