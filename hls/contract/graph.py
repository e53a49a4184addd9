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
from typing import Annotated, Any, Union

import numpy as np

from ..common.limits import LARGEST_DIMENSION, LARGEST_TAP, MOST_ELEMENTS, MOST_LABELS, MOST_NODES, MOST_STEPS
from ..common.schema import Length, Name, OneOf, Range, Text, check, show
from .arithmetic import decode_codes, decode_output, encode_input
from .layout import Layout, check_layout, from_stored, sample_layout, shape_of, to_stored
from .tables import SILU_FRACTION_BITS

CODE, VALUE = "code", "value"
DTYPES: dict[str, np.dtype[Any]] = {CODE: np.dtype(np.int8), VALUE: np.dtype(np.int16)}
Tables = Mapping[str, np.ndarray]
LARGEST_POOL = 32  # sums of 32 x 32 values have 26 bits
Size = Annotated[int, Range(1, LARGEST_DIMENSION)]
Tap = Annotated[int, Range(1, LARGEST_TAP)]
Pad = Annotated[int, Range(0, LARGEST_TAP)]
FractionBits = Annotated[int, Range(1, SILU_FRACTION_BITS)]
Parts = Annotated[int, Range(1, 2)]
Shape = tuple[Size, Size, Size]
MOST_TENSORS = 2 * MOST_NODES  # every node has one; the others are inputs and constants


@dataclass(frozen=True)
class Tensor:
    """One edge of the graph: ``kind`` is "code" (int8) or "value" (int16), ``shape`` (height, width, channels)."""

    name: Name
    kind: Annotated[str, OneOf((CODE, VALUE))]
    shape: Shape

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

    name: Name
    module: Text
    inputs: tuple[Name, ...]


@dataclass(frozen=True)
class Convolution(Node):
    """Convolution, or fully connected layer where ``kernel`` is (1, 1). Tables: weight, bias, multiplier, shift."""

    kernel: tuple[Tap, Tap] = (1, 1)
    stride: tuple[Tap, Tap] = (1, 1)
    padding: tuple[Pad, Pad, Pad, Pad] = (0, 0, 0, 0)  # top, bottom, left, right; padded with code 0
    conditional: bool = False  # the bias is [steps, labels, channels]
    relu: bool = False  # the result is saturated at 0 too
    gated: bool = False  # the multiplier is [steps, labels, channels] (adaLN-Zero: Peebles & Xie 2023, section 3.2)


@dataclass(frozen=True)
class MatMul(Node):
    """Attention product per head. Tables: multiplier, shift.

    ``scores``: inputs Q, K of (tokens, channels) -> (windows * heads, queries, keys);
    otherwise inputs P of (windows * heads, queries, keys), a Softmax's, and V -> the (height, width) of the queries' image x
    channels: means of V weighted with P, each divided by the sum of its row of P.

    Tokens come in ``windows``, each of which attends to itself alone: token t of window i is pixel ``i * tokens + t``, or, if
    ``interleaved``, ``t * windows + i`` (of stored frames the first is attention within, the second between frames).
    """

    heads: Size = 1
    scores: bool = True
    image: tuple[Size, Size] = (1, 1)
    windows: Size = 1
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

    groups: Size = 1
    conditional: bool = False  # gain and offset are [steps, labels, channels]


@dataclass(frozen=True)
class LayerNorm(Node):
    """Normalization of the channels of every pixel or token. Tables as GroupNorm."""

    conditional: bool = False


@dataclass(frozen=True)
class SiLU(Node):
    """x * sigmoid(x); input and output have the scale 2**-fraction_bits."""

    fraction_bits: FractionBits = 11


@dataclass(frozen=True)
class GELU(Node):
    """x * Phi(x), Phi the normal distribution; input and output have the scale 2**-fraction_bits."""

    fraction_bits: FractionBits = 11


@dataclass(frozen=True)
class ReLU(Node):
    """max(x, 0); input and output have the same scale."""


@dataclass(frozen=True)
class Softmax(Node):
    """Softmax over the last axis, value -> code in 0..127, 127 the largest of its row. Tables: multiplier, shift."""


