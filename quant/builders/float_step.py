"""A step of the float graph in PyTorch, as one operator sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .layers import Layers


@dataclass(frozen=True)
class FloatStep:
    """The ``parameters`` of the operator ``node`` as ``step`` of samples with ``labels`` int [B] reads them."""

    parameters: Mapping[str, torch.Tensor]
    layers: Layers
    node: str
    step: int
    labels: torch.Tensor

    def whole(self, name: str) -> torch.Tensor:
        return self.parameters[f"{self.node}.{name}"]

    def number(self, name: str) -> float:
        return float(self.whole(name))

    def row(self, name: str, conditional: bool) -> torch.Tensor:
        """[1, C, 1, 1], or [B, C, 1, 1] of the step and each sample's label."""
        table = self.whole(name)
        return (table[self.step][self.labels] if conditional else table.unsqueeze(0))[:, :, None, None]

    def weight(self) -> torch.Tensor:
        """float32 [O, I, kh, kw] of a layer with weights."""
        return self.layers.weight(self.node)

    def corrected(self, y: torch.Tensor) -> torch.Tensor:
        """A layer's result [B, O, H, W] with its bias, as calibration shifts it."""
        return self.layers.corrected(self.node, y)
