"""Pruning while training, on the residual network without training it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ditto_zynq.quant.prune.concurrent import ConcurrentPruning, ConcurrentRecipe, give_back
from ditto_zynq.quant.prune.coupling import channel_groups
from ditto_zynq.quant.prune.macs import LayerMacs, macs
from ditto_zynq.quant.prune.surgery import kept_positions, widths_of
from ditto_zynq.quant.zoo.resnet import ResNet

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

    layers = LayerMacs(model, IMAGES)

    def count(kept):
        chosen = {name: np.arange(number) for name, number in kept.items()}
        return layers.total(widths_of(model, kept_positions(model, groups, chosen)))

    recipe = ConcurrentRecipe(int(share * macs(model, IMAGES)), criterion=criterion, regrown=regrown, seed=seed)
    return ConcurrentPruning(model, groups, count, recipe)


def test_the_structure_is_found_every_few_epochs_and_then_stays():
    due = [epoch for epoch in range(16) if ConcurrentRecipe(1, interval=3, last_epoch=8).is_due(epoch)]
    assert due == [3, 6, 8]


@pytest.mark.parametrize("criterion", ["reprune", "l1", "random"])
def test_at_the_last_time_no_more_is_left_than_asked(criterion):
    found = pruning(criterion=criterion)
    model = found.choose(copy.deepcopy(found.dense), found.recipe.last_epoch)
    assert 0.3 * macs(found.dense, IMAGES) < macs(model, IMAGES) <= found.recipe.most


def test_channels_that_went_come_back_with_their_last_values():
    found = pruning()
    first = found.choose(copy.deepcopy(found.dense), 2)
    went = {
        path: np.setdiff1d(np.arange(24), kept.outputs) for path, kept in found.kept.items() if path == "blocks.2.conv1"
    }
    before = found.dense.blocks[2].conv1.weight.detach().clone()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 1
    give_back(first, found.dense, found.kept)
    after = found.dense.blocks[2].conv1.weight.detach()
    kept = found.kept["blocks.2.conv1"].outputs
    assert len(went["blocks.2.conv1"]) and torch.equal(after[went["blocks.2.conv1"]], before[went["blocks.2.conv1"]])
    assert torch.allclose(after[kept], before[kept] + 1)


def test_fewer_and_fewer_are_regrown():
    found = pruning(regrown=0.5)
    model, sizes = copy.deepcopy(found.dense), []
    for epoch in (1, 4, 8):
        model = found.choose(model, epoch)
        sizes.append(macs(model, IMAGES))
    assert sizes[0] > sizes[1] > sizes[2]


def test_taking_back_what_was_not_trained_changes_nothing():
    found = pruning()
    before = {name: value.clone() for name, value in found.dense.state_dict().items()}
    give_back(found.choose(copy.deepcopy(found.dense), 2), found.dense, found.kept)
    assert all(torch.equal(value, before[name]) for name, value in found.dense.state_dict().items())
