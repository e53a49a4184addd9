"""Chains of differences to the pixel before give the sums of the codes."""

from __future__ import annotations

import numpy as np
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from ditto_zynq.hls.contract.references import Reference
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    padding=st.tuples(*[st.integers(0, 5)] * 4),
)
def test_spatial_differences_of_every_shape(seed, size, kernel, stride, padding):
    """Windows beyond either end, strides wider than the image, all-padding columns."""
    if size[0] + padding[0] + padding[1] < kernel[0] or size[1] + padding[2] + padding[3] < kernel[1]:
        return
    build = GraphBuilder(seed)
    graph = build.graph(build.convolution(build.input(size), 3, kernel, stride, padding))
    codes = build.codes(2)
    expected, found = (
        Interpreter(graph, build.tables).step(codes, 0, references=each)[graph.output]
        for each in (Reference.ZERO, Reference.NEIGHBOUR)
    )
    assert np.array_equal(found, expected)
