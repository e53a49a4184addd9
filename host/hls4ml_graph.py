"""A sequential hls4ml model of Dense, Conv2D and ReLU layers as an integer graph, exact or refused.

hls4ml's types are ap_fixed: a value is an integer, its code, times ``2**-fractional``. Codes of at most 8 bits enter linear
layers; what leaves the last one may have 16. Rounding is AP_RND (to plus infinity at a half) or AP_TRN (down); a value that may
leave its type's range must saturate (AP_SAT). Whatever the engine would not compute bit for bit as hls4ml's own C simulation does
is refused with the layer, what was found and what to set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..hls.graph import CODE, VALUE, Convolution, Graph, Node, Quantize, ReLU, Tensor

CODE_BITS, VALUE_BITS = 8, 16
INPUT = "input"


class Unsupported(ValueError):
    """A layer or a type that the engine does not compute exactly; the message says what to change."""


@dataclass(frozen=True)
class FixedPoint:
    """An ap_fixed or ap_ufixed type."""

    width: int
    fractional: int
    signed: bool
    rounds: bool  # AP_RND, else AP_TRN
    saturates: bool  # AP_SAT, else AP_WRAP

    @staticmethod
    def of(precision: Any, what: str) -> FixedPoint:
        """From hls4ml's description. Unsupported for other types and modes."""
        rounding = str(getattr(precision, "rounding_mode", "")).rsplit(".", 1)[-1]
        saturation = str(getattr(precision, "saturation_mode", "")).rsplit(".", 1)[-1]
        if rounding not in ("RND", "TRN") or saturation not in ("SAT", "WRAP"):
            raise Unsupported(
                f"{what}: found the type {precision}, expected fixed or ufixed with RND or TRN and SAT or WRAP"
            )
        return FixedPoint(
            precision.width,
            precision.width - precision.integer,
            precision.signed,
            rounding == "RND",
            saturation == "SAT",
        )

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """int64 codes of float values, rounded and saturated or wrapped as C++ does."""
        steps = np.asarray(values, np.float64) * 2.0**self.fractional
        codes = np.floor(steps + 0.5 if self.rounds else steps).astype(np.int64)
        low, high = self.limits
        return np.clip(codes, low, high) if self.saturates else (codes - low) % (1 << self.width) + low

    def holds(self, low: int, high: int) -> bool:
        return self.limits[0] <= low and high <= self.limits[1]

    def __str__(self) -> str:
        modes = f"{'RND' if self.rounds else 'TRN'},{'SAT' if self.saturates else 'WRAP'}"
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.width - self.fractional},{modes}>"


@dataclass(frozen=True)
class Stream:
    """What flows between layers: a tensor of the graph, its fraction bits, the range of its codes, and where elements lie.

    ``layout`` holds, in the shape that hls4ml sees, flat positions in the tensor [H, W, C], or in the user's input before the
    first layer.
    """

    tensor: str
    fractional: int
    low: int
    high: int
    layout: np.ndarray


@dataclass(frozen=True)
class Translation:
    """``graph`` and its ``tables``; the input's type and the positions that make up its tensor; the output's scale and layout."""

    graph: Graph
    tables: dict[str, np.ndarray]
    input_type: FixedPoint
    input_layout: np.ndarray
    output_scale: float
    output_layout: np.ndarray


@dataclass
class Translator:
    """Builds the graph layer by layer."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    input_layout: np.ndarray | None = None

    def add(self, node: Node, kind: str, shape: tuple[int, int, int], **tables: np.ndarray) -> str:
        self.nodes.append(node)
        self.tensors[node.name] = Tensor(node.name, kind, shape)
        self.tables.update({f"{node.name}.{name}": table for name, table in tables.items()})
        return node.name


def translate(model: Any) -> Translation:
    """``model``: hls4ml's ModelGraph after its own optimizers. Raises Unsupported."""
    layers = [layer for layer in model.get_layers() if layer.class_name != "Input"]
    source = next(layer for layer in model.get_layers() if layer.class_name == "Input")
    _check_sequence(model, source, layers)
    variable = source.get_output_variable()
    input_type = FixedPoint.of(variable.type.precision, source.name)
    if not (input_type.width <= CODE_BITS and (input_type.signed or input_type.width < CODE_BITS)):
        raise Unsupported(
            f"{source.name}: found an input of {input_type}, expected at most 8 bits with a sign or 7 without"
        )
    stream = Stream(
        INPUT, input_type.fractional, *input_type.limits, np.arange(np.prod(variable.shape)).reshape(variable.shape)
    )
    translator = Translator()
    for group in _groups(layers):
        stream = _translate_group(translator, stream, group)
    if not translator.nodes or translator.input_layout is None:
        raise Unsupported("the model has no Dense or Conv2D layer")
    graph = Graph(translator.tensors, tuple(translator.nodes), INPUT, stream.tensor, (0,))
    return Translation(
        graph, translator.tables, input_type, translator.input_layout, 2.0**-stream.fractional, stream.layout.ravel()
    )


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


