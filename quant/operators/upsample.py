"""Nearest-neighbour upsampling, and copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from ...hls.contract.operators import Node, Upsample
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Traced, module_path
from ..builders.translation import Handler, Translation
from .operator import EITHER, Operator


def _upsample(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    height, width, _ = translation.expect_image(source)
    rows, columns = node.meta["val"].shape[2:]
    factor = -(-rows // height)
    positions = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    found = node.target(positions, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    copies = positions.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)[:, :, :rows, :columns]
    if not torch.equal(found, copies):
        raise ValueError(f"upsampling {height}x{width} to {rows}x{columns} is not by one integer factor")
    crop = (height * factor - rows, width * factor - columns)
    path = module_path(node)
    upsample = Upsample(f"{path}.upsample", path, (source.name,), factor, crop)
    return translation.image(translation.builder.add(upsample, VALUE))


class UpsampleOperator(Operator[Upsample]):
    """A quantizer moves in front of it, where there is less to quantize."""

    reads, writes = EITHER, EITHER
    moves, keeps_scale = True, True

    def run(self, node: Upsample, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        rows, columns, _ = output.shape
        return F.interpolate(inputs[0], scale_factor=float(node.factor), mode="nearest")[:, :, :rows, :columns]

    def qonnx(self, node: Upsample, inputs: Sequence[str], step: QonnxStep) -> str:
        height, width, channels = step.graph.tensors[node.inputs[0]].shape
        wide = step.reshape(inputs[0], (step.batch, height, 1, width, 1, channels))
        shape = step.constant((step.batch, height, node.factor, width, node.factor, channels))
        whole = (step.batch, height * node.factor, width * node.factor, channels)
        large = step.reshape(step.op("Expand", wide, shape), whole)
        if not any(node.crop):
            return large
        ends = step.constant(step.graph.tensors[node.name].shape[:2])
        return step.op("Slice", large, step.constant([0, 0]), ends, step.constant([1, 2]))


OPERATORS: dict[type[Node], Operator[Any]] = {Upsample: UpsampleOperator()}
HANDLERS: dict[str, Handler] = {"aten.upsample_nearest2d.vec": _upsample}
