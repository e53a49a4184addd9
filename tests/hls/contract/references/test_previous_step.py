"""Sums that go on from the step before are those of the codes; a run's first step has none before it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.contract.references import PREVIOUS_STEP, Reference


def test_the_first_step_refers_to_zero():
    asked = [PREVIOUS_STEP.asked_at(position) for position in range(3)]
    assert asked == [Reference.ZERO, Reference.PREVIOUS_STEP, Reference.PREVIOUS_STEP]
    assert PREVIOUS_STEP.of(SimpleNamespace(from_previous_step=lambda: "differences")) == "differences"


def test_it_needs_what_its_flow_keeps():
    assert PREVIOUS_STEP.keeps and PREVIOUS_STEP.adds_kept and not PREVIOUS_STEP.in_chains
    assert (PREVIOUS_STEP.flow, PREVIOUS_STEP.column) == ("difference", "difference_cycles")


def test_sums_are_those_of_the_codes():
    build, graph = random_unet(3)
    by_difference, by_codes = (Interpreter(graph, build.tables) for _ in range(2))
    codes, context = build.codes(1), build.codes(1, "context") if graph.context else None
    with pytest.raises(ValueError, match="there is no previous step to refer to"):
        by_difference.step(codes, 0, references=Reference.PREVIOUS_STEP, context=context)
    for step in range(3):
        asked = PREVIOUS_STEP.asked_at(step)
        found = by_difference.step(codes, step, references=asked, context=context)
        assert np.array_equal(found[graph.output], by_codes.step(codes, step, context=context)[graph.output])
        codes = build.next_codes(codes)
