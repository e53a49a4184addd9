"""Upsampling is PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.random_graphs import GraphBuilder


@pytest.mark.parametrize("size", [(1, 2), (4, 5), (5, 9)])
def test_upsampling_to_an_odd_size_is_that_of_pytorch(size):
    """As diffusers asks for where a skip has an odd size: 2 n - 1 of n."""
    build = GraphBuilder(0)
    source = build.input((*size, 3))
    larger = build.upsample(source, crop=(1, 0))
    graph = build.graph(build.convolution(larger, 2))
    codes = build.codes(2)
    found = Interpreter(graph, build.tables).step(codes, 0)[larger]
    image = torch.from_numpy(codes.transpose(0, 3, 1, 2)).float()
    expected = torch.nn.functional.interpolate(image, size=(2 * size[0] - 1, 2 * size[1]), mode="nearest")
    assert np.array_equal(found, expected.permute(0, 2, 3, 1).numpy())
