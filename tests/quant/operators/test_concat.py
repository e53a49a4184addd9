"""Any tensors are written side by side: what cannot be a part is copied."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.hls.contract.operators import Concat
from ditto_zynq.quant.calibrate.network import QuantizedNetwork
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.tracing import trace
from torch import nn

from tests.quant.between import Between, assert_traced_as_it_is, traced

TIMESTEPS = [900, 400, 0]


class Concatenating(nn.Module):
    """Tensors in several concatenations: the sample, a concatenation, and one twice."""

    class config:
        num_class_embeds = None

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(24, 3, 1)

    def forward(self, sample, timestep):
        hidden = self.first(sample)
        joined = torch.cat([hidden, sample, hidden], dim=1)
        return self.last(torch.cat([joined, hidden, sample, sample], dim=1)) - 0.5 * sample


def test_any_tensor_may_be_part_of_several_concatenations():
    torch.manual_seed(1)
    model = Concatenating().eval()
    traced = trace(model, (3, 6, 6), TIMESTEPS, [0, 0, 1])
    sample, labels = torch.randn(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    quantized = QuantizedNetwork(traced, Options())
    with torch.no_grad():
        assert torch.allclose(quantized(sample, 0, labels), model(sample, 0), atol=1e-6)
    parts = [name for node in traced.graph.nodes if isinstance(node, Concat) for name in node.inputs]
    assert len(set(parts)) == len(parts) == 7


@pytest.mark.parametrize("dimension", [1, -3])
def test_channels_are_counted_from_either_end(dimension):
    model = Between(lambda x: torch.cat([x, x * x, nn.functional.relu(x)], dim=dimension), channels=12)
    assert [node.inputs for node in assert_traced_as_it_is(model).graph.nodes if isinstance(node, Concat)]


@pytest.mark.parametrize("dimension", [0, 2, -1])
def test_other_axes_are_refused(dimension):
    with pytest.raises(UnsupportedOperator, match="concatenation is supported along channels only"):
        traced(Between(lambda x: torch.cat([x, x], dim=dimension)))
