"""Brevitas quantizers whose scale is a table over step groups (Diff-Acc's step-wise quantization).

Brevitas has one scale per quantizer. Here a ``scaling_impl`` of our own sits inside an ordinary Brevitas activation quantizer
and carries one clipping threshold per step group; it reads the current group from a :class:`Calibration` object that all
quantizers of a model share. Calibrate under ``brevitas.graph.calibrate.calibration_mode``: once to find ranges, once to
choose the thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat
from torch import nn

RANGE, SEARCH = "range", "search"
SEARCHED_ELEMENTS = 1 << 15


@dataclass
class Calibration:
    """What the quantizers of one model share: the number of ``rows`` of their tables, the current one, and what a pass collects.

    A row is a step in the range pass, and a step group in those that follow.
    """

    rows: int
    row: int = 0
    phase: str = RANGE


class StepwiseScaling(nn.Module):
    """Clipping threshold per step group, as a Brevitas ``scaling_impl``.

    The range pass keeps the largest magnitude per step; :meth:`regroup` follows. The search pass measures
    the error ``sum |x - q(x)|**norm`` at ``candidates`` fractions of that range; :meth:`choose` then keeps the best one.
    ``norm`` 0 keeps the full range.
    """

    threshold: torch.Tensor
    fractions: torch.Tensor
    error: torch.Tensor

    def __init__(self, calibration: Calibration, levels: int, norm: float, candidates: int = 24, lowest: float = 0.3):
        super().__init__()
        self.calibration = calibration
        self.levels = levels
        self.norm = norm
        self.register_buffer("threshold", torch.zeros(calibration.rows))
        self.register_buffer("fractions", torch.linspace(lowest, 1.0, candidates), persistent=False)
        self.register_buffer("error", torch.zeros(calibration.rows, candidates, dtype=torch.float64), persistent=False)

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)
        if prefix + "threshold" in missing:  # Brevitas loads float checkpoints, which have no table
            missing.remove(prefix + "threshold")

    def forward(self, x: torch.Tensor, int_threshold: torch.Tensor | None = None) -> torch.Tensor:
        """The scale of the current row: threshold / int_threshold (128 for 8 bits)."""
        row = self.calibration.row
        if self.training:
            if self.calibration.phase == RANGE:
                self.threshold[row] = torch.maximum(self.threshold[row], x.detach().abs().max())
            elif self.norm:
                self._measure(x.detach().flatten(), row)
        threshold = self.threshold[row].clamp_min(1e-8)
        return threshold if int_threshold is None else threshold / int_threshold

    def _measure(self, x: torch.Tensor, group: int) -> None:
        x = x[:: max(1, x.numel() // SEARCHED_ELEMENTS)]
        scales = (self.threshold[group].clamp_min(1e-8) * self.fractions / self.levels)[:, None]
        rounded = (x / scales).round_().clamp_(-self.levels, self.levels - 1).mul_(scales)
        self.error[group] += rounded.sub_(x).abs_().pow_(self.norm).sum(dim=1)

    def regroup(self, group_of_step: Sequence[int]) -> None:
        """After a range pass in which every step was a group of its own."""
        groups, ranges = torch.tensor(group_of_step), self.threshold
        self.threshold = torch.zeros(int(groups.max()) + 1).scatter_reduce(
            0, groups, ranges, "amax", include_self=False
        )
        self.error = self.error.new_zeros(len(self.threshold), self.error.shape[1])

    def choose(self) -> None:
        """End of the search: replace each group's range by the fraction of it with the least error."""
        if self.norm:
            self.threshold.mul_(self.fractions[self.error.argmin(dim=1)])


def _activation_quantizer(bits: int, calibration: Calibration, norm: float) -> type:
    return Int8ActPerTensorFloat.let(
        scaling_impl=StepwiseScaling, bit_width=bits, calibration=calibration, levels=2 ** (bits - 1), norm=norm
    )


def activation_quantizer(bits: int, calibration: Calibration, norm: float) -> QuantIdentity:
    """A Brevitas activation quantizer, signed and symmetric, with a scale per step group."""
    return QuantIdentity(act_quant=_activation_quantizer(bits, calibration, norm), return_quant_tensor=False)


def stepwise_scaling(quantizer: QuantIdentity) -> StepwiseScaling:
    return quantizer.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl


def scales(quantizer: QuantIdentity) -> torch.Tensor:
    """float64 [groups]: real value of one code step."""
    scaling = stepwise_scaling(quantizer)
    return scaling.threshold.double().clamp_min(1e-8) / scaling.levels


def weight_quantizer(weight: torch.Tensor) -> QuantConv2d:
    """A Brevitas layer that holds ``weight`` [O, I, kh, kw] as int8, symmetric, narrow range, with a scale per output channel."""
    outputs, inputs, height, width = weight.shape
    layer = QuantConv2d(inputs, outputs, (height, width), bias=False, weight_quant=Int8WeightPerChannelFloat)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)  # shared, not copied: models can be large
    return layer