def _translate_group(translator: Translator, stream: Stream, group: list[Any]) -> Stream:
    layer = group[0]
    kind = layer.class_name
    if kind in ("Reshape", "Transpose"):
        if len(group) > 1:
            raise Unsupported(
                f"{group[1].name}: found an activation after {layer.name}, expected it after a linear layer"
            )
        shape = layer.get_output_variable().shape
        turned = stream.layout.transpose(layer.get_attr("perm")) if kind == "Transpose" else stream.layout
        return Stream(stream.tensor, stream.fractional, stream.low, stream.high, turned.reshape(shape))
    if kind in ("Conv2D", "PointwiseConv2D"):
        return _linear(translator, stream, group, *_convolution_parts(translator, stream, layer))
    if kind == "Dense":
        return _linear(translator, stream, group, *_dense_parts(translator, stream, layer))
    raise Unsupported(f"{layer.name}: found a {kind} layer, expected Dense, Conv2D, ReLU, Reshape or Transpose")


def _convolution_parts(translator: Translator, stream: Stream, layer: Any) -> tuple[np.ndarray, dict[str, Any], tuple]:
    """Weights [O, kh, kw, I], the node's fields, the output's shape."""
    if layer.get_attr("dilation", 1) not in (1, [1, 1], (1, 1)) or layer.get_attr("n_group", 1) != 1:
        raise Unsupported(f"{layer.name}: found dilation or groups, expected none")
    shape = tuple(layer.get_attr(name) for name in ("in_height", "in_width", "n_chan"))
    _place_input(translator, stream, layer, shape)
    if stream.tensor != INPUT and not np.array_equal(stream.layout, np.arange(np.prod(shape)).reshape(shape)):
        raise Unsupported(
            f"{layer.name}: found a transposed input, expected height, width, channels as the layer before gives"
        )
    fields = {
        "kernel": (layer.get_attr("filt_height"), layer.get_attr("filt_width")),
        "stride": (layer.get_attr("stride_height"), layer.get_attr("stride_width")),
        "padding": tuple(layer.get_attr(f"pad_{side}") for side in ("top", "bottom", "left", "right")),
    }
    output = tuple(layer.get_attr(name) for name in ("out_height", "out_width", "n_filt"))
    return layer.weights["weight"].data.transpose(3, 0, 1, 2), fields, output


def _dense_parts(translator: Translator, stream: Stream, layer: Any) -> tuple[np.ndarray, dict[str, Any], tuple]:
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
    return weight.reshape(*shape, outputs).transpose(3, 0, 1, 2), {"kernel": shape[:2]}, (1, 1, outputs)


def _place_input(translator: Translator, stream: Stream, layer: Any, shape: tuple) -> None:
    """The first linear layer says how the user's input lies in the graph's input tensor."""
    if stream.tensor == INPUT:
        if stream.layout.size != np.prod(shape):
            raise Unsupported(f"{layer.name}: found an input of shape {stream.layout.shape}, expected {shape}")
        translator.tensors[INPUT] = Tensor(INPUT, CODE, shape)
        translator.input_layout = stream.layout.ravel()
    elif translator.tensors[stream.tensor].kind != CODE:
        raise Unsupported(
            f"{layer.name}: its operand has more than 8 bits; give the layer before a result of 8 bits (RND, SAT)"
        )


