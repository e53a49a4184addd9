"""From an integer graph to a program: descriptors, a memory map and per-step parameter blocks."""

from __future__ import annotations

import bisect
import dataclasses
from dataclasses import dataclass

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import LinearNode
from ...hls.contract.tensor import Tables
from ...hls.machine.config import HardwareConfig, find_board
from ...hls.machine.isa import COUNTER_NAMES, COUNTERS, DESCRIPTOR, Region
from ...hls.machine.packing import pack_weights
from ..common.arguments import check_memory, integer
from ..common.limits import MOST_SAMPLES
from ..operators.places import Placement, Places
from .descriptors import DescriptorEncoder
from .homes import find_homes
from .memory_map import ALIGNMENT, place_state, place_tensors, place_weights
from .operations import Operation, arrange, check_rows, fuse, overlapping
from .parameters import ParameterLayout
from .static_facts import StaticFacts, analyse

ADDRESSABLE = 1 << 32  # bytes of a region: offsets have 32 bits


class DoesNotFit(ValueError):
    """The program needs more memory than the board has; the message has the numbers."""


@dataclass(frozen=True)
class Program:
    """A model compiled for a configuration and a batch.

    ``parameters`` builds the block that the host streams before each step; ``sizes`` are the bytes of each region; ``facts`` is
    what is known of differences before anything runs.
    """

    graph: Graph
    config: HardwareConfig
    batch: int
    operations: tuple[Operation, ...]
    descriptors: np.ndarray
    weights: np.ndarray
    parameters: ParameterLayout
    placements: dict[str, Placement]
    sizes: dict[Region, int]
    facts: StaticFacts

    @property
    def memory_bytes(self) -> int:
        """The bytes of all regions, with a second parameter block: the host fills one while the accelerator reads the other."""
        return sum(self.sizes.values()) + self.sizes[Region.PARAMETERS]

    @property
    def leaders(self) -> np.ndarray:
        """Index of the operation whose entry of Defo's table each operation shares, int64 [operations]."""
        return self.descriptors["leader"].astype(np.int64)

    @property
    def layers(self) -> tuple[Operation, ...]:
        """The operations of a step, each once: those of the batch's first samples."""
        first = [operation for operation in self.operations if operation.first_sample == 0]
        return tuple(sorted(first, key=lambda operation: operation.layer))

    def by_layer(self, records: np.ndarray) -> np.ndarray:
        """Counter records [..., operations] summed over the parts of a batch, [..., layers]. Defo's table is that of leaders."""
        result = records[..., [operation.index for operation in self.layers]].copy()
        for operation in self.operations:
            if operation.first_sample:
                for name in COUNTER_NAMES:
                    result[name][..., operation.layer] += records[name][..., operation.index]
        return result

    def operation_of(self, node_name: str) -> Operation:
        return next(op for op in self.operations if any(node.name == node_name for node in op.nodes))


def compile_program(
    graph: Graph,
    tables: Tables,
    config: HardwareConfig,
    batch: int,
    memory_mib: int | None = None,
    history: bool = True,
) -> Program:
    """Compile for ``batch`` samples in lockstep; without ``history`` for flows that keep nothing, which need less memory.

    Raises DoesNotFit where the board's contiguous memory is too small: ``memory_mib``, by default what PYNQ reserves (its boot
    parameter ``cma=`` can be raised to nearly all that there is). Or where a region is larger than descriptors can address.
    """
    available = (check_memory(memory_mib) or find_board(config.board).cma_mib) << 20
    program = lay_out(graph, tables, config, batch, history)
    needed = program.memory_bytes
    if needed > available:
        fitting = bisect.bisect_right(
            range(1, batch),
            available,
            key=lambda less: lay_out(graph, tables, config, less, history).memory_bytes,
        )
        raise DoesNotFit(
            f"a batch of {batch} needs {needed / 2**20:.0f} MiB, but {config.board} has {available >> 20} MiB of "
            "contiguous memory"
            + (f"; use a batch of at most {fitting}" if fitting else "; use another board, or reserve more")
        )
    for region, size in program.sizes.items():
        if size > ADDRESSABLE:
            raise DoesNotFit(
                f"a batch of {batch} needs {size / 2**30:.1f} GiB of {region.name}, but descriptors address {ADDRESSABLE >> 30}; "
                "use a smaller batch"
                + (", or a flow that keeps nothing (original, spatial)" if region == Region.STATE else "")
            )
    return dataclasses.replace(program, weights=_pack_weights(program, tables))


def lay_out(graph: Graph, tables: Tables, config: HardwareConfig, batch: int, history: bool = True) -> Program:
    """The program without its packed weights, for the cost models: of the weights only the shapes are looked at."""
    batch = integer("a batch of", batch)
    if not 1 <= batch <= MOST_SAMPLES:
        raise ValueError(f"found a batch of {batch}, expected at least 1 and at most {MOST_SAMPLES}")
    layers, facts = fuse(graph), analyse(graph, tables)
    check_rows(graph, layers, config)
    homes = find_homes(graph, [layer.name for layer in layers])
    operations, plans = arrange(graph, config, layers, homes, batch)
    in_parts = any(operation.first_sample for operation in operations)
    overlaps = {} if in_parts else overlapping(graph, operations, config, facts)
    placements, activations = place_tensors(graph, operations, homes, batch, overlaps, facts)
    weight_offsets, weights = place_weights(graph, tables, config)
    parameters = ParameterLayout.build(graph, tables, operations, batch, facts)
    state, state_size = place_state(graph, batch, facts)
    sizes = {
        Region.PROGRAM: len(operations) * DESCRIPTOR.itemsize,
        Region.WEIGHTS: weights,
        Region.PARAMETERS: parameters.size,
        Region.ACTIVATIONS: activations,
        Region.STATE: state_size if history else ALIGNMENT,
        Region.COUNTERS: len(operations) * COUNTERS.itemsize,
    }
    places = Places(
        graph,
        placements,
        weight_offsets,
        parameters.vectors,
        parameters.sample_stride,
        state,
        plans,
        constant=facts.constant,
    )
    encoder = DescriptorEncoder(places, operations, facts, overlaps)
    descriptors = np.zeros(len(operations), DESCRIPTOR)
    for operation in operations:
        descriptors[operation.index] = encoder.encode(operation)
    nothing = np.zeros(0, np.uint8)
    return Program(graph, config, batch, operations, descriptors, nothing, parameters, placements, sizes, facts)


def _pack_weights(program: Program, tables: Tables) -> np.ndarray:
    packed = np.zeros(program.sizes[Region.WEIGHTS], np.uint8)
    for operation in program.operations:
        node = operation.first
        weight = node.weights(tables) if isinstance(node, LinearNode) else None
        if isinstance(node, LinearNode) and weight is not None:
            descriptor = program.descriptors[operation.index]
            raw = pack_weights(program.config, weight, int(descriptor["chunk_channels"]), node.weight_bits)
            offset = int(descriptor["weights"])
            packed[offset : offset + raw.size] = raw
    return packed
