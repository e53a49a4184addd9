"""What depends on timestep and label only is evaluated for each of them, as PyTorch does."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.configuration_utils import FrozenDict
from ditto_zynq.quant.calibrate.network import QuantizedNetwork
from ditto_zynq.quant.common.options import Options
from ditto_zynq.quant.common.unsupported import UnsupportedOperator
from ditto_zynq.quant.trace.tracing import trace
from torch import nn

from tests.pipelines import unet2d


class Conditioned(nn.Module):
    """A layer whose result is moved and scaled by what timestep and label say."""

    config = FrozenDict(num_class_embeds=3)

    def __init__(self):
        super().__init__()
        self.conv, self.embedding = nn.Conv2d(3, 4, 1), nn.Embedding(3, 4)

    def forward(self, sample, timestep, class_labels=None):
        moved = self.conv(sample) + self.term(timestep, class_labels)
        return moved * torch.cos(timestep)[:, None, None, None] / (1 + timestep.float())[:, None, None, None]

    def term(self, timestep, labels):
        return (self.embedding(labels) * timestep[:, None])[:, :, None, None]


@torch.no_grad()
@pytest.mark.parametrize("labels", [[0, 1, 2], [2]])
def test_tables_have_a_row_for_every_step_and_label(labels):
    torch.manual_seed(0)
    model, timesteps = Conditioned().eval(), [7.0, 2.5]
    parameters = trace(model, (3, 6, 4), timesteps, [0, 0], labels).parameters
    assert parameters["conv.bias"].shape == parameters["conv.gate"].shape == (2, len(labels), 4)
    for row, timestep in enumerate(timesteps):
        for column, label in enumerate(labels):
            bias = model.conv.bias + model.embedding.weight[label] * timestep
            gate = torch.cos(torch.tensor(timestep)) / (1 + timestep)
            assert torch.allclose(parameters["conv.bias"][row, column], bias, atol=1e-6)
            assert torch.allclose(parameters["conv.gate"][row, column], gate.expand(4), atol=1e-6)


def test_a_result_divided_by_its_time():
    """The Fourier embedding of score-based models (Song et al. 2021), which has no value at time 0."""
    torch.manual_seed(1)
    unet = UNet2DModel.from_config(unet2d().config, time_embedding_type="fourier").eval()
    model = QuantizedNetwork(trace(unet, (3, 8, 8), [900, 400, 20], [0, 0, 1]), Options())
    sample, labels = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    for step, timestep in enumerate([900, 400, 20]):
        with torch.no_grad():
            expected, found = unet(sample, torch.full((2,), timestep)).sample, model(sample, step, labels)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UnsupportedOperator, match="at timestep 0 that is not finite"):
        trace(unet, (3, 8, 8), [0], [0])
