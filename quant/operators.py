"""Each supported aten operator as operators of the integer graph: one function each, and the tables that name them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from ..hls.graph import (
    CODE,
    VALUE,
    Add,
    AveragePool,
    Concat,
    Convolution,
    GroupNorm,
    MatMul,
    SiLU,
    Softmax,
    Upsample,
)
from ..hls.layout import BATCH, CHANNEL, HEIGHT, WIDTH, image_layout, permute, reshape, shape_of
from .traced import INPUT, Builder, Traced, argument, module_path, pair

if TYPE_CHECKING:
    from .trace import Translator


def _convolution(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0], padded=True)
    translator.expect_image(source)
    weight, bias = translator.constant(node.args[1]), translator.constant(argument(node, 2, "bias", None))
    if pair(argument(node, 5, "dilation", 1)) != (1, 1) or argument(node, 6, "groups", 1) != 1:
        raise ValueError("dilated and grouped convolutions are not supported")
    vertical, horizontal = pair(argument(node, 4, "padding", 0))
    top, bottom, left, right = source.padding
    assert weight is not None
    name = translator.builder.add(
        Convolution(
            module_path(node),
            module_path(node),
            (source.name,),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=pair(argument(node, 3, "stride", 1)),
            padding=(top + vertical, bottom + vertical, left + horizontal, right + horizontal),
        ),
        VALUE,
        weight.shape[0],
    )
    _set_linear_parameters(translator.builder, name, weight, bias)
    return translator.image(name)


def _linear(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    weight, bias = translator.constant(node.args[1]), translator.constant(argument(node, 2, "bias", None))
    assert weight is not None
    _, _, channels = translator.builder.tensors[source.name].shape
    if source.layout[-1] != image_layout(1, 1, 1, channels)[1]:
        raise ValueError(f"found a last axis of {source.layout[-1]}, expected all {channels} channels")
    name = translator.builder.add(
        Convolution(module_path(node), module_path(node), (source.name,)), VALUE, weight.shape[0]
    )
    _set_linear_parameters(translator.builder, name, weight[:, :, None, None], bias)
    output_channels = image_layout(1, 1, 1, weight.shape[0])[1]
    return Traced(name, (*source.layout[:-1], output_channels))


def _set_linear_parameters(builder: Builder, name: str, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    builder.parameters[f"{name}.weight"] = weight
    builder.parameters[f"{name}.bias"] = torch.zeros(len(weight)) if bias is None else bias


def _group_norm(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    groups = argument(node, 1, "num_groups", None)
    height, width, channels = translator.builder.tensors[source.name].shape
    axes = image_layout(translator.batch, height, width, channels)
    spatial = tuple(part for axis in source.layout[2:] for part in axis)
    if source.layout[:2] != axes[:2] or {part.axis for part in spatial} - {HEIGHT, WIDTH}:
        raise ValueError(f"found axes {source.layout}, expected (batch, channel, pixels)")
    name = translator.builder.add(GroupNorm(module_path(node), module_path(node), (source.name,), groups=groups), VALUE)
    gain, offset = (translator.constant(argument(node, 2 + i, key, None)) for i, key in enumerate(("weight", "bias")))
    translator.builder.parameters[f"{name}.gain"] = torch.ones(channels) if gain is None else gain
    translator.builder.parameters[f"{name}.offset"] = torch.zeros(channels) if offset is None else offset
    translator.builder.parameters[f"{name}.epsilon"] = torch.tensor(argument(node, 4, "eps", 1e-5), dtype=torch.float64)
    return Traced(name, source.layout)


def _silu(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    name = translator.builder.add(SiLU(module_path(node), module_path(node), (source.name,)), VALUE)
    return Traced(name, source.layout)


def _add(translator: Translator, node: fx.Node) -> Traced:
    if argument(node, 2, "alpha", 1) != 1:
        raise ValueError("an addition with alpha is not supported")
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        a, b = translator.operand(left), translator.operand(right)
        if a.layout != b.layout:
            raise ValueError(f"found operands with axes {a.layout} and {b.layout}, expected the same")
        name = translator.builder.add(Add(f"{module_path(node)}.add", module_path(node), (a.name, b.name)), VALUE)
        translator.builder.parameters[f"{name}.factors"] = torch.ones(2, dtype=torch.float64)
        return Traced(name, a.layout)
    return _condition(translator, node, "add")


def _multiply(translator: Translator, node: fx.Node) -> Traced:
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        raise ValueError("a product of two activations outside attention is not supported")
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return _condition(translator, node, "multiply")
    activation, factor = (left, right) if left in translator.traced else (right, left)
    return _scale(translator, activation, float(factor))  # type: ignore[arg-type]


def _divide(translator: Translator, node: fx.Node) -> Traced:
    if node.args[0] not in translator.traced or not isinstance(node.args[1], (int, float)):
        raise ValueError("a division by anything but a constant is not supported")
    return _scale(translator, node.args[0], 1.0 / node.args[1])


def _scale(translator: Translator, activation: Any, factor: float) -> Traced:
    """A product with a constant folds into the operator that computes the activation."""
    traced = translator.operand(activation)
    if factor != 1.0:
        producer = translator.producer(activation)
        scaled = {Convolution: ("weight", "bias"), GroupNorm: ("gain", "offset"), Add: ("factors",)}.get(type(producer))
        if scaled is None or producer.name in translator.builder.conditioning:
            raise ValueError(f"a product with {factor:g} cannot be folded into {producer.name}")
        for parameter in scaled:
            key = f"{producer.name}.{parameter}"
            translator.builder.parameters[key] = translator.builder.parameters[key] * factor
    return traced


def _condition(translator: Translator, node: fx.Node, operation: str) -> Traced:
    """A per-channel term of the conditioning folds into the bias or affine of the operator before it."""
    left, right = node.args[:2]
    activation, term = (left, right) if left in translator.traced else (right, left)
    traced = translator.operand(activation)
    assert isinstance(term, fx.Node) and isinstance(activation, fx.Node)
    channels = translator.builder.tensors[traced.name].shape[2]
    expected = tuple(
        size if any(part.axis in (BATCH, CHANNEL) for part in axis) else 1
        for axis, size in zip(traced.layout, shape_of(traced.layout), strict=True)
    )
    if tuple(term.meta["val"].shape) != expected or channels not in expected:
        raise ValueError(f"found conditioning of shape {tuple(term.meta['val'].shape)}, expected {expected}")
    producer = translator.producer(activation)
    foldable = (Convolution, GroupNorm) if operation == "add" else (GroupNorm,)
    if not isinstance(producer, foldable):
        raise ValueError(
            f"conditioning by {operation} folds into {[t.__name__ for t in foldable]}, not {producer.name}"
        )
    translator.builder.conditioning.setdefault(producer.name, []).append((operation, term))
    return traced


def _concat(translator: Translator, node: fx.Node) -> Traced:
    sources = [translator.operand(source) for source in node.args[0]]  # type: ignore[union-attr]
    names = [source.name for source in sources]
    for source in sources:
        translator.expect_image(source)
    parts = [name for other in translator.builder.nodes.values() if isinstance(other, Concat) for name in other.inputs]
    if INPUT in names or len({*names, *parts}) < len(names) + len(parts):
        raise ValueError("a tensor can be part of one concatenation only, and the sample of none")
    if argument(node, 1, "dim", 0) not in (1, -3):
        raise ValueError("concatenation is supported along channels only")
    name = translator.builder.add(
        Concat(f"{module_path(node)}.concat".lstrip("."), module_path(node), tuple(names)),
        VALUE,
    )
    return translator.image(name)


def _upsample(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    height, width, _ = translator.expect_image(source)
    rows, columns = node.meta["val"].shape[2:]
    factor = rows // height
    if (rows, columns) != (height * factor, width * factor):
        raise ValueError(f"upsampling {height}x{width} to {rows}x{columns} is not by one integer factor")
    return translator.image(
        translator.builder.add(
            Upsample(f"{module_path(node)}.upsample", module_path(node), (source.name,), factor=factor), VALUE
        )
    )


def _average_pool(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    translator.expect_image(source)
    size = pair(node.args[1])
    if size != pair(argument(node, 2, "stride", None) or size) or size[0] != size[1]:
        raise ValueError("average pooling is supported over square windows that do not overlap")
    if pair(argument(node, 3, "padding", 0)) != (0, 0) or argument(node, 4, "ceil_mode", False):
        raise ValueError("average pooling with padding or ceil_mode is not supported")
    return translator.image(
        translator.builder.add(AveragePool(module_path(node), module_path(node), (source.name,), size=size[0]), VALUE)
    )


def _pad(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    translator.expect_image(source)
    amounts = list(argument(node, 1, "pad", []))
    if argument(node, 2, "mode", "constant") not in ("constant", 0, 0.0) or (argument(node, 3, "value", 0) or 0) != 0:
        raise ValueError("padding with anything but zeros is not supported")
    left, right, top, bottom = amounts + [0] * (4 - len(amounts))
    return dataclasses.replace(source, padding=(top, bottom, left, right))


def _attention(translator: Translator, node: fx.Node) -> Traced:
    """softmax(Q K^T / sqrt(d)) V as three operators of the integer graph."""
    mask, causal = argument(node, 3, "attn_mask", None), argument(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise ValueError("attention with a mask is not supported")
    q, k, v = (translator.operand(operand) for operand in node.args[:3])
    heads, depth = q.layout[1], q.layout[3]
    head_count, head_size = shape_of(q.layout)[1], shape_of(q.layout)[3]
    channels = head_count * head_size
    per_head = reshape((image_layout(1, 1, 1, channels)[1],), (head_count, head_size))
    for operand in (q, k, v):
        if (operand.layout[1], operand.layout[3]) != (heads, depth) or (heads, depth) != per_head:
            raise ValueError(
                f"found attention operands with axes {operand.layout}, expected (batch, head, token, channel)"
            )
    path, builder = module_path(node), translator.builder
    scale = argument(node, 6, "scale", None) or node.kwargs.get("scale") or 1 / math.sqrt(head_size)
    scores = builder.add(MatMul(f"{path}.scores", path, (q.name, k.name), heads=head_count), VALUE)
    builder.parameters[f"{scores}.factor"] = torch.tensor(scale, dtype=torch.float64)
    probabilities = builder.add(Softmax(f"{path}.softmax", path, (scores,)), CODE)
    height, width, _ = builder.tensors[q.name].shape
    mixed = builder.add(
        MatMul(f"{path}.mix", path, (probabilities, v.name), heads=head_count, scores=False, image=(height, width)),
        VALUE,
    )
    builder.parameters[f"{mixed}.factor"] = torch.tensor(1.0, dtype=torch.float64)
    return Traced(mixed, q.layout)


def _same(translator: Translator, node: fx.Node) -> Traced:
    return translator.traced[node.all_input_nodes[0]]


def _view(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    return dataclasses.replace(source, layout=reshape(source.layout, tuple(node.meta["val"].shape)))


def _transpose(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    order = list(range(len(source.layout)))
    first, second = node.args[1], node.args[2]
    order[first], order[second] = order[second], order[first]  # type: ignore[index]
    return dataclasses.replace(source, layout=permute(source.layout, order))


def _permute(translator: Translator, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    return dataclasses.replace(source, layout=permute(source.layout, node.args[1]))  # type: ignore[arg-type]


Handler = Callable[["Translator", fx.Node], Traced]
LAYOUT_HANDLERS: dict[str, Handler] = {
    "aten.view": _view,
    "aten.reshape": _view,
    "aten._unsafe_view": _view,
    "aten.flatten.using_ints": _view,
    "aten.unflatten.int": _view,
    "aten.squeeze.dim": _view,
    "aten.unsqueeze": _view,
    "aten.transpose.int": _transpose,
    "aten.permute": _permute,
    "aten.to.dtype": _same,
    "aten.to.dtype_layout": _same,
    "aten._to_copy": _same,
    "aten.contiguous": _same,
    "aten.clone": _same,
    "aten.alias": _same,
    "aten.dropout": _same,
    "aten._assert_tensor_metadata": _same,
}
HANDLERS: dict[str, Handler] = LAYOUT_HANDLERS | {
    "aten.conv2d": _convolution,
    "aten.linear": _linear,
    "aten.group_norm": _group_norm,
    "aten.silu": _silu,
    "aten.silu_": _silu,
    "aten.add.Tensor": _add,
    "aten.mul.Tensor": _multiply,
    "aten.div.Tensor": _divide,
    "aten.cat": _concat,
    "aten.upsample_nearest2d.vec": _upsample,
    "aten.avg_pool2d": _average_pool,
    "aten.pad": _pad,
    "aten.constant_pad_nd": _pad,
    "aten.scaled_dot_product_attention": _attention,
}