def _linear(
    translator: Translator, stream: Stream, group: list[Any], weight: np.ndarray, fields: dict[str, Any], shape: tuple
) -> Stream:
    """A linear layer and its activations: convolution, and ReLU and quantizer where they cannot be fused."""
    layer = group[0]
    codes, bias, fractional = _integer_weights(stream, layer, weight)
    low, high = _reach(codes, bias, stream)
    _check_accumulator(layer, fractional, low, high)
    result = FixedPoint.of(layer.get_output_variable().type.precision, layer.name)
    last, relu = result, False
    for activation in group[1:]:
        kind = activation.get_attr("activation")
        if kind not in ("relu", "linear"):
            raise Unsupported(f"{activation.name}: found the activation {kind}, expected relu or linear")
        relu = relu or kind == "relu"
        last = FixedPoint.of(activation.get_output_variable().type.precision, activation.name)
        if activation is not group[-1] and not _is_exact(last, fractional, low, high):
            raise Unsupported(
                f"{activation.name}: found {last} between two activations, expected a type that rounds nothing"
            )
    reach = low, high
    exact = _is_exact(result, fractional, low, high)
    if len(group) == 1 or exact or (last == result and result.saturates):  # rounding once, whatever ReLU does
        return _fused(translator, stream, layer, codes, bias, fractional, reach, last, relu, fields, shape)
    middle = _fused(translator, stream, layer, codes, bias, fractional, reach, result, False, fields, shape, VALUE)
    return _activated(translator, middle, group[-1], last, relu)


