"""A sequential hls4ml model of Dense, Conv2D and ReLU layers as an integer graph, exact or refused.

hls4ml's types are ap_fixed. Codes of at most 8 bits enter linear layers; what leaves the last one may have 16. Quantizers before
the first linear layer are the host's. Rounding is AP_RND (to plus infinity at a half), AP_RND_CONV (to even, as Brevitas rounds;
it takes two convolutions: :mod:`.sums`) or AP_TRN (down); a value that may leave its type's range must saturate.
Whatever the engine would not compute bit for bit as hls4ml's own C simulation does is refused with the layer, what was found
and what to set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.tensor import CODE, VALUE, Tensor
from .source import dropped_settings
from .sums import LARGEST_WEIGHT, OFFSET, PAD_CODE, GraphBuilder, Stream, Sums, is_exact, rounded, rounded_again
from .types import FixedPoint, Unsupported

CODE_BITS = 8
INPUT = "input"
CONFIGURATION = (
    'pass hls4ml\'s config_from_..._model(..., granularity="name", backend="Ditto", default_precision="fixed<8,3,RND,SAT>"), '
    "for its defaults have 16 bits and rounded sums"
)


@dataclass(frozen=True)
class Translation:
    """A model as a ``graph`` with its ``tables``, and how the host turns inputs into codes and codes into outputs.

    An input passes ``input_types`` one after another; ``input_layout`` are the positions that make up its tensor. An output is
    ``(code + output_offset) * output_scale``, at the positions ``output_layout`` of the graph's output.
    """

    graph: Graph
    tables: dict[str, np.ndarray]
    input_types: tuple[FixedPoint, ...]
    input_layout: np.ndarray
    output_scale: float
    output_offset: int
    output_layout: np.ndarray

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes int64 [N, H, W, C] of samples float [N, inputs]."""
        values = samples[:, self.input_layout]
        for each in self.input_types:
            codes = each.codes(values)
            values = each.values(codes)
        return codes.reshape(len(samples), *self.graph.tensors[INPUT].shape)

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Outputs float64 [N, outputs] of values [N, H, W, C] of the graph's output."""
        chosen = values.reshape(len(values), -1)[:, self.output_layout]
        return (chosen + self.output_offset) * self.output_scale


@dataclass
class Translator(GraphBuilder):
    """Builds the graph, and keeps how inputs reach its first layer."""

    input_types: tuple[FixedPoint, ...] = ()
    input_layout: np.ndarray | None = None


def translate(model: Any) -> Translation:
    """The graph of ``model``, hls4ml's ModelGraph after its own optimizers. Unsupported where it would not be exact."""
    layers = [layer for layer in model.get_layers() if layer.class_name != "Input"]
    source = next(layer for layer in model.get_layers() if layer.class_name == "Input")
    _check_sequence(model, source, layers)
    for name, setting, value in dropped_settings(model):
        raise Unsupported(f"{name}: found {setting} {value}, which hls4ml's converter drops; expected none")
    variable = source.get_output_variable()
    layout = np.arange(np.prod(variable.shape)).reshape(variable.shape)
    translator = Translator()
    stream = _input(translator, Stream(INPUT, 0, 0, 0, layout), variable, source.name)
    groups = list(_groups(layers))
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        stream = _translate_group(translator, stream, group, following)
    if not translator.nodes or translator.input_layout is None:
        raise Unsupported("the model has no Dense or Conv2D layer")
    graph = Graph(
        translator.tensors, tuple(translator.nodes), INPUT, stream.tensor, (0,), constants=tuple(translator.constants)
    )
    return Translation(
        graph=graph,
        tables=translator.tables,
        input_types=translator.input_types,
        input_layout=translator.input_layout,
        output_scale=2.0**-stream.fractional,
        output_offset=stream.offset,
        output_layout=stream.layout.ravel(),
    )


def _input(translator: Translator, stream: Stream, variable: Any, name: str) -> Stream:
    """The input after the host has rounded it to the variable's type."""
    kind = FixedPoint.of(variable.type.precision, name)
    translator.input_types = (*translator.input_types, kind)
    return Stream(INPUT, kind.fractional, *kind.limits, stream.layout)


