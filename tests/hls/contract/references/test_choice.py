"""A choice asks for each of its candidates once, one a step, and then for itself, which Defo must decide."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ditto_zynq.hls.contract.references import DEFO, DEFO_PLUS, Reference

ZERO, PREVIOUS, NEIGHBOUR = Reference.ZERO, Reference.PREVIOUS_STEP, Reference.NEIGHBOUR


@pytest.mark.parametrize(("choice", "tried"), [(DEFO, [ZERO, PREVIOUS]), (DEFO_PLUS, [ZERO, PREVIOUS, NEIGHBOUR])])
def test_every_candidate_is_tried_once(choice, tried):
    assert [choice.asked_at(position) for position in range(5)] == [*tried, *[choice.reference] * (5 - len(tried))]
    columns = [candidate.column for candidate in choice.candidates]
    assert len(set(columns)) == len(tried) and None not in columns, "each has cycles of its own to compare"


@pytest.mark.parametrize("choice", [DEFO, DEFO_PLUS])
def test_what_is_kept_serves_whatever_is_chosen_and_nothing_runs_undecided(choice):
    assert choice.keeps and choice.column is None
    with pytest.raises(ValueError, match="expected what Defo has decided for"):
        choice.of(SimpleNamespace())
