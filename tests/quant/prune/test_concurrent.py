"""Pruning while training, on the residual network without training it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ditto_zynq.quant.prune.allocation import Grain, counter, least_of
from ditto_zynq.quant.prune.concurrent import ConcurrentPruning, ConcurrentRecipe, give_back
from ditto_zynq.quant.prune.coupling import OUT, channel_groups
from ditto_zynq.quant.prune.macs import macs
from ditto_zynq.quant.zoo.resnet import ResNet

from tests.quant.prune.models import inputs_of, unet

IMAGES = {"images": torch.zeros(1, 1, 28, 28)}


def inner_groups(model):
    return [group for group in channel_groups(model, IMAGES) if group.name.endswith("conv1")]


def pruning(seed=0, criterion="reprune", share=0.5, regrown=0.3):
    torch.manual_seed(seed)
    model = ResNet(1, (8, 16, 24))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.1, 2)
            torch.nn.init.normal_(module.running_mean)
    groups = inner_groups(model)
    recipe = ConcurrentRecipe(int(share * macs(model, IMAGES)), criterion=criterion, regrown=regrown, seed=seed)
    return ConcurrentPruning(model, groups, counter(model, groups, IMAGES), recipe)


def test_the_structure_is_found_every_few_epochs_and_then_stays():
    due = [epoch for epoch in range(16) if ConcurrentRecipe(1, interval=3, last_epoch=8).is_due(epoch)]
    assert due == [3, 6, 8]


@pytest.mark.parametrize("criterion", ["reprune", "l1", "random"])
def test_at_the_last_time_no_more_is_left_than_asked(criterion):
    found = pruning(criterion=criterion)
    found.choose(found.recipe.last_epoch)
    assert 0.3 * macs(found.dense, IMAGES) < macs(found.model, IMAGES) <= found.recipe.most


def test_channels_that_went_come_back_with_their_last_values():
    found = pruning()
    found.choose(2)
    went = {
        path: np.setdiff1d(np.arange(24), kept.outputs) for path, kept in found.kept.items() if path == "blocks.2.conv1"
    }
    before = found.dense.blocks[2].conv1.weight.detach().clone()
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter += 1
    give_back(found.model, found.dense, found.kept)
    after = found.dense.blocks[2].conv1.weight.detach()
    kept = found.kept["blocks.2.conv1"].outputs
    assert len(went["blocks.2.conv1"]) and torch.equal(after[went["blocks.2.conv1"]], before[went["blocks.2.conv1"]])
    assert torch.allclose(after[kept], before[kept] + 1)


def test_fewer_and_fewer_are_regrown():
    found = pruning(regrown=0.5)
    sizes = []
    for epoch in (1, 4, 8):
        found.choose(epoch)
        sizes.append(macs(found.model, IMAGES))
    assert sizes[0] > sizes[1] > sizes[2]


def test_taking_back_what_was_not_trained_changes_nothing():
    found = pruning()
    before = {name: value.clone() for name, value in found.dense.state_dict().items()}
    found.choose(2)
    give_back(found.model, found.dense, found.kept)
    assert all(torch.equal(value, before[name]) for name, value in found.dense.state_dict().items())


def test_a_saved_state_goes_on_as_one_that_was_not_saved(tmp_path):
    found, other = pruning(), pruning()
    found.choose(2)
    found.save(tmp_path / "state.safetensors", 3, {"seed": 0})
    assert other.resume(tmp_path / "state.safetensors", {"seed": 0}) == 3
    for each in (found, other):
        each.choose(4)
    one, two = found.model.state_dict(), other.model.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ValueError, match="is of another recipe; use the same one, or another output folder"):
        other.resume(tmp_path / "state.safetensors", {"seed": 1})
    assert other.resume(tmp_path / "missing", {}) == 0


def test_denoisers_regrow_whole_groups_of_their_norms():
    model = unet(block_out_channels=(32, 64), norm_num_groups=4)
    inputs = inputs_of(model, batch=1)
    groups = channel_groups(model, inputs)
    count = counter(model, groups, inputs)
    sizes = []
    for epoch in (1, 8):
        recipe = ConcurrentRecipe(int(0.5 * macs(model, inputs)), regrown=0.9, grain=Grain(16, 8))
        found = ConcurrentPruning(model, groups, count, recipe)
        found.choose(epoch)
        sizes.append(macs(found.model, inputs))
        for group in groups:
            kept = next(len(found.kept[slot.module].outputs) for slot in group.slots if slot.side == OUT)
            assert kept % least_of(group, model) == 0, group.name
        with torch.no_grad():
            assert found.model(**inputs).sample.isfinite().all()
    assert sizes[0] > sizes[1] and sizes[1] <= 0.5 * macs(model, inputs)
