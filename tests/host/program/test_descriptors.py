"""Descriptors say who leads, who runs at the same time, and where the later samples of a batch lie."""

from __future__ import annotations

import numpy as np
import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.contract.tensor import CODE
from ditto_zynq.hls.machine.isa import Flag
from ditto_zynq.host.program.compiler import lay_out

from tests.hls.configs import SHIPPED, TINY


def test_convolutions_that_share_an_operand_follow_the_first_one():
    build = GraphBuilder(0)
    source = build.input((2, 3, 5))
    first, alone, second = build.convolution(source, 7), build.convolution(source, 4, kind=CODE), None
    second = build.convolution(alone, 7)
    program = lay_out(build.graph(build.add(first, second)), build.tables, SHIPPED, 1)
    d = program.descriptors
    assert d["leader"].tolist() == [0, 0, 2, 3] and d["node"].tolist() == d["layer"].tolist() == [0, 1, 2, 3]
    follows = Flag.FOLLOWS | Flag.SHARES_OPERAND
    assert [int(flags & follows) for flags in d["flags"]] == [0, follows, 0, 0]
    assert d["scalars"].tolist() == [0, 64, 128, 192]
    assert [bool(flags & Flag.CODE_OUTPUT) for flags in d["flags"]] == [False, True, False, False]
    assert [bool(flags & Flag.CODE_INPUT) for flags in d["flags"]] == [True, True, True, False]
    shape = [d[name].tolist()[1] for name in ("height", "width", "channels", "output_channels")]
    assert shape == [2, 3, 5, 4]


@pytest.fixture(scope="module")
def in_parts():
    build, graph = random_unet(8)
    return lay_out(graph, build.tables, TINY, 3)


def test_parts_of_a_batch_are_the_same_but_for_their_samples(in_parts):
    """3 samples: 2 in the first half, 1 in the other, whose operands begin 2 samples later."""
    d, graph = in_parts.descriptors, in_parts.graph
    pairs = [
        (in_parts.layers[operation.layer].index, operation.index)
        for operation in in_parts.operations
        if operation.first_sample
    ]
    assert len(pairs) == len(in_parts.layers) > 10
    for first, later in pairs:
        operation = in_parts.operations[later]
        source = graph.tensors[operation.first.inputs[0]]
        width = in_parts.placements[source.name].pitch * source.dtype.itemsize
        pixels = int(np.prod(source.shape[:2]))
        assert (d["batch"][first], d["batch"][later]) == (2, 1) and d["layer"][first] == d["layer"][later]
        assert d["input"][later] - d["input"][first] == 2 * pixels * width
        assert d["leader"][first] == d["leader"][later] or not operation.is_linear


def test_pairs_are_of_both_units(in_parts):
    paired = np.flatnonzero(in_parts.descriptors["flags"] & Flag.PAIRED)
    assert len(paired) > 3
    units = [[in_parts.operations[index + after].is_linear for after in (0, 1)] for index in paired]
    assert units == [[True, False]] * len(paired)
