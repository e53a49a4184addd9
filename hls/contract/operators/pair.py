"""Operators of two values, element by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arithmetic import VALUE_RANGE, requantize, round_shift, saturate
from ..table_rule import TableRule, requantizer_rules
from ..tensor import Tensor
from .node import Node, Operands, StepTables, TableAxes


@dataclass(frozen=True)
class Add(Node):
    """Sum of two values of different scales. Tables: multiplier [groups, 2], shift."""

    inputs_expected = 2

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        return requantizer_rules(axes.groups, 2)

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        weights = tables.row("multiplier").astype(np.int64)
        total = sum(operand * weight for operand, weight in zip(operands, weights, strict=True))
        return saturate(round_shift(np.asarray(total), tables.row("shift")), VALUE_RANGE)


@dataclass(frozen=True)
class Multiply(Node):
    """Product of two values, element by element (GEGLU: Shazeer 2020). Tables: multiplier, shift."""

    inputs_expected = 2

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        return requantizer_rules(axes.groups)

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return multiply(operands[0], operands[1], tables.scalar("multiplier"), tables.scalar("shift"))


def multiply(x: np.ndarray, y: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Product of values, times ``multiplier / 2**shift``, rounded once."""
    product = np.asarray(x, np.int64) * np.asarray(y, np.int64)
    return requantize(product, multiplier, shift, VALUE_RANGE)


OPERATORS = (Add, Multiply)
