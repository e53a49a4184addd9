"""Convolutions are PyTorch's, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract import operators
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import Convolution
from ditto_zynq.hls.contract.random_graphs import GraphBuilder
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_convolution_is_that_of_pytorch_in_float64(seed, size, kernel, stride, padding):
    height, width, channels = size
    top, bottom, left, right = padding
    if height + top + bottom < kernel[0] or width + left + right < kernel[1]:
        return
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (2, *size))
    weight = random.integers(-127, 128, (5, *kernel, channels))
    image = torch.nn.functional.pad(torch.tensor(codes.transpose(0, 3, 1, 2)).double(), (left, right, top, bottom))
    expected = torch.nn.functional.conv2d(image, torch.tensor(weight.transpose(0, 3, 1, 2)).double(), stride=stride)
    found = operators.convolution.convolve(codes, weight, stride, padding)
    assert np.array_equal(found, expected.permute(0, 2, 3, 1).numpy())


def test_an_accumulator_beyond_int32_is_an_error():
    build = GraphBuilder(0)
    output = build.convolution(build.input((1, 1, 2)), 1)
    graph = build.graph(output)
    tables = {**build.tables, f"{output}.weight": np.full((1, 1, 1, 2), 2**24, np.int64)}
    assert isinstance(graph.nodes[0], Convolution)
    with pytest.raises(OverflowError, match="left int32"):
        Interpreter(graph, tables).step(np.full((1, 1, 1, 2), 127), 0)
