"""Widths that a stock configuration can say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from ditto_zynq.quant.prune.allocation import Grain
from ditto_zynq.quant.prune.blocks import block_config, group_widths, refitted_time_layer, widths_of_blocks
from ditto_zynq.quant.prune.coupling import channel_groups

from tests.quant.prune.models import inputs_of, text_unet, unet


@pytest.mark.parametrize("make", [unet, text_unet])
def test_a_width_for_each_block(make):
    model = make()
    groups = channel_groups(model, inputs_of(model))
    widths = widths_of_blocks(groups, model, Grain(tile=4, lanes=4))
    assert [(width.name, width.size) for width in widths] == [("0", 16), ("1", 32)]
    assert all(width.step % 4 == 0 and len(width.scales) for width in widths)
    smaller = group_widths(groups, model, block_config(model, {1: 24}))
    assert smaller["conv_in"] == 16 and smaller["down_blocks.1.resnets.0.conv1"] == 24


def test_with_fewer_sinusoids_the_time_layer_is_fitted_anew():
    dense = unet()
    narrow = UNet2DModel.from_config(block_config(dense, {0: 12}))
    fitted = refitted_time_layer(dense, narrow)
    narrow.load_state_dict({**narrow.state_dict(), **fitted})
    steps = torch.arange(0, 1000, 7)
    with torch.no_grad():
        expected, found = (model.time_embedding.linear_1(model.time_proj(steps).float()) for model in (dense, narrow))
    assert (found - expected).square().mean() < 0.5 * expected.var(), (
        "nearer than a constant, of random weights, by far"
    )
    assert refitted_time_layer(dense, unet()) == {}
    assert np.isfinite(fitted["time_embedding.linear_1.weight"].numpy()).all()
