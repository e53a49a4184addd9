"""The two products of attention, Q . K and P . V, with a softmax between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from ...hls.contract.arithmetic import CODE_RANGE
from ...hls.contract.layout import HEIGHT, REPEAT, WIDTH, Part, axis_size, image_layout, merge, reshape, shape_of
from ...hls.contract.operators import MatMul, Node, Softmax
from ...hls.contract.operators.softmax import ROW_BITS, ROW_RECIPROCAL_BITS
from ...hls.contract.tensor import CODE, VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Builder, Traced, argument, module_path
from ..builders.translation import Handler, Translation
from .operator import EITHER, Operator


def _attention(translation: Translation, node: fx.Node) -> Traced:
    """softmax(Q K^T / sqrt(d)) V as three operators of the integer graph."""
    mask, causal = argument(node, 3, "attn_mask", None), argument(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise ValueError("attention with a mask is not supported")
    q, k, v = (translation.operand(operand) for operand in node.args[:3])
    heads, head_size = shape_of(q.layout)[1], shape_of(q.layout)[3]
    builder, path = translation.builder, module_path(node)
    windows, interleaved = _windows_of(builder, q, k, v)
    scale = argument(node, 6, "scale", None) or node.kwargs.get("scale") or 1 / math.sqrt(head_size)
    scores = builder.add(
        MatMul(f"{path}.scores", path, (q.name, k.name), heads, windows=windows, interleaved=interleaved), VALUE
    )
    builder.parameters[f"{scores}.factor"] = torch.tensor(scale, dtype=torch.float64)
    probabilities = builder.add(Softmax(f"{path}.softmax", path, (scores,)), CODE)
    image = builder.tensors[q.name].shape[:2]
    mixed = builder.add(
        MatMul(f"{path}.mix", path, (probabilities, v.name), heads, False, image, windows, interleaved), VALUE
    )
    builder.parameters[f"{mixed}.factor"] = torch.tensor(1.0, dtype=torch.float64)
    return Traced(mixed, q.layout)


def _windows_of(builder: Builder, q: Traced, k: Traced, v: Traced) -> tuple[int, bool]:
    """How many sets of tokens attend to themselves alone, and whether these are interleaved. ValueError for operands that are not
    (batch, head, token, channel) of stored images."""
    heads, head_size = shape_of(q.layout)[1], shape_of(q.layout)[3]
    per_head = reshape((image_layout(1, 1, 1, heads * head_size)[1],), (heads, head_size))
    for operand in (q, k, v):
        if (operand.layout[1], operand.layout[3]) != per_head:
            raise ValueError(
                f"found attention operands with axes {operand.layout}, expected (batch, head, token, channel)"
            )
    of_queries, of_keys = _windows(builder, q), _windows(builder, k)
    if _windows(builder, v) != of_keys or k.layout[2] != v.layout[2]:
        raise ValueError(f"found keys with axes {k.layout} and values with {v.layout}, expected the same")
    if any(part.axis == REPEAT for part in k.layout[0]):
        return 1, False  # all windows attend to the same tokens
    if of_queries != of_keys:
        raise ValueError(f"found queries with axes {q.layout} and keys with {k.layout}: other windows")
    return of_queries


def _windows(builder: Builder, operand: Traced) -> tuple[int, bool]:
    """How many sets of tokens one of attention's operands has, and whether they are interleaved."""
    height, width, _ = builder.tensors[operand.name].shape
    stored = merge(part for axis in image_layout(1, height, width, 1)[2:] for part in axis)
    sets = tuple(part for part in operand.layout[0] if part.axis in (HEIGHT, WIDTH))
    tokens = operand.layout[2]
    if merge((*sets, *tokens)) == stored:
        return axis_size(sets), False
    if merge((*tokens, *sets)) == stored:
        return axis_size(sets), True
    raise ValueError(f"found tokens with axes {operand.layout}, expected all pixels, or sets of them, in their order")


def _repeat(translation: Translation, node: fx.Node) -> Traced:
    """A context for every frame of a video."""
    source = translation.operand(node.args[0])
    if argument(node, 2, "dim", None) != 0:
        raise ValueError("repeating is supported along the batch only")
    return dataclasses.replace(source, layout=((*source.layout[0], Part(REPEAT, node.args[1])), *source.layout[1:]))  # type: ignore[arg-type]


