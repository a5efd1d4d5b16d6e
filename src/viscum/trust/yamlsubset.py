"""The part of YAML that registries.d(5) is written in: mappings of mappings and of scalars.

Lists, anchors, tags, flow style and text over several lines are refused, as are doubled keys.
"""

from __future__ import annotations

import re

from ..errors import TrustError

__all__ = ["Mapping", "read_yaml"]

Mapping = dict[str, "str | bool | Mapping"]

_PLAIN_KEY = re.compile(r"([^\s:#'\"\[\]{},&*!|>%@`-][^#]*?|-[^\s#][^#]*?)\s*:(?:\s+(.*))?$")
_QUOTED_KEY = re.compile(r"(\"[^\"\\]*\"|'[^']*')\s*:(?:\s+(.*))?$")
MAX_BYTES = 1024 * 1024
MAX_LINE = 4096


def _without_comment(line: str) -> str:
    quote = ""
    for index, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and (index == 0 or line[index - 1] in " :"):
            quote = sign
        elif sign == "#" and (index == 0 or line[index - 1] in " \t"):
            return line[:index].rstrip()
    return line.rstrip()


def _scalar(text: str, where: str) -> str | bool:
    if text[:1] in "'\"":
        if len(text) < 2 or text[-1] != text[0] or text[0] in text[1:-1] or "\\" in text:
            raise TrustError(f"{where}: {text} is a quoted text that is not understood")
        return text[1:-1]
    if text[:1] in "[{&*!|>%@`,]}" or text[:2] in ("- ", "? ") or ": " in text:
        raise TrustError(f"{where}: {text!r} is YAML that is not understood", hint="KEY: VALUE")
    if text in ("true", "True", "TRUE"):
        return True
    return False if text in ("false", "False", "FALSE") else text


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.top: Mapping = {}
        self.open: list[tuple[int, Mapping]] = [(0, self.top)]
        self.pending: tuple[Mapping, str, int] | None = None  # a key whose mapping may follow

    def line(self, number: int, line: str) -> None:
        where = f"{self.source}:{number}"
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if "\t" in line[: indent + 1]:
            raise TrustError(f"{where}: is indented by a tab", hint="use spaces")
        self._nest(indent, where)
        match = _QUOTED_KEY.match(text) or _PLAIN_KEY.match(text)
        if not match:
            raise TrustError(f"{where}: {text!r} is no KEY: VALUE")
        key = match[1][1:-1] if match[1][0] in "'\"" else match[1]
        mapping = self.open[-1][1]
        if key in mapping:
            raise TrustError(f"{where}: {key!r} stands there twice")
        if match[2]:
            mapping[key] = _scalar(match[2].strip(), where)
        else:
            mapping[key] = ""
            self.pending = (mapping, key, indent)

    def _nest(self, indent: int, where: str) -> None:
        if self.pending:
            mapping, key, above = self.pending
            self.pending = None
            if indent > above:
                inner: Mapping = {}
                mapping[key] = inner
                self.open.append((indent, inner))
        while len(self.open) > 1 and self.open[-1][0] > indent:
            self.open.pop()
        if self.open[-1][0] != indent:
            raise TrustError(f"{where}: is indented by {indent}, as no line above it")


def read_yaml(data: bytes, source: str) -> Mapping:
    """Return the mapping that `data` states; raises TrustError with the line of what is wrong."""
    if len(data) > MAX_BYTES:
        raise TrustError(f"{source}: has more than {MAX_BYTES} bytes")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise TrustError(f"{source}: is not UTF-8") from None
    reader = _Reader(source)
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise TrustError(f"{source}:{number}: has more than {MAX_LINE} characters")
        kept = _without_comment(line)
        if kept.strip() and not (kept == "---" and not reader.top):
            reader.line(number, kept)
    return reader.top
