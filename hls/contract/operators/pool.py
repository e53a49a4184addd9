"""Means over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ...common.schema import Range
from ..arithmetic import VALUE_RANGE, requantize
from ..table_rule import TableRule, requantizer_rules
from ..tensor import Tensor
from .node import Node, Operands, StepTables, TableAxes

LARGEST_POOL = 32  # sums of 32 x 32 values have 26 bits


@dataclass(frozen=True)
class AveragePool(Node):
    """Mean over windows of ``size`` x ``size``, stride ``size``. Tables: multiplier, shift."""

    size: Annotated[int, Range(1, LARGEST_POOL)] = 2

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        height, width, depth = inputs[0].shape
        return height // self.size, width // self.size, depth

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        return requantizer_rules(axes.groups)

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return average_pool(operands[0], self.size, tables.scalar("multiplier"), tables.scalar("shift"))


def average_pool(x: np.ndarray, size: int, multiplier: int, shift: int) -> np.ndarray:
    """Windowed sums of values, times ``multiplier / 2**shift``; rows and columns that fill no window are dropped."""
    x = np.asarray(x, np.int64)
    batch, height, width, channels = x.shape
    x = x[:, : height // size * size, : width // size * size]
    total = x.reshape(batch, height // size, size, width // size, size, channels).sum(axis=(2, 4))
    return requantize(total, multiplier, shift, VALUE_RANGE)


OPERATORS = (AveragePool,)
