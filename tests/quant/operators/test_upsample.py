"""Nearest neighbours are copied by one whole factor, and cut to any size that it covers."""

from __future__ import annotations

import pytest
from ditto_zynq.hls.contract.operators import Upsample
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from torch import nn
from torch.nn import functional as F

from tests.quant.between import Between, assert_traced_as_it_is, traced


@pytest.mark.parametrize(
    ("upsample", "factor", "crop"),
    [
        (nn.Upsample(scale_factor=2), 2, (0, 0)),
        (nn.Upsample(size=(18, 12)), 3, (0, 0)),
        (nn.Upsample(size=(11, 7)), 2, (1, 1)),
        (lambda x: F.interpolate(x, scale_factor=2.0), 2, (0, 0)),
    ],
    ids=["twice", "three times", "cut", "in no module"],
)
def test_whole_factors(upsample, factor, crop):
    graph = assert_traced_as_it_is(Between(upsample)).graph
    (node,) = (node for node in graph.nodes if isinstance(node, Upsample))
    assert (node.factor, node.crop) == (factor, crop)


@pytest.mark.parametrize("size", [(9, 6), (12, 12), (3, 2), (12, 5)])
def test_other_factors_are_refused(size):
    with pytest.raises(
        UnsupportedOperator, match=f"upsampling 6x4 to {size[0]}x{size[1]} is not by one integer factor"
    ):
        traced(Between(nn.Upsample(size=size)))


@pytest.mark.parametrize("mode", ["bilinear", "nearest-exact"])
def test_other_neighbours_are_refused(mode):
    with pytest.raises(UnsupportedOperator, match="no such operator in the integer graph"):
        traced(Between(nn.Upsample(scale_factor=2, mode=mode)))
