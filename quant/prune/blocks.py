"""Widths that a stock configuration can say: one for each block of a U-Net, which any diffusers loads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from .allocation import Grain, Width, least_of
from .coupling import ChannelGroup
from .narrow import channels_of, config_of, empty, stock_kind

BLOCKS = "block_out_channels"
TIME_LAYER = "time_embedding.linear_1"
TRAINED_STEPS = 1_000


def block_config(model: nn.Module, widths: Mapping[int, int]) -> dict[str, Any]:
    """The model's configuration with other widths of the blocks of these numbers. The embedding of timesteps stays as wide."""
    config = config_of(model)
    sizes = [widths.get(index, size) for index, size in enumerate(config[BLOCKS])]
    wide = model.get_submodule(TIME_LAYER).out_features
    return config | {BLOCKS: sizes, "time_embedding_dim": wide}


def group_widths(groups: Sequence[ChannelGroup], model: nn.Module, config: Mapping[str, Any]) -> dict[str, int]:
    """What every group has in a model of ``config``."""
    other, result = empty(stock_kind(model), config), {}
    for group in groups:
        had, has = (channels_of(each.get_submodule(group.name))[0] for each in (model, other))
        result[group.name] = has * group.size // had  # a layer may have several pieces of each channel
    return result


def widths_of_blocks(groups: Sequence[ChannelGroup], model: nn.Module, grain: Grain) -> list[Width]:
    """A width for each block, by the scales of all groups that go with it."""
    embedding = getattr(model.config, "time_embedding_type", "positional")
    if embedding != "positional":
        raise ValueError(
            f"found a {embedding} embedding of timesteps, which is as wide as the first block; prune with --widths layer"
        )
    sizes, result = list(model.config[BLOCKS]), []  # type: ignore[index]
    for index, size in enumerate(sizes):
        narrower = _narrower(model, index, size)
        if narrower is None:
            continue
        smaller = group_widths(groups, model, block_config(model, {index: narrower}))
        own = [group for group in groups if smaller[group.name] != group.size]
        least = [least_of(group, model, whole_heads(model)) * size // group.size for group in own if group.size == size]
        scales = [scale[~np.isnan(scale)] for scale in (group.gammas(model) for group in own)]
        step = grain.of(size, int(np.lcm.reduce(least)) if least else 1)
        result.append(Width(str(index), size, step, np.concatenate(scales) if scales else np.zeros(0)))
    return result


def _narrower(model: nn.Module, index: int, size: int) -> int | None:
    """The largest width under ``size`` that block ``index`` can have by itself; None where there is none."""
    step = getattr(model.config, "norm_num_groups", None) or 1
    for width in range(size - 1 - (size - 1) % step, 0, -step):
        with contextlib.suppress(ValueError, ZeroDivisionError):  # of norms, of heads
            empty(stock_kind(model), block_config(model, {index: width}))
            return width
    return None


def whole_heads(model: nn.Module) -> bool:
    """Whether narrower blocks have fewer heads: a ``UNet2DConditionModel`` has as many, of fewer channels each."""
    return not isinstance(model, UNet2DConditionModel)


@torch.no_grad()
def refitted_time_layer(dense: nn.Module, narrow: nn.Module) -> dict[str, torch.Tensor]:
    """The first layer on the sinusoids of a timestep, where a narrower first block has fewer of them: what comes nearest to the
    dense model's, by least squares over all timesteps. Nothing where there are as many."""
    old, new = (model.get_submodule(TIME_LAYER) for model in (dense, narrow))
    if old.in_features == new.in_features:
        return {}
    steps = torch.arange(TRAINED_STEPS)
    wanted = old(dense.time_proj(steps).float()).double()  # type: ignore[operator]
    given = narrow.time_proj(steps).double()  # type: ignore[operator]
    columns = torch.cat([given, torch.ones(len(steps), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(columns, wanted, driver="gelsd").solution.float()
    return {f"{TIME_LAYER}.weight": solution[:-1].T.contiguous(), f"{TIME_LAYER}.bias": solution[-1]}
