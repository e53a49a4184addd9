"""Multiplications are counted exactly."""

from __future__ import annotations

import pytest
import torch
from ditto_zynq.quant.prune.allocation import Grain
from ditto_zynq.quant.prune.macs import LayerMacs, macs
from ditto_zynq.quant.prune_model import PruningOptions, allot, cut
from torch import nn

from tests.quant.prune.models import inputs_of, text_unet, unet


def by_hand(model, inputs):
    """By the shapes that pass convolutions, linear layers and attention."""
    total = 0

    def count(module, _, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    tokens = []
    hooks += [
        module.register_forward_hook(
            lambda module, given, _: tokens.append((given[0].shape, module.heads, module.inner_dim))
        )
        for module in model.modules()
        if hasattr(module, "to_q")
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    for shape, _, inner in tokens:
        batch, count_of = shape[0], shape[2] * shape[3]
        total += 2 * batch * count_of * count_of * inner
    return total


def test_all_of_a_u_net():
    model = unet()
    assert macs(model, inputs_of(model)) == by_hand(model, inputs_of(model))


def test_the_model_stays_where_it_is():
    model = nn.Conv2d(3, 8, 3, padding=1)
    assert macs(model, {"input": torch.zeros(2, 3, 5, 7)}) == 2 * 8 * 5 * 7 * 27
    assert model.weight.device.type == "cpu"


@pytest.mark.parametrize("make", [unet, text_unet])
@pytest.mark.parametrize("share", [0.35, 0.6])
def test_what_widths_would_leave_is_what_is_counted_of_the_narrow_model(make, share):
    model = make()
    layers = LayerMacs(model, inputs_of(model))
    assert layers.total({}) == macs(model, inputs_of(model)) and layers.others == 0
    narrow = cut(model, allot(model, inputs_of(model), PruningOptions(share, grain=Grain(4, 4)))).model
    assert layers.total(narrow.config.widths) == macs(narrow, inputs_of(model))
