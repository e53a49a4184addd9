"""Each supported aten operator as operators of the integer graph: one function each, and the tables that name them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import fx

from ...hls.contract.layout import (
    CHANNEL,
    HEIGHT,
    REPEAT,
    WIDTH,
    Part,
    axis_size,
    image_layout,
    merge,
    reshape,
    shape_of,
)
from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    ReLU,
    SiLU,
    Softmax,
    Upsample,
)
from ...hls.contract.tensor import CODE, VALUE
from .conditioning import per_pixel
from .layout_operators import LAYOUT_HANDLERS, Handler
from .traced import Builder, Term, Traced, argument, module_path, pair
from .translation import Translation


def _convolution(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0], padded=True)
    frames = translator.frames_of(source)
    weight, bias = translator.constant(node.args[1]), translator.constant(argument(node, 2, "bias", None))
    if pair(argument(node, 5, "dilation", 1)) != (1, 1) or argument(node, 6, "groups", 1) != 1:
        raise ValueError("dilated and grouped convolutions are not supported")
    vertical, horizontal = pair(argument(node, 4, "padding", 0))
    top, bottom, left, right = source.padding
    assert weight is not None
    height = translator.builder.tensors[source.name].shape[0] // frames
    stride = pair(argument(node, 3, "stride", 1))
    if frames > 1 and (stride[0] != weight.shape[2] or height % stride[0] or top + bottom + 2 * vertical):
        raise ValueError("frames of a video are supported by convolutions that cut them into patches only")
    name = translator.builder.add(
        Convolution(
            module_path(node),
            module_path(node),
            (source.name,),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=stride,
            padding=(top + vertical, bottom + vertical, left + horizontal, right + horizontal),
        ),
        VALUE,
        weight.shape[0],
    )
    _set_linear_parameters(translator.builder, name, weight, bias)
    return translator.frames(name, frames)


def _linear(translator: Translation, node: fx.Node) -> Traced:
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


def _group_norm(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    groups = argument(node, 1, "num_groups", None)
    height, width, channels = translator.builder.tensors[source.name].shape
    axes = image_layout(translator.batch, height, width, channels)
    spatial = tuple(part for axis in source.layout[2:] for part in axis)
    if source.layout[:2] != axes[:2] or {part.axis for part in spatial} - {HEIGHT, WIDTH}:
        raise ValueError(f"found axes {source.layout}, expected (batch, channel, pixels)")
    norm = GroupNorm(module_path(node), module_path(node), (source.name,), groups=groups)
    return _normalize(translator, node, source, norm, first_parameter=2)


def _layer_norm(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    channels = translator.builder.tensors[source.name].shape[2]
    if source.layout[-1] != image_layout(1, 1, 1, channels)[1] or list(node.args[1]) != [channels]:  # type: ignore[call-overload, arg-type]
        raise ValueError(f"found axes {source.layout} normalized over {node.args[1]}, expected all {channels} channels")
    norm = LayerNorm(module_path(node), module_path(node), (source.name,))
    return _normalize(translator, node, source, norm, first_parameter=2)


def _normalize(translator: Translation, node: fx.Node, source: Traced, norm: Node, first_parameter: int) -> Traced:
    parameters, channels = translator.builder.parameters, translator.builder.tensors[source.name].shape[2]
    name = translator.builder.add(norm, VALUE)
    gain = translator.constant(argument(node, first_parameter, "weight", None))
    offset = translator.constant(argument(node, first_parameter + 1, "bias", None))
    parameters[f"{name}.gain"] = torch.ones(channels) if gain is None else gain
    parameters[f"{name}.offset"] = torch.zeros(channels) if offset is None else offset
    epsilon = argument(node, first_parameter + 2, "eps", 1e-5)
    parameters[f"{name}.epsilon"] = torch.tensor(epsilon, dtype=torch.float64)
    return Traced(name, source.layout)


def _silu(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    name = translator.builder.add(SiLU(module_path(node), module_path(node), (source.name,)), VALUE)
    return Traced(name, source.layout)


def _gelu(translator: Translation, node: fx.Node) -> Traced:
    """The one by tanh too: it is never farther from the exact one than 0.0005, a step of the finest table."""
    source = translator.operand(node.args[0])
    name = translator.builder.add(GELU(f"{module_path(node)}.gelu", module_path(node), (source.name,)), VALUE)
    return Traced(name, source.layout)


def _relu(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    name = translator.builder.add(ReLU(f"{module_path(node)}.relu", module_path(node), (source.name,)), VALUE)
    return Traced(name, source.layout)


def _add(translator: Translation, node: fx.Node) -> Traced:
    return _add_times(translator, node, float(argument(node, 2, "alpha", 1)))


def _subtract(translator: Translation, node: fx.Node) -> Traced:
    return _add_times(translator, node, -float(argument(node, 2, "alpha", 1)))


def _add_times(translator: Translation, node: fx.Node, factor: float) -> Traced:
    """The first operand plus ``factor`` times the second one, which may be a number or, times 1, conditioning."""
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        a, b = _alike(translator, left, right)
        return Traced(_sum(translator, module_path(node), a.name, b.name, (1.0, factor)), a.layout)
    if isinstance(right, (int, float)):
        traced, path = translator.operand(left), module_path(node)
        number = torch.full(translator.builder.tensors[traced.name].shape, factor * right)
        constant = translator.builder.add_constant(path, number)
        return Traced(_sum(translator, path, traced.name, constant), traced.layout)
    if factor != 1:
        raise ValueError(f"conditioning that is added {factor:g} times is not supported")
    return _condition(translator, node, "add")


def _sum(translator: Translation, path: str, first: str, second: str, factors: tuple[float, float] = (1.0, 1.0)) -> str:
    name = translator.builder.add(Add(f"{path}.add".lstrip("."), path, (first, second)), VALUE)
    translator.builder.parameters[f"{name}.factors"] = torch.tensor(factors, dtype=torch.float64)
    return name


def _multiply(translator: Translation, node: fx.Node) -> Traced:
    left, right = node.args[:2]
    if left in translator.traced and right in translator.traced:
        a, b = _alike(translator, left, right)
        path = module_path(node)
        name = translator.builder.add(Multiply(f"{path}.product".lstrip("."), path, (a.name, b.name)), VALUE)
        translator.builder.parameters[f"{name}.factor"] = torch.tensor(1.0, dtype=torch.float64)
        return Traced(name, a.layout)
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        return _condition(translator, node, "multiply")
    activation, factor = (left, right) if left in translator.traced else (right, left)
    return _scale(translator, node, activation, float(factor))  # type: ignore[arg-type]


def _alike(translator: Translation, left: Any, right: Any) -> tuple[Traced, Traced]:
    a, b = translator.operand(left), translator.operand(right)
    if a.layout != b.layout:
        raise ValueError(f"found operands with axes {a.layout} and {b.layout}, expected the same")
    return a, b


def _divide(translator: Translation, node: fx.Node) -> Traced:
    divisor = node.args[1]
    if node.args[0] not in translator.traced or divisor in translator.traced:
        raise ValueError("a division is supported by constants and conditioning only")
    if isinstance(divisor, fx.Node):
        return _condition(translator, node, "divide")
    return _scale(translator, node, node.args[0], 1.0 / float(divisor))  # type: ignore[arg-type]


def _scale(translator: Translation, node: fx.Node, activation: fx.Node, factor: float) -> Traced:
    """A product with a constant folds into the operator that computes the activation; else it is a sum with 0 times the same."""
    traced, builder = translator.operand(activation), translator.builder
    if factor == 1.0:
        return traced
    producer = translator.only_producer(activation)
    if producer is None or type(producer) not in SCALED or producer.name in builder.conditioning:
        return Traced(_sum(translator, module_path(node), traced.name, traced.name, (factor, 0.0)), traced.layout)
    for parameter in SCALED[type(producer)]:
        key = f"{producer.name}.{parameter}"
        builder.parameters[key] = builder.parameters[key] * factor
    return traced


SCALED: dict[type[Node], tuple[str, ...]] = {  # by a constant: which parameters
    Convolution: ("weight", "bias"),
    GroupNorm: ("gain", "offset"),
    LayerNorm: ("gain", "offset"),
    Add: ("factors",),
    Multiply: ("factor",),
}


def _condition(translator: Translation, node: fx.Node, operation: str) -> Traced:
    """A per-channel term of the conditioning folds into the operator before it; one that is the same in all runs but differs
    between pixels (position embeddings) is added as a constant."""
    left, right = node.args[:2]
    activation, term = (left, right) if left in translator.traced else (right, left)
    traced = translator.operand(activation)
    assert isinstance(term, fx.Node) and isinstance(activation, fx.Node)
    shape = translator.builder.tensors[traced.name].shape
    value = translator.static_value(term) if operation == "add" else None
    if value is not None:
        path = module_path(node)
        constant = translator.builder.add_constant(path, per_pixel(value, traced.layout, shape))
        return Traced(_sum(translator, path, traced.name, constant), traced.layout)
    sizes = shape_of(traced.layout)
    found = (1,) * (len(sizes) - term.meta["val"].ndim) + tuple(term.meta["val"].shape)
    per_channel = any(
        axis and axis[0].axis == CHANNEL and size in (1, shape[2])
        for axis, size in zip(traced.layout, found, strict=False)
    )
    if not per_channel or any(size not in (1, whole) for size, whole in zip(found, sizes, strict=False)):
        raise ValueError(f"found conditioning of shape {found}, expected one number per sample and channel of {sizes}")
    producer = translator.producer(activation)
    if not isinstance(producer, (Convolution, GroupNorm, LayerNorm)):
        raise ValueError(f"conditioning folds into convolutions and norms, not into {producer.name}")
    translator.builder.conditioning.setdefault(producer.name, []).append(Term(operation, term, traced.layout))
    return traced


def _concat(translator: Translation, node: fx.Node) -> Traced:
    """A tensor is stored as part of one concatenation only: what cannot be that part is copied."""
    sources = [translator.operand(source) for source in node.args[0]]  # type: ignore[union-attr]
    for source in sources:
        translator.expect_image(source)
    if argument(node, 1, "dim", 0) not in (1, -3):
        raise ValueError("concatenation is supported along channels only")
    builder, path = translator.builder, module_path(node)
    parts: list[str] = []
    for name in (source.name for source in sources):
        if name in builder.concatenated or name in parts or name not in builder.nodes:
            name = builder.add(Upsample(f"{path}.copy".lstrip("."), path, (name,), factor=1), VALUE)
        parts.append(name)
    result = builder.add(Concat(f"{path}.concat".lstrip("."), path, tuple(parts)), VALUE)
    builder.concatenated |= {result, *parts}
    return translator.image(result)


def _upsample(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    height, width, _ = translator.expect_image(source)
    rows, columns = node.meta["val"].shape[2:]
    factor = -(-rows // height)
    positions = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    found = node.target(positions, *node.args[1:], **node.kwargs)  # type: ignore[operator]
    copies = positions.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)[:, :, :rows, :columns]
    if not torch.equal(found, copies):
        raise ValueError(f"upsampling {height}x{width} to {rows}x{columns} is not by one integer factor")
    crop = (height * factor - rows, width * factor - columns)
    path = module_path(node)
    return translator.image(
        translator.builder.add(Upsample(f"{path}.upsample", path, (source.name,), factor, crop), VALUE)
    )


def _average_pool(translator: Translation, node: fx.Node) -> Traced:
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


def _pad(translator: Translation, node: fx.Node) -> Traced:
    source = translator.operand(node.args[0])
    translator.expect_image(source)
    amounts = list(argument(node, 1, "pad", []))
    if argument(node, 2, "mode", "constant") not in ("constant", 0, 0.0) or (argument(node, 3, "value", 0) or 0) != 0:
        raise ValueError("padding with anything but zeros is not supported")
    left, right, top, bottom = amounts + [0] * (4 - len(amounts))
    return dataclasses.replace(source, padding=(top, bottom, left, right))


def _attention(translator: Translation, node: fx.Node) -> Traced:
    """softmax(Q K^T / sqrt(d)) V as three operators of the integer graph."""
    mask, causal = argument(node, 3, "attn_mask", None), argument(node, 5, "is_causal", False)
    if mask is not None or causal:
        raise ValueError("attention with a mask is not supported")
    q, k, v = (translator.operand(operand) for operand in node.args[:3])
    head_count, head_size = shape_of(q.layout)[1], shape_of(q.layout)[3]
    per_head = reshape((image_layout(1, 1, 1, head_count * head_size)[1],), (head_count, head_size))
    for operand in (q, k, v):
        if (operand.layout[1], operand.layout[3]) != per_head:
            raise ValueError(
                f"found attention operands with axes {operand.layout}, expected (batch, head, token, channel)"
            )
    builder, path = translator.builder, module_path(node)
    windows, interleaved = _windows(builder, q)
    of_keys = _windows(builder, k)
    if _windows(builder, v) != of_keys or k.layout[2] != v.layout[2]:
        raise ValueError(f"found keys with axes {k.layout} and values with {v.layout}, expected the same")
    if any(part.axis == REPEAT for part in k.layout[0]):
        windows, interleaved = 1, False  # all windows attend to the same tokens
    elif (windows, interleaved) != of_keys:
        raise ValueError(f"found queries with axes {q.layout} and keys with {k.layout}: other windows")
    scale = argument(node, 6, "scale", None) or node.kwargs.get("scale") or 1 / math.sqrt(head_size)
    scores = builder.add(
        MatMul(f"{path}.scores", path, (q.name, k.name), head_count, windows=windows, interleaved=interleaved), VALUE
    )
    builder.parameters[f"{scores}.factor"] = torch.tensor(scale, dtype=torch.float64)
    probabilities = builder.add(Softmax(f"{path}.softmax", path, (scores,)), CODE)
    image = builder.tensors[q.name].shape[:2]
    mixed = builder.add(
        MatMul(f"{path}.mix", path, (probabilities, v.name), head_count, False, image, windows, interleaved), VALUE
    )
    builder.parameters[f"{mixed}.factor"] = torch.tensor(1.0, dtype=torch.float64)
    return Traced(mixed, q.layout)


def _windows(builder: Builder, operand: Traced) -> tuple[int, bool]:
    """Of attention's operand: how many sets of tokens attend to themselves alone, and whether these are interleaved."""
    height, width, _ = builder.tensors[operand.name].shape
    stored = merge(part for axis in image_layout(1, height, width, 1)[2:] for part in axis)
    sets = tuple(part for part in operand.layout[0] if part.axis in (HEIGHT, WIDTH))
    tokens = operand.layout[2]
    if merge((*sets, *tokens)) == stored:
        return axis_size(sets), False
    if merge((*tokens, *sets)) == stored:
        return axis_size(sets), True
    raise ValueError(f"found tokens with axes {operand.layout}, expected all pixels, or sets of them, in their order")


