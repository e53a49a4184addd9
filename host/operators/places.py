"""Where a program has put what its operations need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ...hls.contract.tensor import Tensor
from ...hls.machine.plan import Plan

Plans = Mapping[
    str, tuple[Plan, ...]
]  # of each linear node: its product's, and that of an attention product's second half


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies in ACTIVATIONS: byte ``offset`` of its first channel, ``pitch`` elements from pixel to pixel."""

    offset: int
    pitch: int


@dataclass(frozen=True)
class StatePlace:
    """Byte offsets in STATE of a linear node's operands, of which those of two steps are kept, and of its accumulators."""

    operands: tuple[int, ...]
    spans: tuple[int, ...]
    accumulators: int


@dataclass(frozen=True)
class Places:
    """All places of a program, as the samples from ``first_sample`` on see them.

    ``vectors``: byte offsets in PARAMETERS by the name of the table, those of sample 0 where samples have their own,
    ``sample_stride`` bytes apart; ``constant``: names of tensors that never change.
    """

    graph: Graph
    tensors: Mapping[str, Placement]
    weights: Mapping[str, int]
    vectors: Mapping[str, int]
    sample_stride: int
    state: Mapping[str, StatePlace]
    plans: Plans
    constant: frozenset[str]
    first_sample: int = 0

    def tensor(self, tensor: Tensor) -> Placement:
        """Where the samples' part of a tensor lies."""
        placement = self.tensors[tensor.name]
        height, width, _ = tensor.shape
        of_sample = height * width * placement.pitch * tensor.dtype.itemsize
        return Placement(placement.offset + self.first_sample * of_sample, placement.pitch)

    def vector(self, table: str, per_sample: bool) -> int:
        """Byte offset in PARAMETERS of a vector."""
        return self.vectors[table] + (self.first_sample * self.sample_stride if per_sample else 0)

    def kept_operand(self, node: Node, position: int) -> tuple[int, int]:
        """Byte offset in STATE of a linear node's operand of even steps, and the bytes from it to that of odd steps."""
        place, source = self.state[node.name], self.graph.tensors[node.inputs[position]]
        return place.operands[position] + self.first_sample * source.size, place.spans[position]

    def accumulators(self, node: Node) -> int:
        """Byte offset in STATE of a linear node's sums."""
        return self.state[node.name].accumulators + 4 * self.first_sample * self.graph.tensors[node.name].size
