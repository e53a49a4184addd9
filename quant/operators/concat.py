"""Concatenation, which costs nothing: its parts are written side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ...hls.contract.operators import Concat, Node, Upsample
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Traced, argument, module_path
from ..builders.translation import Handler, Translation
from .operator import Operator


def _concat(translation: Translation, node: fx.Node) -> Traced:
    """A tensor is stored as part of one concatenation only: what cannot be that part is copied."""
    sources = [translation.operand(source) for source in node.args[0]]  # type: ignore[union-attr]
    for source in sources:
        translation.expect_image(source)
    if argument(node, 1, "dim", 0) not in (1, -3):
        raise ValueError("concatenation is supported along channels only")
    builder, path = translation.builder, module_path(node)
    parts: list[str] = []
    for name in (source.name for source in sources):
        if name in builder.concatenated or name in parts or name not in builder.nodes:
            name = builder.add(Upsample(f"{path}.copy".lstrip("."), path, (name,), factor=1), VALUE)
        parts.append(name)
    result = builder.add(Concat(f"{path}.concat".lstrip("."), path, tuple(parts)), VALUE)
    builder.concatenated |= {result, *parts}
    return translation.image(result)


class ConcatOperator(Operator[Concat]):
    """Its parts have one scale, that of the whole."""

    moves, keeps_scale = True, True

    def run(self, node: Concat, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return torch.cat(list(inputs), dim=1)

    def qonnx(self, node: Concat, inputs: Sequence[str], step: QonnxStep) -> str:
        return step.op("Concat", *inputs, axis=3)


OPERATORS: dict[type[Node], Operator[Any]] = {Concat: ConcatOperator()}
HANDLERS: dict[str, Handler] = {"aten.cat": _concat}