def _repeat(translator: Translation, node: fx.Node) -> Traced:
    """A context for every frame of a video."""
    source = translator.operand(node.args[0])
    if argument(node, 2, "dim", None) != 0:
        raise ValueError("repeating is supported along the batch only")
    return dataclasses.replace(source, layout=((*source.layout[0], Part(REPEAT, node.args[1])), *source.layout[1:]))  # type: ignore[arg-type]


def _cut(translator: Translation, node: fx.Node) -> Traced:
    """A fully connected layer whose result is cut along its channels (GEGLU) is as many layers."""
    source, activation = translator.operand(node.args[0]), node.args[0]
    assert isinstance(activation, fx.Node)
    producer, builder = translator.producer(activation), translator.builder
    channels = builder.tensors[producer.name].shape[2]
    sizes = [piece.shape[-1] for piece in node.meta["val"]]
    dimension = argument(node, 2, "dim", 0) % len(source.layout)
    if not isinstance(producer, Convolution) or producer.name in builder.conditioning:
        raise ValueError(f"cutting the result of {producer.name} is not supported, only that of a layer with weights")
    if dimension != len(source.layout) - 1 or source.layout[-1] != image_layout(1, 1, 1, channels)[1]:
        raise ValueError(f"found axes {source.layout} cut along axis {dimension}, expected all channels, the last axis")
    weight, bias = (builder.parameters.pop(f"{producer.name}.{key}") for key in ("weight", "bias"))
    del builder.nodes[producer.name], builder.tensors[producer.name]
    pieces, first = [], 0
    for index, size in enumerate(sizes):
        name = builder.add(dataclasses.replace(producer, name=f"{producer.name}.{index}"), VALUE, size)
        part = slice(first, first + size)
        _set_linear_parameters(builder, name, weight[part], bias[part])
        pieces.append(Traced(name, (*source.layout[:-1], image_layout(1, 1, 1, size)[1])))
        first += size
    translator.pieces[node] = tuple(pieces)
    return pieces[0]