def _check_sequence(model: Any, source: Any, layers: list[Any]) -> None:
    before = source
    for layer in layers:
        if len(layer.inputs) != 1 or layer.get_input_node().name != before.name:
            raise Unsupported(f"{layer.name}: the model is not sequential; expected one input, from {before.name}")
        before = layer
    if list(model.outputs) != [before.name] and model.get_output_variables()[0] is not before.get_output_variable():
        raise Unsupported(f"found outputs {list(model.outputs)}, expected the last layer's, {before.name}")


def _groups(layers: list[Any]) -> Iterator[list[Any]]:
    """A linear layer with the activations that follow it, or a single other layer."""
    group: list[Any] = []
    for layer in layers:
        if group and layer.class_name != "Activation":
            yield group
            group = []
        group.append(layer)
    if group:
        yield group


def _translate_group(translator: Translator, stream: Stream, group: list[Any], following: list[Any] | None) -> Stream:
    layer, activations = group[0], group[1:]
    kind = layer.class_name
    if kind in ("Conv2D", "PointwiseConv2D"):
        return _linear(translator, stream, group, following, _convolution_parts(translator, stream, layer))
    if kind == "Dense":
        return _linear(translator, stream, group, following, _dense_parts(translator, stream, layer))
    if kind in ("Reshape", "Transpose"):
        turned = stream.layout.transpose(layer.get_attr("perm")) if kind == "Transpose" else stream.layout
        stream = dataclasses.replace(stream, layout=turned.reshape(layer.get_output_variable().shape))
    elif kind == "Activation":
        activations = group
    else:
        raise Unsupported(f"{layer.name}: found a {kind} layer, expected Dense, Conv2D, ReLU, Reshape or Transpose")
    for activation in activations:
        found = activation.get_attr("activation")
        if stream.tensor != INPUT or found != "linear":
            raise Unsupported(f"{activation.name}: found the activation {found} here, expected it after a linear layer")
        stream = _input(translator, stream, activation.get_output_variable(), activation.name)
    return stream


@dataclass(frozen=True)
class _Parts:
    """What makes a linear layer: weights float [O, kh, kw, I], the convolution's ``fields``, the ``shape`` of its result."""

    weight: np.ndarray
    fields: dict[str, Any]
    shape: tuple


def _convolution_parts(translator: Translator, stream: Stream, layer: Any) -> _Parts:
    _check_plain(layer)
    shape = tuple(layer.get_attr(name) for name in ("in_height", "in_width", "n_chan"))
    _place_input(translator, stream, layer, shape)
    if stream.tensor != INPUT and not np.array_equal(stream.layout, _positions(translator, stream, shape)):
        raise Unsupported(
            f"{layer.name}: found a transposed input, expected height, width, channels as the layer before gives"
        )
    fields = {
        "kernel": (layer.get_attr("filt_height"), layer.get_attr("filt_width")),
        "stride": (layer.get_attr("stride_height"), layer.get_attr("stride_width")),
        "padding": tuple(layer.get_attr(f"pad_{side}") for side in ("top", "bottom", "left", "right")),
    }
    output = tuple(layer.get_attr(name) for name in ("out_height", "out_width", "n_filt"))
    return _Parts(layer.weights["weight"].data.transpose(3, 0, 1, 2), fields, output)


def _positions(translator: Translator, stream: Stream, shape: tuple) -> np.ndarray:
    """Flat positions [H, W, C] of an image that is not transposed, without the constant channels."""
    tensor = translator.tensors[stream.tensor]
    return np.arange(tensor.size).reshape(tensor.shape)[:, :, : shape[2]]


