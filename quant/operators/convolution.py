"""Convolutions and fully connected layers; zero padding in front of them, and cuts of their results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from ...hls.contract.arithmetic import ACCUMULATOR_RANGE, CODE_RANGE, to_multiplier
from ...hls.contract.layout import image_layout
from ...hls.contract.operators import Convolution, Node
from ...hls.contract.tensor import CODE, VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import ZERO_POINT, QonnxStep
from ..builders.traced import Builder, Traced, argument, module_path, pair
from ..builders.translation import Handler, Translation
from ..common.unsupported import UnsupportedOperator
from .operator import EITHER, ConditionedOperator, Operator

LARGEST_BIAS = 1 << 30  # of a row whose weights give way to it: half of an accumulator


def _convolution(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0], padded=True)
    frames = translation.frames_of(source)
    weight, bias = translation.constant(node.args[1]), translation.constant(argument(node, 2, "bias", None))
    if pair(argument(node, 5, "dilation", 1)) != (1, 1) or argument(node, 6, "groups", 1) != 1:
        raise ValueError("dilated and grouped convolutions are not supported")
    vertical, horizontal = pair(argument(node, 4, "padding", 0))
    top, bottom, left, right = source.padding
    assert weight is not None
    height = translation.builder.tensors[source.name].shape[0] // frames
    stride = pair(argument(node, 3, "stride", 1))
    if frames > 1 and (stride[0] != weight.shape[2] or height % stride[0] or top + bottom + 2 * vertical):
        raise ValueError("frames of a video are supported by convolutions that cut them into patches only")
    convolution = Convolution(
        module_path(node),
        module_path(node),
        (source.name,),
        kernel=(weight.shape[2], weight.shape[3]),
        stride=stride,
        padding=(top + vertical, bottom + vertical, left + horizontal, right + horizontal),
    )
    return translation.frames(_add_layer(translation.builder, convolution, weight, bias), frames)


def _linear(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    weight, bias = translation.constant(node.args[1]), translation.constant(argument(node, 2, "bias", None))
    assert weight is not None
    _, _, channels = translation.builder.tensors[source.name].shape
    if source.layout[-1] != image_layout(1, 1, 1, channels)[1]:
        raise ValueError(f"found a last axis of {source.layout[-1]}, expected all {channels} channels")
    layer = Convolution(module_path(node), module_path(node), (source.name,))
    name = _add_layer(translation.builder, layer, weight[:, :, None, None], bias)
    return Traced(name, (*source.layout[:-1], image_layout(1, 1, 1, weight.shape[0])[1]))


def _add_layer(builder: Builder, layer: Convolution, weight: torch.Tensor, bias: torch.Tensor | None) -> str:
    """A layer with ``weight`` [O, I, kh, kw] and ``bias`` [O]; its name."""
    name = builder.add(layer, VALUE, len(weight))
    builder.parameters[f"{name}.weight"] = weight
    builder.parameters[f"{name}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    return name


def add_identity(builder: Builder, name: str) -> str:
    """A convolution whose result is ``name``; its name."""
    eye = torch.eye(builder.tensors[name].shape[2])
    return _add_layer(builder, Convolution(f"{name}.value", "", (name,)), eye[:, :, None, None], None)


def _pad(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    translation.expect_image(source)
    amounts = list(argument(node, 1, "pad", []))
    if argument(node, 2, "mode", "constant") not in ("constant", 0, 0.0) or (argument(node, 3, "value", 0) or 0) != 0:
        raise ValueError("padding with anything but zeros is not supported")
    left, right, top, bottom = amounts + [0] * (4 - len(amounts))
    return dataclasses.replace(source, padding=(top, bottom, left, right))


def _cut(translation: Translation, node: fx.Node) -> Traced:
    """A fully connected layer whose result is cut along its channels (GEGLU) is as many layers."""
    source, activation = translation.operand(node.args[0]), node.args[0]
    assert isinstance(activation, fx.Node)
    producer, builder = translation.producer(activation), translation.builder
    channels = builder.tensors[producer.name].shape[2]
    sizes = [piece.shape[-1] for piece in node.meta["val"]]
    dimension = argument(node, 2, "dim", 0) % len(source.layout)
    if not isinstance(producer, Convolution) or producer.name in builder.conditioning:
        raise ValueError(f"cutting the result of {producer.name} is not supported, only that of a layer with weights")
    if dimension != len(source.layout) - 1 or source.layout[-1] != image_layout(1, 1, 1, channels)[1]:
        raise ValueError(f"found axes {source.layout} cut along axis {dimension}, expected all channels, the last axis")
    weights, biases = (builder.parameters.pop(f"{producer.name}.{key}").split(sizes) for key in ("weight", "bias"))
    del builder.nodes[producer.name], builder.tensors[producer.name]
    pieces = []
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        layer = dataclasses.replace(producer, name=f"{producer.name}.{index}")
        name = _add_layer(builder, layer, weight, bias)
        pieces.append(Traced(name, (*source.layout[:-1], image_layout(1, 1, 1, len(weight))[1])))
    translation.pieces[node] = tuple(pieces)
    return pieces[0]


def _piece(translation: Translation, node: fx.Node) -> Traced:
    source, index = node.args[:2]
    if source not in translation.pieces:
        raise ValueError("no such operator in the integer graph")
    return translation.pieces[source][index]  # type: ignore[index]


class ConvolutionOperator(ConditionedOperator[Convolution]):
    """Parameters: weight [O, I, kh, kw], bias [O] or [steps, labels, O], gate [steps, labels, O] where it is gated."""

    reads, writes = CODE, EITHER
    scaled = ("weight", "bias")
    has_weights = True

    def conditioned(self, node: Convolution, operations: Sequence[str]) -> Convolution:
        added = operations.count("add")
        if "add" in operations[added:]:
            raise UnsupportedOperator(
                f"{node.name}: conditioning that is added to a gated layer's result is not supported"
            )
        return dataclasses.replace(node, conditional=added > 0, gated=len(operations) > added)

    def folded(
        self,
        node: Convolution,
        parameters: Mapping[str, torch.Tensor],
        terms: Sequence[tuple[str, torch.Tensor]],
        shape: tuple[int, ...],
    ) -> dict[str, torch.Tensor]:
        """Sums go into the bias, products into the multipliers, which come after it."""
        added = [value for operation, value in terms if operation == "add"]
        gates = [value for operation, value in terms if operation == "multiply"]
        tables = {}
        if added:
            tables[f"{node.name}.bias"] = sum(added, parameters[f"{node.name}.bias"].expand(shape))
        if gates:
            tables[f"{node.name}.gate"] = torch.stack(gates).prod(dim=0)
        return tables

    def row_bytes(self, node: Convolution) -> int:
        """An int32 bias and an int32 multiplier."""
        return 4 * node.conditional + 4 * node.gated

    def run(self, node: Convolution, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        (x,), (top, bottom, left, right) = inputs, node.padding
        padding: tuple[int, int] = (0, 0)
        if (top, left) == (bottom, right):
            padding = (top, left)
        else:
            x = F.pad(x, (left, right, top, bottom))
        sums = F.conv2d(x, step.weight(), stride=node.stride, padding=padding)
        y = step.corrected(sums + step.row("bias", node.conditional))
        return y * step.row("gate", True) if node.gated else y

    def lower(self, node: Convolution, lowering: Lowering) -> None:
        weight, weight_scale = lowering.layers.integer_weight(node.name)
        input_scale, output_scale = lowering.scales[node.inputs[0]], lowering.scales[node.name]
        accumulator_scale = input_scale[:, None] * weight_scale
        correction = lowering.layers.correction_of(node.name)
        if node.name in lowering.unchanging:
            correction = np.broadcast_to(correction[:1], correction.shape)
        bias = lowering.parameter(node, "bias") + lowering.rows(correction, node.conditional)
        weight, growth = with_room_for_biases(weight, bias / lowering.rows(accumulator_scale, node.conditional))
        accumulator_scale = accumulator_scale * growth
        lowering.put(node, "weight", weight.transpose(0, 2, 3, 1), np.int8)
        lowering.put(node, "bias", np.rint(bias / lowering.rows(accumulator_scale, node.conditional)), np.int32)
        factors = accumulator_scale / output_scale[:, None]
        if node.gated:
            self._put_gates(node, lowering, factors)
        else:
            lowering.put_multiplier(node, factors)

    def _put_gates(self, node: Convolution, lowering: Lowering, factors: np.ndarray) -> None:
        """Multipliers [steps, labels, O] with one shift per group; ``factors`` [groups, O] without the gates."""
        of_step = np.array(lowering.graph.group_of_step)
        gated = lowering.parameter(node, "gate") * factors[of_step][:, None]
        multiplier, shift = np.zeros(gated.shape, np.int32), np.zeros(lowering.graph.groups, np.int32)
        for group in range(lowering.graph.groups):
            multiplier[of_step == group], shift[group] = to_multiplier(gated[of_step == group])
        lowering.put(node, "multiplier", multiplier, np.int32)
        lowering.put(node, "shift", shift, np.int32)

    def qonnx(self, node: Convolution, inputs: Sequence[str], step: QonnxStep) -> str:
        kernel = step.operand(step.constant(step.whole(node, "weight").transpose(0, 3, 1, 2), np.float32), narrow=True)
        top, bottom, left, right = node.padding
        image = step.op("Transpose", step.activation(inputs[0]), perm=[0, 3, 1, 2])
        if any(node.padding):  # here and with the zero point: nothing depends on how a runtime pads
            pads = step.constant([0, 0, top, left, 0, 0, bottom, right])
            image = step.op("Pad", image, pads, step.constant(ZERO_POINT, np.uint8))
        sums = step.product("ConvInteger", image, kernel, kernel_shape=list(node.kernel), strides=list(node.stride))
        pixels = step.op("Transpose", sums, perm=[0, 2, 3, 1])
        low, high = step.graph.tensors[node.name].limits
        bias = step.table(node, "bias", node.conditional)
        return step.requantize(pixels, node, (0 if node.relu else low, high), bias, node.gated)


def with_room_for_biases(weight: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer ``weight`` [O, ...] beside which ``biases`` [..., O] fit accumulators, in steps, and by which factor [O], 1 or a
    power of two, each row's scale has grown: a row of zeros, or nearly, has a scale beside which its bias does not fit."""
    reach = np.abs(biases).reshape(-1, len(weight)).max(axis=0)
    products = -CODE_RANGE[0] * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    steps = np.ceil(np.log2(np.maximum(reach / LARGEST_BIAS, 1.0)))
    growth = np.where(reach + products > ACCUMULATOR_RANGE[1], 2.0**steps, 1.0)
    rounded = np.rint(weight / growth.reshape(-1, *(1,) * (weight.ndim - 1)))
    return rounded.astype(weight.dtype), growth


OPERATORS: dict[type[Node], Operator[Any]] = {Convolution: ConvolutionOperator()}
HANDLERS: dict[str, Handler] = {
    "aten.conv2d": _convolution,
    "aten.linear": _linear,
    "aten.pad": _pad,
    "aten.constant_pad_nd": _pad,
    "aten.chunk": _cut,
    "aten.split.Tensor": _cut,
    "<built-in function getitem>": _piece,
}