def _piece(translator: Translation, node: fx.Node) -> Traced:
    source, index = node.args[:2]
    if source not in translator.pieces:
        raise ValueError("no such operator in the integer graph")
    return translator.pieces[source][index]  # type: ignore[index]


HANDLERS: dict[str, Handler] = LAYOUT_HANDLERS | {
    "aten.conv2d": _convolution,
    "aten.linear": _linear,
    "aten.group_norm": _group_norm,
    "aten.layer_norm": _layer_norm,
    "aten.gelu": _gelu,
    "aten.chunk": _cut,
    "aten.split.Tensor": _cut,
    "<built-in function getitem>": _piece,
    "aten.repeat_interleave.self_int": _repeat,
    "aten.silu": _silu,
    "aten.silu_": _silu,
    "aten.relu": _relu,
    "aten.relu_": _relu,
    "aten.add.Tensor": _add,
    "aten.add_.Tensor": _add,
    "aten.sub.Tensor": _subtract,
    "aten.mul.Tensor": _multiply,
    "aten.div.Tensor": _divide,
    "aten.cat": _concat,
    "aten.upsample_nearest2d.vec": _upsample,
    "aten.avg_pool2d": _average_pool,
    "aten.pad": _pad,
    "aten.constant_pad_nd": _pad,
    "aten.scaled_dot_product_attention": _attention,
}
