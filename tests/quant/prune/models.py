"""Small U-Nets to prune, with the inputs of a forward pass, and the masked network that a pruned one is held to."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from ditto_zynq.quant.prune.surgery import Kept
from torch import nn
from torch.nn import functional as F


def unet(**changes) -> UNet2DModel:
    """A skip concatenation, shortcuts, attention and class labels; weights and norms that are no constants."""
    config = {
        "sample_size": 8,
        "in_channels": 2,
        "out_channels": 2,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "num_class_embeds": 3,
    }
    torch.manual_seed(0)
    return varied(UNet2DModel(**{**config, **changes}))


def text_unet(**changes) -> UNet2DConditionModel:
    """Cross attention to a context of 6 channels, GEGLU."""
    config = {
        "sample_size": 8,
        "in_channels": 2,
        "out_channels": 2,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 6,
    }
    torch.manual_seed(0)
    return varied(UNet2DConditionModel(**{**config, **changes}))


def varied(model):
    """The model in evaluation, its norms' scales and offsets drawn at random."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.2, 1.8, generator=generator)
            nn.init.normal_(module.bias, generator=generator)
    return model.eval()


def inputs_of(model: nn.Module, batch: int = 2) -> dict[str, torch.Tensor]:
    """Keyword arguments of a forward pass."""
    generator = torch.Generator().manual_seed(1)
    size = model.config.sample_size
    sample = torch.randn((batch, model.config.in_channels, size, size), generator=generator)
    found = {"sample": sample, "timestep": torch.tensor([7, 900][:batch])}
    if isinstance(model, UNet2DConditionModel):
        context = torch.randn((batch, 5, model.config.cross_attention_dim), generator=generator)
        return found | {"encoder_hidden_states": context}
    return found | {"class_labels": torch.arange(batch)}


def masked(dense: nn.Module, kept: Mapping[str, Kept]) -> nn.Module:
    """The dense model with zeros in place of all that does not stay; norms take their statistics of what stays, in its order."""
    model = copy.deepcopy(dense)
    for path, positions in kept.items():
        _mask(model.get_submodule(path), torch.from_numpy(positions.outputs))
    return model


def _mask(module: nn.Module, stays: torch.Tensor) -> None:
    if isinstance(module, nn.GroupNorm):

        def group_norm(x: torch.Tensor) -> torch.Tensor:
            result = torch.zeros_like(x)
            weight, bias = module.weight[stays], module.bias[stays]
            result[:, stays] = F.group_norm(x[:, stays], module.num_groups, weight, bias, module.eps)
            return result

        module.forward = group_norm
    elif isinstance(module, nn.LayerNorm):

        def layer_norm(x: torch.Tensor) -> torch.Tensor:
            result = torch.zeros_like(x)
            weight, bias = module.weight[stays], module.bias[stays]
            result[..., stays] = F.layer_norm(x[..., stays], (len(stays),), weight, bias, module.eps)
            return result

        module.forward = layer_norm
    else:
        gone = torch.ones(module.weight.shape[0], dtype=torch.bool)
        gone[stays] = False

        def zero(_, __, output: torch.Tensor) -> torch.Tensor:
            shape = (1, -1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,)
            return output.masked_fill(gone.reshape(shape), 0)

        module.register_forward_hook(zero)
