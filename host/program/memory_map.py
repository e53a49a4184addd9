"""Where everything lies in device memory: tensors between operations, weights, and what is kept from step to step.

The parts of a concatenation lie side by side, so that concatenating costs nothing, and activations that live at different times
share memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.tensor import Tables
from ...hls.machine.config import HardwareConfig
from ...hls.machine.packing import packed_size
from ..operators.places import Placement, StatePlace
from .homes import Homes
from .operations import Operation
from .static_facts import StaticFacts

ALIGNMENT = 64  # one burst of four 128-bit beats


def align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def place_tensors(
    graph: Graph,
    operations: tuple[Operation, ...],
    homes: Homes,
    batch: int,
    overlaps: dict[int, int],
    facts: StaticFacts,
) -> tuple[dict[str, Placement], int]:
    """Memory of all tensors that exist between operations, for the whole batch."""
    home, widths = homes.buffers, homes.widths
    intervals = _lifetimes(graph, operations, home, overlaps, facts)
    sizes = {
        buffer: batch
        * int(np.prod(graph.tensors[buffer].shape[:2]))
        * widths[buffer]
        * graph.tensors[buffer].dtype.itemsize
        for buffer in intervals
    }
    offsets, total = allocate(intervals, sizes)
    placements = {
        name: Placement(offsets[buffer] + channel * graph.tensors[name].dtype.itemsize, widths[buffer])
        for name, (buffer, channel) in home.items()
        if buffer in offsets
    }
    return placements, total


def _lifetimes(
    graph: Graph,
    operations: tuple[Operation, ...],
    home: Mapping[str, tuple[str, int]],
    overlaps: dict[int, int],
    facts: StaticFacts,
) -> dict[str, tuple[int, int]]:
    """First and last turn in which each buffer holds something; input, output and what never changes live throughout.

    The operand of a convolution that overlaps with the next operation is read until that one ends.
    """
    intervals: dict[str, tuple[int, int]] = {}

    def touch(name: str, time: int) -> None:
        buffer = home[name][0]
        first, last = intervals.get(buffer, (time, time))
        intervals[buffer] = (min(first, time), max(last, time))

    touch(graph.input, -1)
    for operation in operations:
        for source in operation.first.inputs:
            touch(source, operation.turn + (operation.index in overlaps))
        touch(operation.name, operation.turn)
    touch(graph.output, len(operations))
    for name in facts.constant & home.keys():
        touch(name, -1)
        touch(name, len(operations))
    return intervals


def allocate(intervals: dict[str, tuple[int, int]], sizes: dict[str, int]) -> tuple[dict[str, int], int]:
    """Byte offsets such that buffers alive at the same time do not overlap: largest first, at the lowest free place."""
    offsets: dict[str, int] = {}
    total = 0
    for name in sorted(intervals, key=lambda name: (-sizes[name], name)):
        first, last = intervals[name]
        taken = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if intervals[other][0] <= last and first <= intervals[other][1]
        )
        offset = 0
        for start, end in taken:
            if offset + sizes[name] <= start:
                break
            offset = max(offset, align(end))
        offsets[name] = offset
        total = max(total, align(offset + sizes[name]))
    return offsets, total


def place_weights(graph: Graph, tables: Tables, config: HardwareConfig) -> tuple[dict[str, int], int]:
    """Byte offsets of the nodes' weights, and the bytes of all."""
    offsets: dict[str, int] = {}
    size = 0
    for node in graph.linear_nodes:
        weight = node.weights(tables)
        if weight is not None:
            offsets[node.name] = size
            size = align(size + packed_size(config, weight.shape, node.weight_bits))
    return offsets, max(size, ALIGNMENT)


def place_state(graph: Graph, batch: int, facts: StaticFacts) -> tuple[dict[str, StatePlace], int]:
    """Operands are kept twice: one step's is read while the next one's is written, by cores that do not wait for each other.

    A follower's operand is its leader's. A second operand that never changes is not kept.
    """
    places: dict[str, StatePlace] = {}
    size = 0
    for node in graph.linear_nodes:
        if node.name in facts.leaders:
            leader = places[facts.leaders[node.name]]
            operands, spans = list(leader.operands), list(leader.spans)
        else:
            operands, spans = [], []
            for position, source in enumerate(node.inputs):
                operands.append(size)
                is_kept = position == 0 or source not in facts.constant
                spans.append(align(batch * graph.tensors[source].size) if is_kept else 0)
                size += 2 * spans[-1]
        places[node.name] = StatePlace(tuple(operands), tuple(spans), size)
        if node.name not in facts.constant:  # else it never refers to a step before
            size = align(size + 4 * batch * graph.tensors[node.name].size)
    return places, max(size, ALIGNMENT)
