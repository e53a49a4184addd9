"""From values to codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arithmetic import CODE_RANGE, quantize_in_two_parts, requantize
from ..table_rule import TableRule, requantizer_rules
from ..tensor import CODE, VALUE, Tensor
from .node import Node, Operands, StepTables, TableAxes


@dataclass(frozen=True)
class Quantize(Node):
    """Value -> code. Tables: multiplier, shift. ``fine`` appends the codes of the rounding residues, in 16ths of a step."""

    fine: bool = False

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        height, width, depth = inputs[0].shape
        return height, width, 2 * depth if self.fine else depth

    def check_kinds(self, inputs: list[str], output: str) -> None:
        if (inputs, output) != ([VALUE], CODE):
            raise ValueError(f"{self.name}: found {inputs} -> {output}, expected a value -> a code")

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        return requantizer_rules(axes.groups)

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        if self.fine:
            return quantize_in_two_parts(operands[0], tables.scalar("multiplier"), tables.scalar("shift"))
        return requantize(operands[0], tables.row("multiplier"), tables.row("shift"), CODE_RANGE)


OPERATORS = (Quantize,)
