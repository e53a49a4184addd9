"""Every reference has one number, one flow and, where cycles are compared, one column of Defo's table."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.references import KINDS, Reference, ReferenceKind, kind_of
from ditto_zynq.hls.machine.isa import DEFO


def test_numbers_and_flows_are_those_of_records_and_commands():
    assert [int(reference) for reference in Reference] == [0, 1, 2, 3, 4] and set(KINDS) == set(Reference)
    assert [kind_of(number).flow for number in range(5)] == ["original", "difference", "spatial", "defo", "defo+"]
    with pytest.raises(ValueError, match="99"):
        kind_of(99)


def test_columns_stand_in_the_table():
    columns = [kind.column for kind in KINDS.values() if kind.column is not None]
    assert len(set(columns)) == len(columns) == 3 and set(columns) <= set(DEFO.names)


def test_what_a_reference_does_not_say_is_that_it_keeps_nothing_and_stays_the_same():
    class Other(ReferenceKind):
        def of(self, work):
            return work

    other = Other(Reference.NEIGHBOUR, "other", "help")
    assert {other.asked_at(position) for position in range(3)} == {Reference.NEIGHBOUR}
    assert not (other.keeps or other.adds_kept or other.in_chains or other.candidates or other.column)
    with pytest.raises(TypeError):
        ReferenceKind(Reference.ZERO, "abstract", "help")
