"""Channels that stay or go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.quant.prune.coupling import IN, OUT, channel_groups
from ditto_zynq.quant.prune.narrow import channels_of

from tests.quant.prune.models import inputs_of, text_unet, unet


def by_name(model):
    return {group.name: group for group in channel_groups(model, inputs_of(model))}


def paths(group, side):
    return {slot.module for slot in group.slots if slot.side == side}


@pytest.mark.parametrize("make", [unet, text_unet])
def test_every_position_of_a_module_is_of_one_channel_of_one_group(make):
    model = make()
    taken = set()
    for group in by_name(model).values():
        for slot in group.slots:
            size = channels_of(model.get_submodule(slot.module))[slot.side == IN]
            places = {(slot.module, slot.side, position) for position in slot.positions.tolist()}
            assert len(places) == len(slot.positions) and slot.positions.max() < size and not places & taken
            assert set(slot.channels.tolist()) == set(range(group.size))
            taken |= places


def test_what_a_residual_block_ties():
    inner = by_name(unet())["down_blocks.1.resnets.0.conv1"]
    block = "down_blocks.1.resnets.0"
    assert paths(inner, OUT) == {f"{block}.conv1", f"{block}.norm2", f"{block}.time_emb_proj"}
    assert paths(inner, IN) == {f"{block}.conv2"}
    assert [slot.module for _, slot in inner.writers(unet())] == [f"{block}.conv1"], "an embedding writes no pixels"


def test_a_skip_connection_ties_the_two_ends():
    stem = by_name(unet())["conv_in"]
    assert {"down_blocks.0.resnets.0.conv2", "up_blocks.1.resnets.0.norm1"} <= paths(stem, OUT)
    assert {"up_blocks.1.resnets.0.conv1", "up_blocks.1.resnets.0.conv_shortcut"} <= paths(stem, IN)


def test_the_result_and_the_embeddings_are_no_groups():
    names = by_name(unet())
    assert "conv_out" not in names and not any("embedding" in name for name in names)


def test_a_channel_of_geglu_is_one_of_each_piece():
    model = text_unet()
    [name] = [name for name in by_name(model) if name.startswith("down") and name.endswith("ff.net.0.proj")]
    group = by_name(model)[name]
    [(layer, slot)] = group.writers(model)
    assert group.size == layer.out_features // 2
    assert (
        slot.positions[np.argsort(slot.channels, kind="stable")].reshape(-1, 2) % group.size
        == np.arange(group.size)[:, None]
    ).all()
    [kernels] = group.kernels(model)
    assert kernels.shape == (group.size, 2 * layer.in_features, 1)
    weight = layer.weight.detach().numpy()
    assert np.array_equal(kernels[3, :, 0], np.concatenate([weight[3], weight[3 + group.size]]))


def test_scales_of_norms_are_means_of_all_that_scale_a_channel():
    model = unet()
    group = by_name(model)["conv_in"]
    norms = [
        ("down_blocks.0.resnets.0.norm1", 0),
        ("up_blocks.1.resnets.0.norm1", 32),
        ("up_blocks.1.resnets.1.norm1", 16),
    ]
    expected = [
        model.get_submodule(path).weight.detach().abs().numpy()[first : first + 16]
        for path, first in norms
        if path in paths(group, OUT)
    ]
    assert len(expected) >= 2 and np.allclose(group.gammas(model), np.mean(expected, axis=0))
    queries = by_name(model)["down_blocks.1.attentions.0.to_q"]
    assert np.isnan(queries.gammas(model)).all()


def test_a_model_whose_forward_fails():
    with pytest.raises(ValueError, match="found no dependencies of channels in UNet2DModel: "):
        channel_groups(unet(), {"sample": torch.zeros(1, 5, 8, 8), "timestep": torch.zeros(1)})
