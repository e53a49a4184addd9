"""Means over windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from ...hls.contract.arithmetic import VALUE_RANGE
from ...hls.contract.operators import AveragePool, Node
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Traced, argument, module_path, pair
from ..builders.translation import Handler, Translation
from .operator import Operator


def _average_pool(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    translation.expect_image(source)
    size = pair(node.args[1])
    if size != pair(argument(node, 2, "stride", None) or size) or size[0] != size[1]:
        raise ValueError("average pooling is supported over square windows that do not overlap")
    if pair(argument(node, 3, "padding", 0)) != (0, 0) or argument(node, 4, "ceil_mode", False):
        raise ValueError("average pooling with padding or ceil_mode is not supported")
    if argument(node, 6, "divisor_override", None) is not None:
        raise ValueError("average pooling with a divisor of its own is not supported")
    pool = AveragePool(module_path(node), module_path(node), (source.name,), size=size[0])
    return translation.image(translation.builder.add(pool, VALUE))


class AveragePoolOperator(Operator[AveragePool]):
    """Rows and columns that fill no window are dropped."""

    def run(self, node: AveragePool, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return F.avg_pool2d(inputs[0], node.size)

    def lower(self, node: AveragePool, lowering: Lowering) -> None:
        of_sum = lowering.scales[node.inputs[0]] / node.size**2
        lowering.put_multiplier(node, of_sum / lowering.scales[node.name])

    def qonnx(self, node: AveragePool, inputs: Sequence[str], step: QonnxStep) -> str:
        rows, columns, channels = step.graph.tensors[node.name].shape
        ends = step.constant([rows * node.size, columns * node.size])
        cut = step.op("Slice", inputs[0], step.constant([0, 0]), ends, step.constant([1, 2]))
        windows = step.reshape(cut, (step.batch, rows, node.size, columns, node.size, channels))
        total = step.op("ReduceSum", windows, step.constant([2, 4]), keepdims=0)
        return step.requantize(total, node, VALUE_RANGE)


OPERATORS: dict[type[Node], Operator[Any]] = {AveragePool: AveragePoolOperator()}
HANDLERS: dict[str, Handler] = {"aten.avg_pool2d": _average_pool}
