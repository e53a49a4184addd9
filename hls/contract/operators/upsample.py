"""Nearest-neighbour upsampling, and copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.schema import show
from ..tensor import Pad, Tap, Tensor
from .node import Node, Operands, StepTables


@dataclass(frozen=True)
class Upsample(Node):
    """Nearest-neighbour upsampling of codes or values by an integer factor, 1 for a copy; then the last ``crop`` rows and
    columns, fewer than the factor, are left out."""

    factor: Tap = 2
    crop: tuple[Pad, Pad] = (0, 0)

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        height, width, depth = inputs[0].shape
        if not all(0 <= left_out < self.factor for left_out in self.crop):
            raise ValueError(
                f"{self.name}: found a crop of {self.crop}, expected 0 to {self.factor - 1} rows and columns"
            )
        return height * self.factor - self.crop[0], width * self.factor - self.crop[1], depth

    def check_kinds(self, inputs: list[str], output: str) -> None:
        if {*inputs} != {output}:
            raise ValueError(f"{self.name}: found {show(inputs)} -> {output}, expected one kind")

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        rows, columns, _ = output.shape
        return operands[0].repeat(self.factor, axis=1)[:, :rows].repeat(self.factor, axis=2)[:, :, :columns]


OPERATORS = (Upsample,)
