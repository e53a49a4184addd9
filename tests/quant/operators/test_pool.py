"""Means over windows are PyTorch's, in floating point and in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.operators import AveragePool, StepTables
from ditto_zynq.hls.contract.tensor import VALUE, Tensor
from ditto_zynq.quant.builders.lowering import Lowering
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.operators import operator_of
from torch import nn
from torch.nn import functional as F

from tests.quant.between import Between, assert_traced_as_it_is, traced


class Plain(nn.Module):
    """Windows of 2 x 2, without a word of strides."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2)


@pytest.mark.parametrize(
    "pool", [nn.AvgPool2d(2), nn.AvgPool2d((4, 4), stride=4), nn.AvgPool2d(3), Plain()], ids=["2", "4", "3", "plain"]
)
def test_windows_of_any_size(pool):
    """Those of 4 and 3 leave rows and columns over."""
    assert_traced_as_it_is(Between(pool))


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (nn.AvgPool2d(3, stride=2), "square windows that do not overlap"),
        (nn.AvgPool2d((2, 1)), "square windows that do not overlap"),
        (nn.AvgPool2d(2, padding=1), "with padding or ceil_mode is not supported"),
        (nn.AvgPool2d(4, ceil_mode=True), "with padding or ceil_mode is not supported"),
        (nn.AvgPool2d(2, divisor_override=3), "with a divisor of its own is not supported"),
    ],
    ids=["overlapping", "rectangular", "padded", "ceil", "divided"],
)
def test_other_windows_are_refused(pool, message):
    with pytest.raises(UnsupportedOperator, match=message):
        traced(Between(pool))


def test_integers_are_means_rounded_once():
    node = AveragePool("n", "n", ("x",), size=3)
    tensors = {"x": Tensor("x", VALUE, (7, 6, 2)), "n": Tensor("n", VALUE, (2, 2, 2))}
    scales = {"x": np.array([0.01, 0.5]), "n": np.array([0.007, 0.3])}
    lowering = Lowering(Graph(tensors, (node,), "x", "n", (0, 1)), scales, {}, None, frozenset())
    operator_of(node).lower(node, lowering)
    values = np.random.default_rng(0).integers(-9000, 9000, (2, 7, 6, 2))
    for group in (0, 1):
        tables = StepTables(lowering.tables, "n", group, group, np.zeros(2, np.int64))
        found = node.run((values,), tables, tensors["n"]) * scales["n"][group]
        images = torch.from_numpy(values * scales["x"][group]).permute(0, 3, 1, 2)
        expected = F.avg_pool2d(images, 3).permute(0, 2, 3, 1).numpy()
        assert np.abs(found - expected).max() <= 0.5001 * scales["n"][group]
