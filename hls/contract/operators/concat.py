"""Concatenation, which costs nothing: its parts are written side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.schema import show
from ..tensor import Tensor
from .node import Node, Operands, StepTables


@dataclass(frozen=True)
class Concat(Node):
    """Concatenation along channels of tensors that share one scale: pure addressing."""

    takes_more = True
    is_stored = False

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        height, width, _ = inputs[0].shape
        if any(tensor.shape[:2] != (height, width) for tensor in inputs):
            raise ValueError(
                f"{self.name}: found shapes {show([t.shape for t in inputs])}, expected equal heights and widths"
            )
        return height, width, sum(tensor.shape[2] for tensor in inputs)

    def check_kinds(self, inputs: list[str], output: str) -> None:
        if {*inputs} != {output}:
            raise ValueError(f"{self.name}: found {show(inputs)} -> {output}, expected one kind")

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return np.concatenate(operands, axis=3)


OPERATORS = (Concat,)
