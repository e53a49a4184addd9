"""Dataclasses as schemas: a field's annotation says what it may be, and reading JSON into it checks all that it says.

    heads: Annotated[int, Range(1, 65535)]

pydantic does as much for JSON, but brings five packages and ten megabytes of compiled code to a board; and most of what a model
holds are tables, whose legal values depend on the graph (:mod:`..contract.table_rules`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import re
import reprlib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from .limits import LONGEST_NAME, LONGEST_TEXT


@dataclass(frozen=True)
class Range:
    """A rule for numbers: the smallest and the largest legal one."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low} to {self.high}"

    def allows(self, value: Any) -> bool:
        """Whether a number is in the range."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Length:
    """A rule for texts and lists: the smallest and the largest legal number of characters or of elements."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"of length {self.low} to {self.high}"

    def allows(self, value: Any) -> bool:
        """Whether a text or a list has a legal length."""
        return self.low <= len(value) <= self.high


@dataclass(frozen=True)
class Matches:
    """A rule for texts: a regular expression of the whole text."""

    pattern: str

    def __str__(self) -> str:
        return f"that matches {self.pattern}"

    def allows(self, value: Any) -> bool:
        """Whether a text matches."""
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class OneOf:
    """A rule for texts and numbers: the legal ones."""

    values: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"that is one of {', '.join(map(str, self.values))}"

    def allows(self, value: Any) -> bool:
        """Whether a value is a legal one."""
        return value in self.values


Name = Annotated[str, Length(1, LONGEST_NAME)]
Text = Annotated[str, Length(0, LONGEST_TEXT)]
PLAIN = {int: "an integer", float: "a finite number", bool: "true or false", str: "printable text", type(None): "null"}


class Illegal(ValueError):
    """Raised for a value that a schema does not allow; the message is one line."""


def read(kind: Any, value: Any, where: str, others: bool = False) -> Any:
    """``value``, as of JSON, in the form of ``kind``: a dataclass, a type, or a type with rules. Lists become tuples.

    ``where`` names it in messages. ``others``: a dataclass's JSON may have fields that it has not. Illegal for what is not as
    ``kind`` says.
    """
    origin = get_origin(kind)
    if origin is Annotated:
        base, *rules = get_args(kind)
        found = read(base, value, where, others)
        for rule in rules:
            if found is not None and not rule.allows(found):
                raise _illegal(where, value, f"{_describe(base)} {rule}")
        return found
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), value, where, others)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, where, others)
    if origin is Mapping:
        return _read_mapping(get_args(kind), value, where, others)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, where, others)
    if not _is_plain(kind, value):
        raise _illegal(where, value, PLAIN[kind])
    return value


def check(record: Any, where: str) -> None:
    """Illegal where a field of a dataclass instance is not what its annotation says."""
    for name, kind in _hints(record.__class__).items():
        read(kind, getattr(record, name), f"{where}: {name}")


def first_repeated(names: Iterable[str]) -> str | None:
    """The first of ``names`` that stands there again; None where all are different."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def show(value: Any) -> str:
    """The text of a value in a message: on one line, and short."""
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 60
    text = shortened.repr(value)
    return text if text.isprintable() else " ".join(text.split())  # arrays have rows


def _illegal(where: str, value: Any, expected: str) -> Illegal:
    return Illegal(f"{where}: found {show(value)}, expected {expected}")


def _is_plain(kind: Any, value: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is not str or value.isprintable())


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _read_union(kinds: tuple[Any, ...], value: Any, where: str, others: bool) -> Any:
    if value is None and type(None) in kinds:
        return None
    alternatives = [kind for kind in kinds if kind is not type(None)]
    if len(alternatives) == 1:
        return read(alternatives[0], value, where, others)
    for kind in alternatives:
        with contextlib.suppress(Illegal):
            return read(kind, value, where, others)
    raise _illegal(where, value, " or ".join(_describe(kind) for kind in kinds))


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str, others: bool) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _illegal(where, value, "a list")
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    elif len(kinds) != len(value):
        raise _illegal(where, value, f"a list of {len(kinds)}")
    return tuple(
        read(kind, item, f"{where}[{index}]", others)
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _read_mapping(kinds: tuple[Any, ...], value: Any, where: str, others: bool) -> Any:
    if not isinstance(value, Mapping):
        raise _illegal(where, value, "an object")
    return {
        read(kinds[0], key, f"{where}: name", others): read(kinds[1], item, f"{where}: {show(key)}", others)
        for key, item in value.items()
    }


def _read_record(kind: Any, value: Any, where: str, others: bool) -> Any:
    if isinstance(value, kind):
        check(value, where)
        return value
    if not isinstance(value, Mapping):
        raise _illegal(where, value, f"an object, {kind.__name__}")
    hints = _hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown and not others:
        raise _illegal(where, unknown[0], f"only {', '.join(hints)}")
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in needed if name not in value]
    if missing:
        raise Illegal(f"{where}: found no {missing[0]}, expected {', '.join(needed)}")
    return kind(**{name: read(hints[name], value[name], f"{where}: {name}", others) for name in hints if name in value})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _describe(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_describe(each) for each in get_args(kind))
    if get_origin(kind) is Annotated:
        return " ".join((_describe(get_args(kind)[0]), *map(str, get_args(kind)[1:])))
    return PLAIN.get(kind, "a list" if get_origin(kind) is tuple else "an object")
