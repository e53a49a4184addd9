"""The smallest denoiser that is traced: two layers, and whatever is between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ditto_zynq.quant.calibrate.network import QuantizedNetwork
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.trace.tracing import FloatModel, trace
from torch import nn

SHAPE = (3, 6, 4)


class Between(nn.Module):
    """``then`` makes something of the first layer's result [B, 4, 6, 4]; it has ``channels`` for the last layer, or is the output
    itself where these are 0."""

    class config:
        num_class_embeds = None

    def __init__(self, then: Callable[[torch.Tensor], torch.Tensor], channels: int = 4):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.then = nn.Conv2d(SHAPE[0], 4, 1), then
        self.last = nn.Conv2d(channels, 3, 1) if channels else nn.Identity()
        self.eval()

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.last(self.then(self.first(sample)))


def traced(model: Between) -> FloatModel:
    return trace(model, SHAPE, [2, 1, 0], [0, 0, 1])


@torch.no_grad()
def assert_traced_as_it_is(model: Between) -> FloatModel:
    """The float graph gives what the module gives."""
    found, sample = traced(model), torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    result = QuantizedNetwork(found, Options())(sample, 0, torch.zeros(2, dtype=torch.long))
    expected = model(sample, torch.zeros(2))
    assert result.shape == expected.shape and torch.allclose(result, expected, atol=1e-6)
    return found