def _check_plain(layer: Any) -> None:
    """Unsupported where the layer's shapes are not those of a convolution without groups and dilation."""
    expected = tuple(layer.get_attr(name) for name in ("filt_height", "filt_width", "n_chan", "n_filt"))
    weight = layer.weights["weight"].data.shape
    if weight != expected:
        raise Unsupported(f"{layer.name}: found weights of shape {weight}, expected {expected}: no groups")
    for size, sides in (("height", ("top", "bottom")), ("width", ("left", "right"))):
        dilation = layer.get_attr(f"dilation_{size}", layer.get_attr("dilation", 1))
        wide = layer.get_attr(f"in_{size}") + sum(layer.get_attr(f"pad_{side}") for side in sides)
        plain = (wide - layer.get_attr(f"filt_{size}")) // layer.get_attr(f"stride_{size}") + 1
        found = layer.get_attr(f"out_{size}")
        if dilation != 1 or found != plain:
            raise Unsupported(
                f"{layer.name}: found a dilation of {dilation} and an output {size} of {found}, expected 1 and {plain}"
            )


def _dense_parts(translator: Translator, stream: Stream, layer: Any) -> _Parts:
    """A fully connected layer is a convolution whose kernel covers the whole tensor, in the tensor's own order."""
    inputs, outputs = layer.get_attr("n_in"), layer.get_attr("n_out")
    if stream.layout.size != inputs:
        raise Unsupported(
            f"{layer.name}: found {stream.layout.size} inputs, expected {inputs}; flatten before a Dense layer"
        )
    _place_input(translator, stream, layer, (1, 1, inputs))
    shape = translator.tensors[stream.tensor].shape
    positions = np.arange(inputs) if stream.tensor == INPUT else stream.layout.ravel()
    weight = np.empty((inputs, outputs))
    weight[positions] = np.asarray(layer.weights["weight"].data).reshape(inputs, outputs)
    return _Parts(weight.reshape(*shape, outputs).transpose(3, 0, 1, 2), {"kernel": shape[:2]}, (1, 1, outputs))


def _place_input(translator: Translator, stream: Stream, layer: Any, shape: tuple) -> None:
    """The first linear layer says how the user's input lies in the graph's input tensor."""
    if stream.tensor == INPUT:
        if stream.layout.size != np.prod(shape):
            raise Unsupported(f"{layer.name}: found an input of shape {stream.layout.shape}, expected {shape}")
        kind = translator.input_types[-1]
        if kind.width > CODE_BITS or (kind.width == CODE_BITS and not kind.signed):
            raise Unsupported(
                f"{layer.name}: found an input of {kind}, expected at most 8 bits with a sign or 7 without; quantize it or "
                + CONFIGURATION
            )
        translator.tensors[INPUT] = Tensor(INPUT, CODE, shape)
        translator.input_layout = stream.layout.ravel()
    elif translator.tensors[stream.tensor].kind != CODE:
        raise Unsupported(
            f"{layer.name}: its operand has more than 8 bits; give the layer before a result of 8 bits (RND, SAT)"
        )


def _linear(
    translator: Translator, stream: Stream, group: list[Any], following: list[Any] | None, parts: _Parts
) -> Stream:
    """A linear layer and its activations: convolution, and ReLU and quantizer where they cannot be fused."""
    layer = group[0]
    sums = _sums(layer, stream, parts)
    fractional, low, high = sums.fractional + sums.finer, sums.low, sums.high
    _check_accumulator(layer, fractional, low, high)
    result = FixedPoint.of(layer.get_output_variable().type.precision, layer.name)
    last, relu = result, False
    for activation in group[1:]:
        kind = activation.get_attr("activation").lower()  # converters differ
        if kind not in ("relu", "linear"):
            raise Unsupported(f"{activation.name}: found the activation {kind}, expected relu or linear")
        relu = relu or kind == "relu"
        last = FixedPoint.of(activation.get_output_variable().type.precision, activation.name)
        if activation is not group[-1] and not is_exact(last, fractional, low, high):
            raise Unsupported(
                f"{activation.name}: found {last} between two activations, expected a type that rounds nothing"
            )
    exact = is_exact(result, fractional, low, high)
    if len(group) == 1 or exact or (last == result and result.saturates):  # rounding once, whatever ReLU does
        return rounded(translator, layer, sums, last, relu, pads=_pads(following))
    middle = rounded(translator, layer, sums, result, False, VALUE)
    return rounded_again(translator, middle, group[-1], last, relu)