@dataclass(frozen=True)
class Upsample(Node):
    """Nearest-neighbour upsampling of codes or values by an integer factor, 1 for a copy; then the last ``crop`` rows and
    columns, fewer than the factor, are left out."""

    factor: Tap = 2
    crop: tuple[Pad, Pad] = (0, 0)


@dataclass(frozen=True)
class AveragePool(Node):
    """Mean over windows of ``size`` x ``size``, stride ``size``. Tables: multiplier, shift."""

    size: Annotated[int, Range(1, LARGEST_POOL)] = 2


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
    ``context`` is a second input, codes that stay the same for all steps of a run (a prompt's tokens), with one scale and one
    part or two (:meth:`encode_context`).
    ``constants`` are values that are the same in all runs (position embeddings): tables "<name>.value", int16.
    ``input_layout`` and ``output_layout`` say how the host's sample and the model's output are stored (default: images).
    """

    tensors: Annotated[Mapping[Name, Tensor], Length(1, MOST_TENSORS)]
    nodes: Annotated[tuple[Node, ...], Length(1, MOST_NODES)]
    input: Name
    output: Name
    group_of_step: Annotated[tuple[Annotated[int, Range(0, MOST_STEPS)], ...], Length(1, MOST_STEPS)]
    labels: Annotated[int, Range(1, MOST_LABELS)] = 1
    input_parts: Parts = 1
    output_parts: Parts = 1
    context: Name | None = None
    context_parts: Parts = 1
    constants: tuple[Name, ...] = ()
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
    def context_shape(self) -> tuple[int, int] | None:
        """(tokens, channels) of a context as the host has it; None for a model without one."""
        if self.context is None:
            return None
        height, width, channels = self.tensors[self.context].shape
        return height * width, channels // self.context_parts

    def encode_context(self, context: np.ndarray, scale: float) -> np.ndarray:
        """A context float64 [B, tokens, channels] -> its codes int8 [B, *shape of the graph's context]."""
        assert self.context is not None
        codes = encode_input(np.asarray(context, np.float64)[:, :, None], scale, self.context_parts)
        return codes.reshape(len(codes), *self.tensors[self.context].shape)

    def decode_context(self, codes: np.ndarray, scale: float) -> np.ndarray:
        """What the codes [B, ..., C] of a context stand for: float64 [B, tokens, channels]."""
        values = decode_codes(codes, scale, self.context_parts)
        return values.reshape(len(values), -1, values.shape[-1])

    @property
    def steps(self) -> int:
        return len(self.group_of_step)

    @property
    def groups(self) -> int:
        return max(self.group_of_step) + 1

    @property
    def linear_nodes(self) -> tuple[LinearNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, (Convolution, MatMul)))


def check_graph(graph: Graph) -> None:
    """Every field is what its annotation says, and :func:`check_structure`; else ValueError."""
    check(graph, "the integer graph")
    check_structure(graph)


def check_structure(graph: Graph) -> None:
    """Every tensor is there from the start or produced once, before its use, with the shape and kind that its operator gives;
    else ValueError. Of a graph whose fields are what their annotations say."""
    if sorted(set(graph.group_of_step)) != list(range(graph.groups)):
        raise ValueError(
            f"found step groups {show(sorted(set(graph.group_of_step)))}, expected 0 to {graph.groups - 1}, all used"
        )
    known = _given_tensors(graph)
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
        _check_node(node, [graph.tensors[name] for name in node.inputs], graph.tensors[node.name])
    if graph.output not in {node.name for node in graph.nodes}:
        raise ValueError(f"output {graph.output!r} is never computed")
    _check_concatenations(graph)
    for name, tensor in graph.tensors.items():
        if name not in known or name != tensor.name:
            raise ValueError(f"tensor {name!r} of the graph's list is neither given nor computed")
        if tensor.size > MOST_ELEMENTS:
            raise ValueError(f"{name}: found {tensor.size} elements, expected at most {MOST_ELEMENTS}")
    for name, layout, parts in (
        (graph.input, graph.sample_axes, graph.input_parts),
        (graph.output, graph.output_axes, graph.output_parts),
    ):
        height, width, channels = graph.tensors[name].shape
        if channels % parts:
            raise ValueError(f"found {name!r} in {parts} parts, expected 1, or 2 of an even number of channels")
        check_layout(layout, (height, width, channels // parts), name)
    if graph.context_parts == 2 and (graph.context is None or graph.tensors[graph.context].shape[2] % 2):
        raise ValueError("found a context in 2 parts, expected 1, or 2 of an even number of channels")


def _given_tensors(graph: Graph) -> set[str]:
    """Names of what is there before a step: the input, the context, the constants."""
    known: set[str] = set()
    given = [("input", graph.input, CODE), *(("constant", name, VALUE) for name in graph.constants)]
    given += [] if graph.context is None else [("context", graph.context, CODE)]
    for what, name, kind in given:
        if name not in graph.tensors or graph.tensors[name].kind != kind:
            raise ValueError(f"{what} {name!r} is no tensor of {kind}s in the graph's list")
        if name in known:
            raise ValueError(f"{what} {name!r} is given twice")
        known.add(name)
    return known


def _check_node(node: Node, inputs: list[Tensor], output: Tensor) -> None:
    count = 2 if isinstance(node, (MatMul, Add, Multiply)) else 1
    if len(inputs) < count or (len(inputs) > count and not isinstance(node, Concat)):
        expected = f"{'at least ' if isinstance(node, Concat) else ''}{count}"
        raise ValueError(f"{node.name}: found {len(inputs)} inputs of a {type(node).__name__}, expected {expected}")
    shape = output_shape(node, inputs, output.shape[2])
    if output.shape != shape:
        raise ValueError(f"{node.name}: found output shape {output.shape}, expected {shape}")
    _check_kinds(node, [tensor.kind for tensor in inputs], output.kind)


def _check_concatenations(graph: Graph) -> None:
    """ValueError for a part of a concatenation that is not stored in it alone: only what an operator computes can be."""
    parts: set[str] = set()
    stored = {node.name for node in graph.nodes if not isinstance(node, Concat)}
    for node in graph.nodes:
        if isinstance(node, Concat):
            for name in node.inputs:
                if name in parts or name not in stored:
                    raise ValueError(
                        f"{node.name}: found {name!r} as a part, expected a result that is part of nothing else"
                    )
                parts.add(name)


def with_context_tokens(graph: Graph, tokens: int) -> Graph:
    """The graph for a context of another number of tokens: no table depends on it. ValueError for more than tensors may hold."""
    if graph.context is None or tokens < 1:
        raise ValueError(f"found {tokens} tokens of context, expected at least 1 and a graph that has a context")
    tensors = dict(graph.tensors)
    _, _, channels = tensors[graph.context].shape
    tensors[graph.context] = dataclasses.replace(tensors[graph.context], shape=(tokens, 1, channels))
    for node in graph.nodes:
        shape = output_shape(node, [tensors[name] for name in node.inputs], tensors[node.name].shape[2])
        tensors[node.name] = dataclasses.replace(tensors[node.name], shape=shape)
    result = dataclasses.replace(graph, tensors=tensors)
    check_graph(result)
    return result


def constant_tensors(graph: Graph, varying: frozenset[str] = frozenset()) -> frozenset[str]:
    """What is the same in every step of a run as far as the graph says: context, constants, and what is computed from them by
    nodes that are not among the ``varying`` ones."""
    constant = {*graph.constants, *((graph.context,) if graph.context else ())}
    for node in graph.nodes:
        by_step = getattr(node, "conditional", False) or getattr(node, "gated", False)
        if constant.issuperset(node.inputs) and not by_step and node.name not in varying:
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
        return height // node.size, width // node.size, depth
    if isinstance(node, Concat):
        if any(tensor.shape[:2] != (height, width) for tensor in inputs):
            raise ValueError(
                f"{node.name}: found shapes {show([t.shape for t in inputs])}, expected equal heights and widths"
            )
        return height, width, sum(tensor.shape[2] for tensor in inputs)
    if any(tensor.shape != inputs[0].shape for tensor in inputs):
        raise ValueError(f"{node.name}: found shapes {show([t.shape for t in inputs])}, expected equal ones")
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
        raise ValueError(f"{node.name}: found {show(inputs)} -> {output}, expected one kind")
