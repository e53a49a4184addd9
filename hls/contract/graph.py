"""The integer graph: what a quantized model computes. Its nodes are :mod:`.operators`, its edges :mod:`.tensor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..common.limits import MOST_ELEMENTS, MOST_LABELS, MOST_NODES, MOST_STEPS
from ..common.schema import Length, Name, Range, check, show
from .arithmetic import decode_codes, decode_output, encode_input
from .layout import Layout, check_layout, from_stored, sample_layout, shape_of, to_stored
from .operators import LinearNode, Node, TableAxes
from .tensor import CODE, VALUE, Tensor

Parts = Annotated[int, Range(1, 2)]
MOST_TENSORS = 2 * MOST_NODES  # every node has one; the others are inputs and constants


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
        """The layout of the sample that the host denoises."""
        height, width, channels = self.tensors[self.input].shape
        return self.input_layout or sample_layout((height, width, channels // self.input_parts))

    @property
    def output_axes(self) -> Layout:
        """The layout of the model's output."""
        height, width, channels = self.tensors[self.output].shape
        return self.output_layout or sample_layout((height, width, channels // self.output_parts))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of the sample that the host denoises: (channels, height, width), or (channels, frames, height, width)."""
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
    def table_axes(self) -> TableAxes:
        """What its tables depend on."""
        return TableAxes(self.groups, self.steps, self.labels)

    @property
    def linear_nodes(self) -> tuple[LinearNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, LinearNode))


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
        node.check([graph.tensors[name] for name in node.inputs], graph.tensors[node.name])
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


def _check_concatenations(graph: Graph) -> None:
    """ValueError for a part of a concatenation that is not stored in it alone: only what an operator computes can be."""
    parts: set[str] = set()
    stored = {node.name for node in graph.nodes if node.is_stored}
    for node in graph.nodes:
        if not node.is_stored:
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
        shape = node.output_shape([tensors[name] for name in node.inputs], tensors[node.name].shape[2])
        tensors[node.name] = dataclasses.replace(tensors[node.name], shape=shape)
    result = dataclasses.replace(graph, tensors=tensors)
    check_graph(result)
    return result


def constant_tensors(graph: Graph, varying: frozenset[str] = frozenset()) -> frozenset[str]:
    """What is the same in every step of a run as far as the graph says: context, constants, and what is computed from them by
    nodes that are not among the ``varying`` ones."""
    constant = {*graph.constants, *((graph.context,) if graph.context else ())}
    for node in graph.nodes:
        if constant.issuperset(node.inputs) and not node.depends_on_step and node.name not in varying:
            constant.add(node.name)
    return frozenset(constant)
