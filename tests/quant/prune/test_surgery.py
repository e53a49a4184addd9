"""A pruned network computes what the masked one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.quant.prune.allocation import least_of, structure_of
from ditto_zynq.quant.prune.coupling import channel_groups
from ditto_zynq.quant.prune.coverage import best_of_cells
from ditto_zynq.quant.prune.narrow import narrow_kind
from ditto_zynq.quant.prune.surgery import kept_positions, transfer, widths_of

from tests.quant.prune.models import inputs_of, masked, text_unet, unet

MODELS = {
    "unet": unet,
    "text": text_unet,
    "two_layers": lambda: unet(layers_per_block=2),
    "odd_groups": lambda: unet(block_out_channels=(12, 24), norm_num_groups=3),
    "without_attention": lambda: unet(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2),
    "resnet_sampling": lambda: unet(downsample_type="resnet", upsample_type="resnet"),
    "scale_shift": lambda: unet(resnet_time_scale_shift="scale_shift"),
    "linear_projection": lambda: text_unet(use_linear_projection=True),
}


def choices(groups, model, share, random):
    chosen = {}
    for group in groups:
        structure, least = structure_of(group, model), least_of(group, model)
        keep = max(round(share * group.size / least), 1) * least
        scores = random.normal(size=len(structure.units))
        chosen[group.name] = best_of_cells(scores, structure, min(keep, group.size), random)
    return chosen


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("name", MODELS)
def test_a_pruned_network_is_the_masked_one(name, share):
    dense = MODELS[name]()
    inputs = inputs_of(dense)
    groups = channel_groups(dense, inputs)
    kept = kept_positions(dense, groups, choices(groups, dense, share, np.random.default_rng(3)))
    widths = widths_of(dense, kept)
    narrow = narrow_kind(dense).from_config({**dense.config, "widths": widths}).eval()
    transfer(dense, narrow, kept)
    with torch.no_grad():
        found, expected = narrow(**inputs).sample, masked(dense, kept)(**inputs).sample
        full = dense(**inputs).sample
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, full, rtol=1e-2, atol=1e-2), "something must have gone"


def test_what_is_not_chosen_stays_whole():
    dense = unet()
    groups = channel_groups(dense, inputs_of(dense))
    assert kept_positions(dense, groups, {}) == {}
    everything = {group.name: np.arange(group.size) for group in groups}
    narrow = unet()
    transfer(dense, narrow, kept_positions(dense, groups, everything))
    assert all(
        torch.equal(a, b) for a, b in zip(dense.state_dict().values(), narrow.state_dict().values(), strict=True)
    )


def test_shapes_that_do_not_come_out():
    dense = unet()
    with pytest.raises(
        ValueError, match=r"conv_in.weight: found \(16, 2, 3, 3\) of the dense model's, expected \(8, 2, 3, 3\)"
    ):
        transfer(dense, unet(block_out_channels=(8, 32)), {})
