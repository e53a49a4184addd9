"""Means over windows: one factor both ways, and only the pixels of whole windows are read."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.machine.isa import Opcode
from ditto_zynq.host.studies.spot_check import Wrong

from tests.host.operators.small import Small, value_of


@pytest.fixture
def small() -> Small:
    """5 x 7 pixels of 8 values, in windows of 2 x 2."""
    build = GraphBuilder(0)
    return Small(build, build.average_pool(value_of(build, (5, 7, 8))))


def test_numbers_of_the_descriptor_and_scalars(small):
    name = small.graph.output
    form, scalars = small.form(name), small.scalars(name)
    assert (form.opcode, form.window, form.window_width) == (Opcode.AVERAGE_POOL, 2, 2)
    assert (form.output_height, form.output_width) == (2, 3)
    assert scalars["multiplier0"] == small.build.tables[f"{name}.multiplier"][0]
    assert scalars["shift"] == small.build.tables[f"{name}.shift"][0]


def test_beats_and_cycles_by_hand(small):
    """6 windows of 4 pixels of a beat; a vector of each pixel and one to finish."""
    expected = {"input_beats": 24, "output_beats": 6, "merged_beats": 0, "vector_cycles": 30, "cycles": 30}
    assert small.counts(small.graph.output) == expected


def test_samples(small):
    small.check_samples(small.graph.output)
    with pytest.raises(Wrong):
        small.check_samples(small.graph.output, spoiled=(0, 1, 2, 7))
