"""A dataclass's annotations are what is checked when JSON is read into it; messages are one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from ditto_zynq.hls.common.schema import Illegal, Length, Matches, Name, OneOf, Range, check, first_repeated, read


@dataclass(frozen=True)
class Inner:
    ratio: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    name: Name
    size: tuple[Annotated[int, Range(1, 9)], Annotated[int, Range(1, 9)]]
    kind: Annotated[str, OneOf(("code", "value"))] = "code"
    inner: Inner | None = None
    numbers: Annotated[tuple[int, ...], Length(0, 3)] = ()
    digest: Annotated[str, Matches("[0-9a-f]+")] = "0"
    flag: bool = False
    sides: Annotated[int, Range(1, 9)] | tuple[Annotated[int, Range(1, 9)], ...] | None = None


LEGAL = {"name": "a", "size": [1, 9]}


def test_lists_become_tuples_and_objects_records():
    found = read(Outer, {**LEGAL, "inner": {"ratio": 1}, "numbers": [3]}, "file")
    assert found == Outer("a", (1, 9), "code", Inner(1), (3,))
    assert read(Outer, {**LEGAL, "surprise": 1}, "file", others=True) == read(Outer, LEGAL, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "file: name: found 3, expected printable text"),
        ({"name": ""}, "file: name: found '', expected printable text of length 1 to 256"),
        ({"name": "two\nlines"}, r"found 'two\\nlines', expected printable text"),
        ({"name": "x" * 300}, "found 'x{20,}.*expected printable text of length 1 to 256"),
        ({"size": [1]}, r"size: found \[1\], expected a list of 2"),
        ({"size": 1}, "size: found 1, expected a list$"),
        ({"size": [1, 10]}, r"size\[1\]: found 10, expected an integer from 1 to 9"),
        ({"size": [1, True]}, r"size\[1\]: found True, expected an integer"),
        ({"size": [1, 2.0]}, r"size\[1\]: found 2.0, expected an integer"),
        ({"kind": "codes"}, "kind: found 'codes', expected printable text that is one of code, value"),
        ({"kind": []}, r"kind: found \[\], expected printable text"),
        ({"inner": {"ratio": float("nan")}}, "inner: ratio: found nan, expected a finite number"),
        ({"inner": {"ratio": 10**400}}, "inner: ratio: found 1000.*expected a finite number"),
        ({"inner": {"ratio": "1"}}, "inner: ratio: found '1', expected a finite number"),
        ({"inner": 5}, "inner: found 5, expected an object, Inner"),
        ({"numbers": [1, 2, 3, 4]}, "numbers: found .*expected a list of length 0 to 3"),
        ({"digest": "xyz"}, "digest: found 'xyz', expected printable text that matches"),
        ({"flag": 1}, "flag: found 1, expected true or false"),
        ({"sides": 10}, "sides: found 10, expected an integer from 1 to 9 or a list or null"),
        ({"sides": [1, 10]}, r"sides: found \[1, 10\], expected an integer from 1 to 9 or a list or null"),
        ({"surprise": 1}, "file: found 'surprise', expected only name, size"),
    ],
)
def test_what_is_not_legal_is_refused_in_one_line(change, message):
    with pytest.raises(Illegal, match=message) as caught:
        read(Outer, {**LEGAL, **change}, "file")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_unions_are_read_once():
    for legal, expected in ((3, 3), ([1, 9], (1, 9)), (None, None)):
        assert read(Outer, {**LEGAL, "sides": legal}, "file").sides == expected


def test_the_first_repeated_name_of_many_is_found_in_one_pass():
    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    names = [Name(index) for index in range(2000)]
    assert first_repeated(names) is None and first_repeated([*names, "7", "3"]) == "7"
    assert Name.compared < 10 * len(names)


def test_missing_fields():
    with pytest.raises(Illegal, match="file: found no size, expected name, size"):
        read(Outer, {"name": "a"}, "file")


def test_records_that_were_built_in_code_are_checked_too():
    check(Outer("a", (1, 9)), "it")
    with pytest.raises(Illegal, match=r"it: size\[0\]: found 0"):
        check(Outer("a", (0, 9)), "it")