def _sums(layer: Any, stream: Stream, parts: _Parts) -> Sums:
    """What the layer sums, in codes. An operand with an offset moves the bias, or, where the image is padded with the engine's
    code 0, has constant channels whose weights make up for the offset inside the image."""
    weight, fields = parts.weight, parts.fields
    weight_type = FixedPoint.of(layer.weights["weight"].type.precision, f"{layer.name}.weight")
    if weight_type.width > CODE_BITS or (not weight_type.signed and weight_type.width == CODE_BITS):
        raise Unsupported(f"{layer.name}: found weights of {weight_type}, expected at most 8 bits with a sign")
    fractional = stream.fractional + weight_type.fractional
    codes = weight_type.codes(weight)
    bias, finer = np.zeros(len(weight), np.int64), 0
    if "bias" in layer.weights:
        bias_type = FixedPoint.of(layer.weights["bias"].type.precision, f"{layer.name}.bias")
        bias, finer = bias_type.codes(layer.weights["bias"].data), bias_type.fractional - fractional
    while finer > 0 and not np.any(bias & 1):
        bias, finer = bias >> 1, finer - 1
    bias, finer = (bias << -finer, 0) if finer < 0 else (bias, finer)
    low, high = _reach(codes << finer, bias, stream)
    if stream.offset:
        correction = _pad_weights(codes) if any(fields.get("padding", ())) else codes[..., :0]
        if not correction.size:
            bias = bias + (stream.offset * codes.reshape(len(codes), -1).sum(axis=1) << finer)
        codes = np.concatenate([codes, correction], axis=3)
    return Sums(
        operand=stream.tensor,
        weight=codes.astype(np.int8),
        bias=bias,
        fractional=fractional,
        finer=finer,
        low=low,
        high=high,
        fields=fields,
        shape=parts.shape,
    )


def _pads(following: list[Any] | None) -> int:
    """Constant channels that the next layer needs if its operand has an offset."""
    if following is None or following[0].class_name not in ("Conv2D", "PointwiseConv2D"):
        return 0
    layer = following[0]
    if not any(layer.get_attr(f"pad_{side}") for side in ("top", "bottom", "left", "right")):
        return 0
    weight = layer.weights["weight"]
    codes = FixedPoint.of(weight.type.precision, f"{layer.name}.weight").codes(weight.data.transpose(3, 0, 1, 2))
    return _pad_weights(codes).shape[3]


def _pad_weights(codes: np.ndarray) -> np.ndarray:
    """Weights [O, kh, kw, n] of the constant channels: ``PAD_CODE`` times their sum is the offset times that of ``codes``."""
    left = codes.sum(axis=3) * (OFFSET // PAD_CODE)
    columns = []
    while np.any(left):
        columns.append(np.clip(left, -LARGEST_WEIGHT, LARGEST_WEIGHT))
        left = left - columns[-1]
    return np.stack(columns, axis=3) if columns else codes[..., :0]


def _reach(codes: np.ndarray, bias: np.ndarray, stream: Stream) -> tuple[int, int]:
    """The range of the sums, over all inputs (padding is 0)."""
    flat = codes.reshape(len(codes), -1).astype(np.int64)
    low_end, high_end = min(stream.low, 0), max(stream.high, 0)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    low = positive * low_end + negative * high_end + bias
    high = positive * high_end + negative * low_end + bias
    return int(low.min()), int(high.max())


def _check_accumulator(layer: Any, fractional: int, low: int, high: int) -> None:
    accumulator = FixedPoint.of(layer.get_attr("accum_t").precision, f"{layer.name}.accum")
    if not is_exact(accumulator, fractional, low, high):
        raise Unsupported(
            f"{layer.name}: found accumulators of {accumulator}, expected {fractional} fraction bits and sums of {low} to {high} "
            "in these steps; set Precision accum to auto or " + CONFIGURATION
        )
    if low < -(2**31) or high >= 2**31:
        raise Unsupported(f"{layer.name}: found sums of {low} to {high}, expected them within 32 bits")
