"""Layers with weights as calibration has them, whose roundings are Brevitas' own."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch


class Layers(Protocol):
    """Every layer is known by its node's name."""

    def weight(self, name: str) -> torch.Tensor:
        """float32 [O, I, kh, kw], rounded where the run is quantized."""

    def corrected(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """A result [B, O, H, W] with its bias, shifted where the run is quantized."""

    def integer_weight(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """int8 [O, I, kh, kw], and float64 [O], the real value of one step of each row."""

    def correction_of(self, name: str) -> np.ndarray:
        """What :meth:`corrected` adds, float64 [groups, O]."""