def _integer_weights(stream: Stream, layer: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Weight codes int8 [O, kh, kw, I], bias int64 [O] in the accumulators' steps, and these steps' fraction bits."""
    weight_type = FixedPoint.of(layer.weights["weight"].type.precision, f"{layer.name}.weight")
    if weight_type.width > CODE_BITS or (not weight_type.signed and weight_type.width == CODE_BITS):
        raise Unsupported(f"{layer.name}: found weights of {weight_type}, expected at most 8 bits with a sign")
    fractional = stream.fractional + weight_type.fractional
    bias = np.zeros(len(weight), np.int64)
    if "bias" in layer.weights:
        bias_type = FixedPoint.of(layer.weights["bias"].type.precision, f"{layer.name}.bias")
        bias = bias_type.codes(layer.weights["bias"].data)
        finer = bias_type.fractional - fractional
        if finer > 0 and np.any(bias % (1 << finer)):
            raise Unsupported(
                f"{layer.name}: found a bias with {bias_type.fractional} fraction bits, expected at most the {fractional} of "
                "input times weight"
            )
        bias = bias >> finer if finer > 0 else bias << -finer
    return weight_type.codes(weight).astype(np.int8), bias, fractional


def _reach(codes: np.ndarray, bias: np.ndarray, stream: Stream) -> tuple[int, int]:
    """The range of the accumulators, over all inputs (padding is 0)."""
    flat = codes.reshape(len(codes), -1).astype(np.int64)
    low_end, high_end = min(stream.low, 0), max(stream.high, 0)
    positive, negative = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    low = positive * low_end + negative * high_end + bias
    high = positive * high_end + negative * low_end + bias
    return int(low.min()), int(high.max())


def _is_exact(of: FixedPoint, fractional: int, low: int, high: int) -> bool:
    """Whether codes with so many fraction bits, in this range, pass through the type unchanged."""
    finer = of.fractional - fractional
    return finer >= 0 and of.holds(low << finer, high << finer)


def _check_accumulator(layer: Any, fractional: int, low: int, high: int) -> None:
    accumulator = FixedPoint.of(layer.get_attr("accum_t").precision, f"{layer.name}.accum")
    if not _is_exact(accumulator, fractional, low, high):
        raise Unsupported(
            f"{layer.name}: found accumulators of {accumulator}, expected {fractional} fraction bits and sums of {low} to {high} "
            "in these steps; set Precision accum to auto"
        )
    if low < -(2**31) or high >= 2**31:
        raise Unsupported(f"{layer.name}: found sums of {low} to {high}, expected them within 32 bits")


def _fused(
    translator: Translator, stream: Stream, layer: Any, codes: np.ndarray, bias: np.ndarray, fractional: int,
    reach: tuple[int, int], target: FixedPoint, relu: bool, fields: dict[str, Any], shape: tuple, kind: str | None = None,
) -> Stream:  # fmt: skip
    """The convolution with its result in ``target``."""
    low, high = (max(end, 0) if relu else end for end in reach)
    shift, low, high = _rescale(target, fractional, low, high)
    kind, floor, low, high = _storage(layer, target, low, high, kind)
    if shift > 0 and not target.rounds:
        bias = bias - (1 << shift - 1)  # rounding half up of that is rounding down
        if bias.min() < -(2**31):
            raise Unsupported(f"{layer.name}: found a bias of {bias.min()}, expected one within 32 bits")
    node = Convolution(layer.name, layer.name, (stream.tensor,), relu=relu or floor, **fields)
    multiplier, table_shift = _power_of_two(layer, shift)
    name = translator.add(
        node, kind, shape, weight=codes, bias=bias.astype(np.int32)[None],
        multiplier=np.full((1, len(codes)), multiplier, np.int32), shift=np.array([table_shift], np.int32),
    )  # fmt: skip
    return Stream(name, fractional - shift, low, high, np.arange(np.prod(shape)).reshape(_seen_shape(layer)))


def _seen_shape(layer: Any) -> tuple[int, ...]:
    return tuple(layer.get_output_variable().shape)


def _storage(layer: Any, target: FixedPoint, low: int, high: int, kind: str | None) -> tuple[str, bool, int, int]:
    """How results of ``low`` to ``high`` are kept: code or value, whether they saturate at 0, and their range then.

    The type's limits must be the engine's, or never be reached.
    """
    if not target.holds(low, high) and not target.saturates:
        raise Unsupported(
            f"{layer.name}: found {target} for results of {low} to {high}, which wraps; expected SAT, or more bits"
        )
    first, end = (int(limit) for limit in np.clip((low, high), *target.limits))
    kind = kind or (CODE if first >= -128 and end <= 127 else VALUE)
    bits = CODE_BITS if kind == CODE else VALUE_BITS
    floor = not target.signed and low < 0
    limits = 0 if floor else -(1 << bits - 1), (1 << bits - 1) - 1
    same = all(target.limits[side] == limits[side] or (low, high)[side] == (first, end)[side] for side in (0, 1))
    if not same or first < limits[0] or end > limits[1]:
        raise Unsupported(
            f"{layer.name}: found {target} for results of {low} to {high}, expected a type with the engine's limits, such as "
            "fixed<8,I,RND,SAT>, ufixed<7,I,RND,SAT> or, of the last layer, fixed<16,I,RND,SAT>"
        )
    return kind, floor, first, end


def _activated(translator: Translator, middle: Stream, activation: Any, target: FixedPoint, relu: bool) -> Stream:
    """ReLU and a second rounding of a 16-bit value."""
    tensor = translator.tensors[middle.tensor]
    name, low, high = middle.tensor, middle.low, middle.high
    if relu:
        name = translator.add(ReLU(f"{activation.name}.relu", activation.name, (name,)), VALUE, tensor.shape)
        low, high = max(low, 0), max(high, 0)
    shift, low, high = _rescale(target, middle.fractional, low, high)
    if shift > 0 and not target.rounds:
        raise Unsupported(f"{activation.name}: found {target}, which rounds down a rounded value; expected RND")
    kind, floor, low, high = _storage(activation, target, low, high, None)
    if floor or kind != CODE:
        raise Unsupported(f"{activation.name}: found {target} after a result of 16 bits, expected fixed<8,I,RND,SAT>")
    multiplier, table_shift = _power_of_two(activation, shift)
    name = translator.add(
        Quantize(activation.name, activation.name, (name,)), CODE, tensor.shape,
        multiplier=np.array([multiplier], np.int32), shift=np.array([table_shift], np.int32),
    )  # fmt: skip
    return Stream(name, middle.fractional - shift, low, high, middle.layout)


def _rescale(target: FixedPoint, fractional: int, low: int, high: int) -> tuple[int, int, int]:
    """The bits by which codes with ``fractional`` fraction bits are shifted right into ``target`` (left where negative), and
    their range then, before it saturates. What passes unchanged keeps its steps, which take fewer bits."""
    shift = fractional - target.fractional
    if shift <= 0:
        return (0, low, high) if _is_exact(target, fractional, low, high) else (shift, low << -shift, high << -shift)
    half = 1 << shift >> 1 if target.rounds else 0
    return shift, low + half >> shift, high + half >> shift


def _power_of_two(layer: Any, shift: int) -> tuple[int, int]:
    """A multiplier and a shift, at least 1, that divide by ``2**shift``."""
    if not -29 <= shift <= 62:
        raise Unsupported(
            f"{layer.name}: found a result of {shift} fraction bits fewer than the sums, expected -29 to 62"
        )
    return (1, shift) if shift > 0 else (2 << -shift, 1)
