"""The integer graph: what a quantized model computes, one dataclass per operator.

Tensors are NHWC per sample: ``shape`` is (height, width, channels); tokens are (height, width) pixels of their image, and
attention's logits and probabilities are (heads, queries, keys). A ``code`` is an int8 operand of a linear operator, a
``value`` an int16 between linear operators. The semantics of every operator are the functions of :mod:`.reference`.

Integer tables live beside the graph under ``"<node>.<table>"``; their first axis is the step group. A *conditional* table
depends on step and label instead and is shaped [steps, labels, channels].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from .arithmetic import decode_output, encode_input
from .layout import Layout, Part, from_stored, sample_layout, shape_of, to_stored

CODE, VALUE = "code", "value"
DTYPES: dict[str, np.dtype[Any]] = {CODE: np.dtype(np.int8), VALUE: np.dtype(np.int16)}
Tables = Mapping[str, np.ndarray]
LARGEST_POOL = 32  # sums of 32 x 32 values have 26 bits


@dataclass(frozen=True)
class Tensor:
    """One edge of the graph: ``kind`` is "code" (int8) or "value" (int16), ``shape`` (height, width, channels)."""

    name: str
    kind: str
    shape: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return DTYPES[self.kind]


@dataclass(frozen=True)
class Node:
    """Base of all operators. ``name`` is unique and is also the output tensor's name; ``module`` the module path."""

    name: str
    module: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Convolution(Node):
    """Convolution, or fully connected layer where ``kernel`` is (1, 1). Tables: weight, bias, multiplier, shift."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right; padded with code 0
    conditional: bool = False  # the bias is [steps, labels, channels]
    relu: bool = False  # the result is saturated at 0 too
    gated: bool = False  # the multiplier is [steps, labels, channels] (adaLN-Zero: Peebles & Xie 2023, section 3.2)


@dataclass(frozen=True)
class MatMul(Node):
    """Attention product per head. Tables: multiplier, shift.

    ``scores``: inputs Q, K of (tokens, channels) -> (windows * heads, queries, keys);
    otherwise inputs P of (windows * heads, queries, keys) and V -> the (height, width) of the queries' image x channels.

    Tokens come in ``windows``, each of which attends to itself alone: token t of window i is pixel ``i * tokens + t``, or, if
    ``interleaved``, ``t * windows + i`` (of stored frames the first is attention within, the second between frames).
    """

    heads: int = 1
    scores: bool = True
    image: tuple[int, int] = (1, 1)
    windows: int = 1
    interleaved: bool = False


@dataclass(frozen=True)
class Quantize(Node):
    """Value -> code. Tables: multiplier, shift. ``fine`` appends the codes of the rounding residues, in 16ths of a step."""

    fine: bool = False


@dataclass(frozen=True)
class Add(Node):
    """Sum of two values of different scales. Tables: multiplier [groups, 2], shift."""


@dataclass(frozen=True)
class Multiply(Node):
    """Product of two values, element by element (GEGLU: Shazeer 2020). Tables: multiplier, shift."""


@dataclass(frozen=True)
class GroupNorm(Node):
    """Group normalization. Tables: gain, offset, gain_bits, epsilon."""

    groups: int = 1
    conditional: bool = False  # gain and offset are [steps, labels, channels]


@dataclass(frozen=True)
class LayerNorm(Node):
    """Normalization of the channels of every pixel or token. Tables as GroupNorm."""

    conditional: bool = False


@dataclass(frozen=True)
class SiLU(Node):
    """x * sigmoid(x); input and output have the scale 2**-fraction_bits."""

    fraction_bits: int = 11


@dataclass(frozen=True)
class GELU(Node):
    """x * Phi(x), Phi the normal distribution; input and output have the scale 2**-fraction_bits."""

    fraction_bits: int = 11


@dataclass(frozen=True)
class ReLU(Node):
    """max(x, 0); input and output have the same scale."""


@dataclass(frozen=True)
class Softmax(Node):
    """Softmax over the last axis, value -> code in 0..127. Tables: multiplier, shift, reciprocal_scale."""


@dataclass(frozen=True)
class Upsample(Node):
    """Nearest-neighbour upsampling of codes or values by an integer factor, 1 for a copy; then the last ``crop`` rows and
    columns, fewer than the factor, are left out."""

    factor: int = 2
    crop: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class AveragePool(Node):
    """Mean over windows of ``size`` x ``size``, stride ``size``. Tables: multiplier, shift."""

    size: int = 2


@dataclass(frozen=True)
class Concat(Node):
    """Concatenation along channels of tensors that share one scale: pure addressing."""


LinearNode = Union[Convolution, MatMul]
NODE_TYPES: dict[str, type[Node]] = {
    cls.__name__: cls
    for cls in (
        Convolution,
        MatMul,
        Quantize,
        Add,
        Multiply,
        GroupNorm,
        LayerNorm,
        SiLU,
        GELU,
        ReLU,
        Softmax,
        Upsample,
        AveragePool,
        Concat,
    )
}


@dataclass(frozen=True)
class Graph:
    """A model for one schedule. ``group_of_step[i]`` is the step group of step i; ``labels`` counts class labels (1: none).

    With two ``input_parts`` the input's second half of channels are the rounding residues of the first half; with two
    ``output_parts`` the output is the sum of its halves (:meth:`encode`, :meth:`decode`).
    ``context`` is a second input, codes that stay the same for all steps of a run (a prompt's tokens), with one scale.
    ``constants`` are values that are the same in all runs (position embeddings): tables "<name>.value", int16.
    ``input_layout`` and ``output_layout`` say how the host's sample and the model's output are stored (default: images).
    """

    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    input: str
    output: str
    group_of_step: tuple[int, ...]
    labels: int = 1
    input_parts: int = 1
    output_parts: int = 1
    context: str | None = None
    constants: tuple[str, ...] = ()
    input_layout: Layout | None = None
    output_layout: Layout | None = None

    @property
    def sample_axes(self) -> Layout:
        """Of the sample that the host denoises."""
        height, width, channels = self.tensors[self.input].shape
        return self.input_layout or sample_layout((height, width, channels // self.input_parts))

    @property
    def output_axes(self) -> Layout:
        """Of the model's output."""
        height, width, channels = self.tensors[self.output].shape
        return self.output_layout or sample_layout((height, width, channels // self.output_parts))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of the sample that the host denoises: (channels, height, width), or (channels, frames, height, width)."""
        return shape_of(self.sample_axes)

    def encode(self, sample: np.ndarray, scale: float) -> np.ndarray:
        """The host's rounding: a sample float64 [B, *sample_shape] -> codes int8 [B, H, W, C] of the graph's input."""
        height, width, channels = self.tensors[self.input].shape
        stored = to_stored(sample, self.sample_axes, (height, width, channels // self.input_parts))
        return encode_input(stored, scale, self.input_parts)

    def decode(self, values: np.ndarray, scale: float) -> np.ndarray:
        """Values int16 [B, H, W, C] of the graph's output -> the model's output float64 [B, axes of ``output_axes``]."""
        return from_stored(decode_output(values, scale, self.output_parts), self.output_axes)

    @property
    def steps(self) -> int:
        return len(self.group_of_step)

    @property
    def groups(self) -> int:
        return max(self.group_of_step) + 1

    @property
    def linear_nodes(self) -> tuple[LinearNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, (Convolution, MatMul)))

    def to_json(self) -> dict[str, Any]:
        return {
            "input": self.input,
            "output": self.output,
            "group_of_step": list(self.group_of_step),
            "labels": self.labels,
            "input_parts": self.input_parts,
            "output_parts": self.output_parts,
            "context": self.context,
            "constants": list(self.constants),
            "input_layout": _layout_to_json(self.input_layout),
            "output_layout": _layout_to_json(self.output_layout),
            "tensors": [dataclasses.asdict(tensor) for tensor in self.tensors.values()],
            "nodes": [{"op": type(node).__name__, **dataclasses.asdict(node)} for node in self.nodes],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Graph:
        """Rebuild and check a graph. Raises ValueError with what is wrong."""
        try:
            tensors = [Tensor(**_tuples(entry)) for entry in data["tensors"]]
            nodes = tuple(_node_from_json(entry) for entry in data["nodes"])
            graph = Graph(
                {tensor.name: tensor for tensor in tensors},
                nodes,
                data["input"],
                data["output"],
                tuple(data["group_of_step"]),
                data["labels"],
                data["input_parts"],
                data["output_parts"],
                data.get("context"),
                tuple(data.get("constants", ())),
                _layout_from_json(data.get("input_layout")),
                _layout_from_json(data.get("output_layout")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the integer graph is not readable ({error}); quantize the model again") from error
        check_graph(graph)
        return graph


def _layout_to_json(layout: Layout | None) -> list[Any] | None:
    return None if layout is None else [[dataclasses.astuple(part) for part in axis] for axis in layout]


def _layout_from_json(data: list[Any] | None) -> Layout | None:
    return None if data is None else tuple(tuple(Part(*part) for part in axis) for axis in data)


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _node_from_json(entry: Mapping[str, Any]) -> Node:
    fields = _tuples(entry)
    op = fields.pop("op")
    if op not in NODE_TYPES:
        raise ValueError(f"found operator {op!r} in the integer graph, expected one of {', '.join(NODE_TYPES)}")
    return NODE_TYPES[op](**fields)


def check_graph(graph: Graph) -> None:
    """Every tensor is produced once, before its use, with the shape and kind that its operator gives; else ValueError."""
    if sorted(set(graph.group_of_step)) != list(range(graph.groups)):
        raise ValueError(
            f"found step groups {sorted(set(graph.group_of_step))}, expected 0 to {graph.groups - 1}, all used"
        )
    for name, parts in ((graph.input, graph.input_parts), (graph.output, graph.output_parts)):
        if parts not in (1, 2) or (name in graph.tensors and graph.tensors[name].shape[2] % parts):
            raise ValueError(f"found {name!r} in {parts} parts, expected 1, or 2 of an even number of channels")
    known = {graph.input}
    if graph.context is not None:
        if graph.context not in graph.tensors or graph.tensors[graph.context].kind != CODE:
            raise ValueError(f"context {graph.context!r} is no tensor of codes in the graph's list")
        known.add(graph.context)
    for name in graph.constants:
        if name not in graph.tensors or graph.tensors[name].kind != VALUE:
            raise ValueError(f"constant {name!r} is no tensor of values in the graph's list")
        known.add(name)
    for node in graph.nodes:
        missing = [name for name in (*node.inputs, node.name) if name not in graph.tensors]
        if missing:
            raise ValueError(f"{node.name}: tensor {missing[0]!r} is not in the graph's list of tensors")
        unknown = [name for name in node.inputs if name not in known]
        if unknown:
            raise ValueError(f"{node.name}: input {unknown[0]!r} is used before it is computed")
        if node.name in known:
            raise ValueError(f"{node.name}: computed twice")
        known.add(node.name)
        inputs = [graph.tensors[name] for name in node.inputs]
        output = graph.tensors[node.name]
        expected = output_shape(node, inputs, output.shape[2])
        if output.shape != expected:
            raise ValueError(f"{node.name}: found output shape {output.shape}, expected {expected}")
        _check_kinds(node, [tensor.kind for tensor in inputs], output.kind)
    if graph.output not in known:
        raise ValueError(f"output {graph.output!r} is never computed")
    for name, layout, parts in (
        (graph.input, graph.sample_axes, graph.input_parts),
        (graph.output, graph.output_axes, graph.output_parts),
    ):
        if math.prod(shape_of(layout)) * parts != graph.tensors[name].size:
            raise ValueError(
                f"{name}: a layout of {shape_of(layout)} is not {graph.tensors[name].shape} in {parts} parts"
            )


def with_context_tokens(graph: Graph, tokens: int) -> Graph:
    """The graph for a context of another number of tokens: no table depends on it."""
    if graph.context is None or tokens < 1:
        raise ValueError(f"found {tokens} tokens of context, expected at least 1 and a graph that has a context")
    tensors = dict(graph.tensors)
    _, _, channels = tensors[graph.context].shape
    tensors[graph.context] = dataclasses.replace(tensors[graph.context], shape=(tokens, 1, channels))
    for node in graph.nodes:
        shape = output_shape(node, [tensors[name] for name in node.inputs], tensors[node.name].shape[2])
        tensors[node.name] = dataclasses.replace(tensors[node.name], shape=shape)
    return dataclasses.replace(graph, tensors=tensors)


def constant_tensors(graph: Graph) -> frozenset[str]:
    """What is the same in every step of a run as far as the graph says: context, constants, and what is computed from them."""
    constant = {*graph.constants, *((graph.context,) if graph.context else ())}
    for node in graph.nodes:
        by_step = getattr(node, "conditional", False) or getattr(node, "gated", False)
        if constant.issuperset(node.inputs) and not by_step:
            constant.add(node.name)
    return frozenset(constant)


def output_shape(node: Node, inputs: list[Tensor], channels: int) -> tuple[int, int, int]:
    """Shape that ``node`` gives; ``channels`` is what a convolution's weight says. ValueError where inputs do not fit."""
    height, width, depth = inputs[0].shape
    if isinstance(node, Convolution):
        top, bottom, left, right = node.padding
        rows = (height + top + bottom - node.kernel[0]) // node.stride[0] + 1
        columns = (width + left + right - node.kernel[1]) // node.stride[1] + 1
        if rows < 1 or columns < 1:
            raise ValueError(f"{node.name}: a {node.kernel} kernel does not fit an input of {height}x{width}")
        return rows, columns, channels
    if isinstance(node, MatMul):
        return _matmul_shape(node, inputs)
    if isinstance(node, Quantize):
        return height, width, 2 * depth if node.fine else depth
    if isinstance(node, Upsample):
        if not all(0 <= left_out < node.factor for left_out in node.crop):
            raise ValueError(
                f"{node.name}: found a crop of {node.crop}, expected 0 to {node.factor - 1} rows and columns"
            )
        return height * node.factor - node.crop[0], width * node.factor - node.crop[1], depth
    if isinstance(node, AveragePool):
        if node.size > LARGEST_POOL:
            raise ValueError(f"{node.name}: found a pool of {node.size}x{node.size}, expected at most {LARGEST_POOL}")
        return height // node.size, width // node.size, depth
    if isinstance(node, Concat):
        if any(tensor.shape[:2] != (height, width) for tensor in inputs):
            raise ValueError(
                f"{node.name}: found shapes {[t.shape for t in inputs]}, expected equal heights and widths"
            )
        return height, width, sum(tensor.shape[2] for tensor in inputs)
    if any(tensor.shape != inputs[0].shape for tensor in inputs):
        raise ValueError(f"{node.name}: found shapes {[t.shape for t in inputs]}, expected equal ones")
    if isinstance(node, GroupNorm) and depth % node.groups:
        raise ValueError(f"{node.name}: {depth} channels cannot be cut into {node.groups} groups")
    return inputs[0].shape


def _matmul_shape(node: MatMul, inputs: list[Tensor]) -> tuple[int, int, int]:
    left, right = inputs
    tokens, depth, instances = right.shape[0] * right.shape[1], right.shape[2], node.windows * node.heads
    if depth % node.heads:
        raise ValueError(f"{node.name}: {depth} channels cannot be cut into {node.heads} heads")
    if tokens % node.windows:
        raise ValueError(f"{node.name}: {tokens} tokens cannot be cut into {node.windows} windows")
    keys = tokens // node.windows
    if node.scores:
        queries = left.shape[0] * left.shape[1]
        if left.shape[2] != depth:
            raise ValueError(f"{node.name}: Q has {left.shape[2]} channels, K {depth}, expected the same")
        if queries % node.windows:
            raise ValueError(f"{node.name}: {queries} queries cannot be cut into {node.windows} windows")
        return instances, queries // node.windows, keys
    if left.shape[0] != instances or left.shape[2] != keys:
        raise ValueError(f"{node.name}: P has shape {left.shape}, expected ({instances}, queries, {keys})")
    if math.prod(node.image) != node.windows * left.shape[1]:
        raise ValueError(
            f"{node.name}: an image of {node.image} does not hold {node.windows} x {left.shape[1]} queries"
        )
    return *node.image, depth


def _check_kinds(node: Node, inputs: list[str], output: str) -> None:
    linear = isinstance(node, (Convolution, MatMul))
    if linear and set(inputs) != {CODE}:
        raise ValueError(f"{node.name}: found inputs of kind {inputs}, expected codes")
    if isinstance(node, (Quantize, Softmax)) and (inputs, output) != ([VALUE], CODE):
        raise ValueError(f"{node.name}: found {inputs} -> {output}, expected a value -> a code")
    if isinstance(node, (Add, Multiply, GroupNorm, LayerNorm, SiLU, GELU, ReLU, AveragePool)) and {*inputs, output} != {
        VALUE
    }:
        raise ValueError(f"{node.name}: found {inputs} -> {output}, expected values")
    if isinstance(node, (Upsample, Concat)) and {*inputs} != {output}:
        raise ValueError(f"{node.name}: found {inputs} -> {output}, expected one kind")
