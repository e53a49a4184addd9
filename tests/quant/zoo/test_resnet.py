"""The residual network."""

from __future__ import annotations

import torch
from ditto_zynq.quant.zoo.resnet import ResNet


def test_shapes_and_multiplications():
    model = ResNet(1, (4, 8, 12)).eval()
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    assert len(model.blocks) == 3 and model.blocks[0].shortcut(torch.ones(1)) == 1
    assert isinstance(model.blocks[1].shortcut, torch.nn.Sequential)