class MatMulOperator(Operator[MatMul]):
    """Parameter: factor, of the products."""

    reads, writes = CODE, EITHER

    def run(self, node: MatMul, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        left, right = inputs
        factor, right = step.number("factor"), _by_head(right, node)
        if node.scores:
            return _by_head(left, node) @ right.mT * factor
        mixed = left @ right * factor  # [B, windows * heads, queries, depth]
        batch, _, queries, depth = mixed.shape
        order = (0, 2, 4, 3, 1) if node.interleaved else (0, 2, 4, 1, 3)
        pixels = mixed.reshape(batch, node.windows, node.heads, queries, depth).permute(order)
        return pixels.reshape(batch, -1, *node.image)

    def lower(self, node: MatMul, lowering: Lowering) -> None:
        left, right = (lowering.scales[name] for name in node.inputs)
        product = left * right if node.scores else right * 2.0 ** (ROW_BITS - ROW_RECIPROCAL_BITS)
        lowering.put_multiplier(node, product * lowering.parameter(node, "factor") / lowering.scales[node.name])

    def qonnx(self, node: MatMul, inputs: Sequence[str], step: QonnxStep) -> str:
        shapes = [step.graph.tensors[name].shape for name in node.inputs]
        limits = step.graph.tensors[node.name].limits
        right = _bytes_by_head(node, inputs[1], shapes[1], step)
        left = _bytes_by_head(node, inputs[0], shapes[0], step) if node.scores else step.activation(inputs[0])
        right = step.op("Transpose", right, perm=[0, 1, 3, 2]) if node.scores else right
        sums = step.product("MatMulInteger", left, right)
        if node.scores:
            return step.requantize(sums, node, limits)
        found = step.clip(_divided_rows(node, sums, inputs[0], step), limits)
        queries, depth = shapes[0][1], shapes[1][2] // node.heads
        split = step.reshape(found, (step.batch, node.windows, node.heads, queries, depth))
        order = [0, 3, 1, 2, 4] if node.interleaved else [0, 1, 3, 2, 4]
        return step.reshape(step.op("Transpose", split, perm=order), (step.batch, *node.image, -1))


def _by_head(x: torch.Tensor, node: MatMul) -> torch.Tensor:
    """[B, C, H, W] -> [B, windows * heads, tokens, C / heads]."""
    batch, channels, height, width = x.shape
    depth, tokens = channels // node.heads, height * width // node.windows
    if node.interleaved:
        split = x.reshape(batch, node.heads, depth, tokens, node.windows).permute(0, 4, 1, 3, 2)
    else:
        split = x.reshape(batch, node.heads, depth, node.windows, tokens).permute(0, 3, 1, 4, 2)
    return split.reshape(batch, -1, tokens, depth)


def _bytes_by_head(node: MatMul, name: str, shape: tuple[int, int, int], step: QonnxStep) -> str:
    """Codes [B, H, W, C] -> bytes [B, windows * heads, tokens, C / heads]."""
    tokens, depth = shape[0] * shape[1] // node.windows, shape[2] // node.heads
    cut = (tokens, node.windows) if node.interleaved else (node.windows, tokens)
    split = step.reshape(step.activation(name), (step.batch, *cut, node.heads, depth))
    order = [0, 2, 3, 1, 4] if node.interleaved else [0, 1, 3, 2, 4]
    whole = (step.batch, node.windows * node.heads, tokens, depth)
    return step.reshape(step.op("Transpose", split, perm=order), whole)


def _divided_rows(node: MatMul, sums: str, p: str, step: QonnxStep) -> str:
    """Sums [B, windows * heads, queries, depth] by the contract's ``row_multipliers`` of a softmax's codes ``p``."""
    total = step.op("Max", step.op("ReduceSum", p, step.constant([3]), keepdims=1), step.constant(CODE_RANGE[1]))
    reciprocal = step.op("Div", step.constant(1 << ROW_RECIPROCAL_BITS), total)
    multiplier = step.constant(step.table(node, "multiplier"))
    of_rows = step.round_shift(step.op("Mul", reciprocal, multiplier), ROW_BITS)
    return step.round_shift(step.op("Mul", sums, of_rows), step.number(node, "shift"))


OPERATORS: dict[type[Node], Operator[Any]] = {MatMul: MatMulOperator()}
HANDLERS: dict[str, Handler] = {
    "aten.scaled_dot_product_attention": _attention,
    "aten.repeat_interleave.self_int": _repeat,
}
