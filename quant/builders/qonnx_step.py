"""A step of an integer graph in QONNX, in the making.

Weights, and the operands of linear operators, pass ``Quant`` nodes with scale 1, so that tools see their bit widths; products are
``ConvInteger`` and ``MatMulInteger`` of unsigned bytes by unsigned bytes with zero point 128, for these are exact everywhere: a
CPU without VNNI adds two products of unsigned by signed bytes with 16 bits, and onnxruntime lets them saturate.

What QONNX itself cannot express, standard ONNX operators on int64 do: its ``Quant`` rounds half to even in float32, but the
contract's requantization multiplies by 31 bits and rounds half up; and it has no integer normalization, softmax or activation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hls.contract.arithmetic import CODE_RANGE
from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ...hls.contract.tensor import Tables
from .onnx_nodes import FLOAT, INT64, NodeBuilder

DOMAIN = "qonnx.custom_op.general"
ZERO_POINT = 128  # of the unsigned bytes that are multiplied


class QonnxStep(NodeBuilder):
    """Step ``step`` of ``graph`` for the label of ``row`` and ``batch`` samples; its tensors are int64 [batch, H, W, C]."""

    def __init__(self, graph: Graph, tables: Tables, step: int, row: int, batch: int):
        if not 0 <= step < graph.steps or not 0 <= row < graph.labels:
            raise ValueError(f"found step {step} and row {row}, expected less than {graph.steps} and {graph.labels}")
        super().__init__()
        self.graph, self.tables, self.batch = graph, tables, batch
        self.step, self.row, self.group = step, row, graph.group_of_step[step]

    def quant(self, name: str, bits: int, narrow: bool = False) -> str:
        """A QONNX annotation: integers of ``bits`` pass unchanged."""
        one, zero, width = (self.constant(value, np.float32) for value in (1.0, 0.0, float(bits)))
        attributes = {"signed": 1, "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.op("Quant", name, one, zero, width, domain=DOMAIN, **attributes)

    def operand(self, codes: str, narrow: bool = False) -> str:
        """Float codes, annotated, as the unsigned bytes that a product takes."""
        one, zero = self.constant(1.0, np.float32), self.constant(ZERO_POINT, np.uint8)
        return self.op("QuantizeLinear", self.quant(codes, 8, narrow), one, zero)

    def activation(self, name: str) -> str:
        """An :meth:`operand` of int64 codes."""
        return self.operand(self.cast(name, FLOAT))

    def product(self, kind: str, left: str, right: str, **attributes: Any) -> str:
        """int64 sums of products. Both operands are unsigned bytes: see the head of this file."""
        zero = self.constant(ZERO_POINT, np.uint8)
        return self.cast(self.op(kind, left, right, zero, zero, **attributes), INT64)

    def requantize(
        self, name: str, node: Node, limits: tuple[int, int], bias: int | np.ndarray = 0, by_label: bool = False
    ) -> str:
        """By the node's multipliers, which may be ``by_label``. Codes are not clipped: the ``Quant`` before a product does."""
        multiplier, shift = self.table(node, "multiplier", by_label), self.number(node, "shift")
        found = self.round_shift(self.op("Mul", name, self.constant(multiplier)), shift, bias * multiplier)
        return found if limits == CODE_RANGE else self.clip(found, limits)

    def table(self, node: Node, name: str, by_label: bool = False) -> np.ndarray:
        """int64 [...] of the step's group, or of the step and the label."""
        table = self.whole(node, name)
        return np.asarray(table[self.step, self.row] if by_label else table[self.group], np.int64)

    def number(self, node: Node, name: str) -> int:
        return int(self.table(node, name))

    def whole(self, node: Node, name: str) -> np.ndarray:
        return self.tables[f"{node.name}.{name}"]
