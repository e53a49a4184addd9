"""Multiplications of a model, counted by PyTorch's own counter, and what they would be with other widths."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .narrow import Widths, channels_of


def macs(model: nn.Module, inputs: Mapping[str, Any]) -> int:
    """Multiply-accumulates of one forward pass with keyword arguments ``inputs``: of convolutions, linear layers and attention.

    Counted on a copy without memory (PyTorch's device ``meta``), where attention is the products that it is made of: on a CPU the
    counter knows nothing of it.
    """
    return _counted(model, inputs).get_total_flops() // 2


def _counted(model: nn.Module, inputs: Mapping[str, Any]) -> FlopCounterMode:
    empty = copy.deepcopy(model).to("meta")
    moved = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in inputs.items()}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        empty(**moved)
    return counter


class LayerMacs:
    """Multiplications layer by layer, each of which is in proportion to the channels of its output and of its input; those of
    attention to the channels of all heads."""

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any]):
        flops = {path: sum(each.values()) for path, each in _counted(model, inputs).get_flop_counts().items()}
        root = type(model).__name__
        self.layers: dict[str, tuple[int, int, int]] = {}  # multiplications, channels of output and input
        self.heads: dict[str, tuple[str, int, int]] = {}  # of attention: its queries' layer, multiplications, channels
        for path, module in model.named_modules():
            found = flops.get(f"{root}.{path}", 0) // 2
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                self.layers[path] = (found, *channels_of(module))
            elif isinstance(module, Attention):
                layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
                own = found - sum(flops.get(f"{root}.{path}.{name}", 0) // 2 for name in layers)
                self.heads[path] = (f"{path}.to_q", own, channels_of(module.to_q)[0])
        counted = sum(each[0] for each in self.layers.values()) + sum(each[1] for each in self.heads.values())
        self.others = flops["Global"] // 2 - counted

    def total(self, widths: Widths) -> int:
        """Multiplications with these channels of outputs and inputs; layers that are not named have what they have."""
        result = self.others
        for path, (count, outputs, inputs) in self.layers.items():
            new = widths.get(path, (outputs, inputs))
            result += count * new[0] * new[1] // (outputs * inputs)
        for path, count, channels in self.heads.values():
            result += count * widths.get(path, (channels, 0))[0] // channels
        return result
