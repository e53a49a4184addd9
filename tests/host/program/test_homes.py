"""Parts of a concatenation are slices of one buffer, and all else has a buffer of its own."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.host.program.homes import find_homes


def test_parts_by_hand():
    build = GraphBuilder(0)
    source = build.input((2, 2, 3))
    a, b, c = (build.convolution(source, channels) for channels in (5, 7, 2))
    joined = build.concat(a, b)
    graph = build.graph(build.group_norm(joined, 1))
    homes = find_homes(graph, [a, b, c, graph.output])
    assert homes.buffers == {
        "sample": ("sample", 0),
        a: (joined, 0),
        b: (joined, 5),
        c: (c, 0),
        joined: (joined, 0),
        graph.output: (graph.output, 0),
    }
    assert [homes.pitch(name) for name in ("sample", a, b, c, joined, graph.output)] == [3, 12, 12, 2, 12, 12]


def test_what_is_only_passed_on_within_an_operation_has_none():
    build = GraphBuilder(0)
    value = build.convolution(build.input((2, 2, 3)), 4)
    between = build.silu(value)
    graph = build.graph(build.quantize(between))
    assert between not in find_homes(graph, [value, graph.output]).buffers


def test_a_part_of_two_concatenations_is_refused():
    """Which no graph that was checked has."""
    build = GraphBuilder(0)
    source = build.input((2, 2, 3))
    a, b = build.convolution(source, 4), build.convolution(source, 4)
    build.concat(a, b)
    again = build.concat(b, a)
    graph = Graph(build.tensors, tuple(build.nodes), "sample", again, (0,))
    with pytest.raises(ValueError, match=f"{again}: {b} is part of two concatenations"):
        find_homes(graph, [a, b])
