"""Later samples of a batch lie behind the first ones: tensors, vectors, kept operands and sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.host.operators.places import Placement, Places, StatePlace


@pytest.fixture
def places() -> Places:
    """2 x 3 pixels of 5 codes in a buffer 8 wide -> 7 values, as part of a buffer 10 wide."""
    build = GraphBuilder(0)
    graph = build.graph(build.convolution(build.input((2, 3, 5)), 7))
    return Places(
        graph,
        tensors={"sample": Placement(64, 8), graph.output: Placement(1006, 10)},
        weights={},
        vectors={"n0.bias": 4096, "n0.multiplier": 2048},
        sample_stride=320,
        state={graph.output: StatePlace((100,), (4000,), 9000)},
        plans={},
        constant=frozenset(),
    )


def test_the_first_samples_are_where_everything_begins(places):
    graph = places.graph
    assert places.tensor(graph.tensors["sample"]) == Placement(64, 8)
    assert places.vector("n0.bias", per_sample=True) == 4096
    assert places.kept_operand(graph.nodes[0], 0) == (100, 4000) and places.accumulators(graph.nodes[0]) == 9000


def test_the_others_are_behind_them(places):
    graph, later = places.graph, replace(places, first_sample=3)
    assert later.tensor(graph.tensors["sample"]) == Placement(64 + 3 * 6 * 8, 8), "codes"
    assert later.tensor(graph.tensors[graph.output]) == Placement(1006 + 3 * 6 * 10 * 2, 10), "values"
    assert later.vector("n0.bias", per_sample=True) == 4096 + 3 * 320
    assert later.vector("n0.multiplier", per_sample=False) == 2048, "which all samples share"
    assert later.kept_operand(graph.nodes[0], 0) == (100 + 3 * 30, 4000), "kept without gaps"
    assert later.accumulators(graph.nodes[0]) == 9000 + 3 * 42 * 4
