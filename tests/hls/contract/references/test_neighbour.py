"""Sums that go on from the pixel or token before are those of the codes, and no step needs another one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import random_unet
from ditto_zynq.hls.contract.references import NEIGHBOUR, Reference


def test_it_is_asked_for_from_the_first_step_on_and_keeps_nothing():
    assert [NEIGHBOUR.asked_at(position) for position in range(2)] == [Reference.NEIGHBOUR] * 2
    assert NEIGHBOUR.of(SimpleNamespace(from_neighbour=lambda: "chains")) == "chains"
    assert NEIGHBOUR.in_chains and not (NEIGHBOUR.keeps or NEIGHBOUR.adds_kept)
    assert (NEIGHBOUR.flow, NEIGHBOUR.column) == ("spatial", "spatial_cycles")


def test_sums_are_those_of_the_codes():
    build, graph = random_unet(3)
    codes, context = build.codes(1), build.codes(1, "context") if graph.context else None
    found, expected = (
        Interpreter(graph, build.tables).step(codes, 2, references=asked, context=context)
        for asked in (NEIGHBOUR.asked_at(0), Reference.ZERO)
    )
    assert all(np.array_equal(found[node.name], expected[node.name]) for node in graph.nodes)
