"""A quantized network rounds operands and weights as its scales say, each step with those of its group."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.quant.calibrate.network import FLOAT, QUANTIZED, QuantizedNetwork
from ditto_zynq.quant.calibrate.quantizers import stepwise_scaling
from ditto_zynq.quant.common.options import Options
from torch import nn
from torch.nn import functional as F

from tests.quant.between import SHAPE, Between, traced

SAMPLE, LABELS = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.zeros(2, dtype=torch.long)
RANGES = torch.tensor([1.0, 2.0, 4.0])  # of three steps


@pytest.fixture
def model() -> Between:
    return Between(nn.SiLU())


@pytest.fixture
def network(model) -> QuantizedNetwork:
    """As after a pass that has seen ``RANGES`` everywhere."""
    network = QuantizedNetwork(traced(model), Options())
    for quantizer in (*network.codes.values(), *network.values.values()):
        stepwise_scaling(quantizer).threshold.copy_(RANGES)
    return network


def rounded(x: torch.Tensor, largest: float) -> torch.Tensor:
    """Codes of 8 bits."""
    return (x * 128 / largest).round().clamp(-128, 127) * largest / 128


def rounded_layer(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Weights of 8 bits, whose scales are those of their rows."""
    scale = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    return F.conv2d(x, (layer.weight / scale).round() * scale, layer.bias)


@torch.no_grad()
def test_a_quantized_step_is_that_of_rounded_operands_and_weights(model, network):
    network.regroup()
    network.mode = QUANTIZED
    for step, largest in enumerate([2.0, 2.0, 4.0]):  # two groups
        hidden = F.silu(rounded_layer(model.first, rounded(SAMPLE, largest)))
        expected = rounded_layer(model.last, rounded(hidden, largest))
        assert torch.allclose(network(SAMPLE, step, LABELS), expected, atol=1e-5)
    assert not torch.allclose(expected, model(SAMPLE, LABELS), atol=1e-3)


def test_groups_have_the_largest_range_of_their_steps(network):
    network.regroup()
    assert network.graph.group_of_step == (0, 0, 1)
    assert network.scales("sample").tolist() == [2 / 128, 4 / 128]
    assert network.scales("first").tolist() == [2 / 2**15, 4 / 2**15]


@torch.no_grad()
def test_fine_codes_are_a_sixteenth_as_coarse(model, network):
    network.regroup()
    (name,) = (node.name for node in network.graph.nodes if node.name.endswith(".code"))
    errors = []
    for _ in range(2):
        network.mode, network.single = FLOAT, None
        assert torch.allclose(network(SAMPLE, 2, LABELS), model(SAMPLE, LABELS), atol=1e-5)
        network.single = name
        errors.append(float((network(SAMPLE, 2, LABELS) - model(SAMPLE, LABELS)).square().mean().sqrt()))
        if not network.fine:
            network.make_fine(name)
    assert 0 < errors[1] < errors[0] / 8
