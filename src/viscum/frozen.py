"""Frozen structs that cost nothing to import: `dataclasses` takes longer than a whole launch."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self, dataclass_transform
else:

    def dataclass_transform(**_options: object) -> object:
        return lambda decorated: decorated


__all__ = ["Frozen"]


@dataclass_transform(frozen_default=True)
class Frozen:
    """Base of immutable records; fields are the annotations, defaults the class attributes."""

    __fields__: tuple[str, ...] = ()
    __defaults__: dict[str, object] = {}  # noqa: RUF012 - of each class its own

    def __init_subclass__(cls) -> None:
        own = tuple(name for name in cls.__annotations__ if name[:2] != "__")
        cls.__fields__ = cls.__fields__ + own
        given = {name: cls.__dict__[name] for name in own if name in cls.__dict__}
        cls.__defaults__ = {**cls.__defaults__, **given}

    def __init__(self, *values: object, **named: object) -> None:
        fields, state = self.__fields__, self.__dict__
        if len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values, got {len(values)}")
        state.update(self.__defaults__)
        state.update(zip(fields, values, strict=False))
        for name in named:
            if name not in fields or name in fields[: len(values)]:
                raise TypeError(f"{type(self).__name__} got an unexpected value for {name!r}")
        state.update(named)
        if len(state) != len(fields):
            lacking = next(name for name in fields if name not in state)
            raise TypeError(f"{type(self).__name__} lacks a value for {lacking!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def _key(self) -> tuple[object, ...]:
        state = self.__dict__
        return tuple([state[name] for name in self.__fields__])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        pairs = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__fields__)
        return f"{type(self).__name__}({pairs})"

    def replace(self, **changes: object) -> Self:
        """Return a copy with `changes` made."""
        return type(self)(**{**{name: self.__dict__[name] for name in self.__fields__}, **changes})
