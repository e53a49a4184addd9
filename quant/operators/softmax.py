"""Softmax, which attention is traced with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...hls.contract.arithmetic import CODE_RANGE
from ...hls.contract.operators import Node, Softmax
from ...hls.contract.operators.softmax import SHARE_BITS, rounding_thresholds, softmax_shares
from ...hls.contract.tables import EXP_FRACTION_BITS
from ...hls.contract.tensor import CODE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep
from ..builders.translation import Handler
from .operator import Operator


class SoftmaxOperator(Operator[Softmax]):
    """Its codes have a scale per row: shares of the row's largest probability."""

    writes = CODE
    fixed_scale = 1 / CODE_RANGE[1]

    def run(self, node: Softmax, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return inputs[0].softmax(dim=-1)

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Codes relative to the row's largest one, divided by their sum."""
        thresholds = torch.from_numpy(rounding_thresholds(x.shape[-1])) / (1 << SHARE_BITS)
        codes = (x / x.amax(dim=-1, keepdim=True) * CODE_RANGE[1] + thresholds).floor()
        return codes / codes.sum(dim=-1, keepdim=True)

    def lower(self, node: Softmax, lowering: Lowering) -> None:
        lowering.put_multiplier(node, lowering.scales[node.inputs[0]] * math.log2(math.e) * 2**EXP_FRACTION_BITS)

    def qonnx(self, node: Softmax, inputs: Sequence[str], step: QonnxStep) -> str:
        """A table of shares by the distance to the row's largest logit, then each key's rounding."""
        (x,) = inputs
        shares = softmax_shares(np.arange(1 << 16), step.number(node, "multiplier"), step.number(node, "shift"))
        distance = step.op("Sub", step.op("ReduceMax", x, axes=[3], keepdims=1), x)
        thresholds = rounding_thresholds(step.graph.tensors[node.name].shape[2])
        raised = step.op("Add", step.lookup(shares, distance), step.constant(thresholds))
        return step.op("Div", raised, step.constant(1 << SHARE_BITS))  # never negative


OPERATORS: dict[type[Node], Operator[Any]] = {Softmax: SoftmaxOperator()}
HANDLERS: dict[str, Handler] = {}
