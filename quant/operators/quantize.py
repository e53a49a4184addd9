"""From values to codes: what the tracer puts in front of linear operators."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from ...hls.contract.arithmetic import CODE_RANGE, FINE_BITS
from ...hls.contract.operators import Node, Quantize
from ...hls.contract.tensor import CODE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep
from ..builders.translation import Handler
from .operator import Operator


class QuantizeOperator(Operator[Quantize]):
    """In floating point it is its result's Brevitas quantizer that rounds."""

    writes = CODE

    def run(self, node: Quantize, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return inputs[0]

    def in_two_parts(self, node: Quantize) -> Quantize | None:
        return None if node.fine else dataclasses.replace(node, fine=True)

    def lower(self, node: Quantize, lowering: Lowering) -> None:
        lowering.put_multiplier(node, lowering.scales[node.inputs[0]] / lowering.scales[node.name])

    def qonnx(self, node: Quantize, inputs: Sequence[str], step: QonnxStep) -> str:
        codes = step.requantize(inputs[0], node, CODE_RANGE)
        if not node.fine:
            return codes
        codes, multiplier = step.clip(codes, CODE_RANGE), step.table(node, "multiplier")
        scaled = step.op("Mul", inputs[0], step.constant(multiplier << FINE_BITS))
        sixteenths = step.round_shift(scaled, step.number(node, "shift"))
        residue = step.op("Sub", sixteenths, step.op("Mul", codes, step.constant(1 << FINE_BITS)))
        return step.op("Concat", codes, step.clip(residue, CODE_RANGE), axis=3)


OPERATORS: dict[type[Node], Operator[Any]] = {Quantize: QuantizeOperator()}
HANDLERS: dict[str, Handler] = {}
