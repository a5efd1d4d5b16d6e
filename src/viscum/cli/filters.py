"""`--filter KEY=VALUE`, for listings and prune: keys are checked, labels match as people expect."""

from __future__ import annotations

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Filters", "labels_match", "parse_labels"]


def parse_labels(words: Sequence[str]) -> dict[str, str]:
    """Return the labels that `NAME[=VALUE]` words give; raises SpecError for one without name."""
    labels = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name:
            raise SpecError(f"--label {word!r} has no name", hint="--label NAME=VALUE")
        labels[name] = value
    return labels


def labels_match(labels: Mapping[str, object], wanted: str) -> bool:
    """Return whether `wanted`, `NAME` or `NAME=VALUE`, is among `labels`."""
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


class Filters:
    """The filters of one command line: of one key any may hold, of all keys each must."""

    def __init__(
        self, words: Sequence[str], tests: Mapping[str, Callable[[dict[str, object], str], bool]]
    ) -> None:
        self.wanted: list[tuple[str, str]] = []
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or key not in tests:
                hint = ", ".join(f"{name}=…" for name in sorted(tests))
                raise SpecError(f"--filter {word!r} is unknown", hint=hint)
            self.wanted.append((key, value))
        self.tests = tests

    def values(self, key: str) -> list[str]:
        """Return what was asked for under `key`."""
        return [value for name, value in self.wanted if name == key]

    def match(self, row: dict[str, object]) -> bool:
        """Return whether `row` is wanted. Of several labels each must be there."""
        for key in dict(self.wanted):
            results = [self.tests[key](row, value) for value in self.values(key)]
            if not (all(results) if key in ("label", "label!") else any(results)):
                return False
        return True
