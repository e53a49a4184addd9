"""From an integer graph to a program: descriptors, a memory map and per-step parameter blocks.

The compiler fuses activations and quantizers into the vector operation before them, places the parts of a concatenation side by
side so that concatenating costs nothing, and gives activations that live at different times the same memory.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..hls.config import HardwareConfig, find_board
from ..hls.graph import (
    CODE,
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    Graph,
    GroupNorm,
    LayerNorm,
    MatMul,
    Node,
    Quantize,
    ReLU,
    SiLU,
    Softmax,
    Tables,
    Tensor,
    Upsample,
)
from ..hls.isa import COUNTER_NAMES, COUNTERS, DESCRIPTOR, SCALARS, Flag, Opcode, Reference, Region
from ..hls.packing import pack_weights, packed_size
from ..hls.plan import CannotPlan, Plan, ProductShape, estimated_cycles, plan_product
from ..hls.spatial import Chains, chains_of
from .flow import StaticFlow, analyse
from .turns import take_turns

ACTIVATIONS: dict[type[Node], Flag] = {SiLU: Flag.SILU, GELU: Flag.GELU, ReLU: Flag.RELU}
ALIGNMENT = 64  # one burst of four 128-bit beats


class DoesNotFit(ValueError):
    """The program needs more memory than the board has; the message has the numbers."""


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies in ACTIVATIONS: byte ``offset`` of its first channel, ``pitch`` elements from pixel to pixel."""

    offset: int
    pitch: int


@dataclass(frozen=True)
class Operation:
    """One descriptor: the graph nodes that it runs, of which the last one names its result, for some samples of the batch.

    ``index`` of the descriptor, ``layer`` of the operation in a step, ``turn`` in which it runs; ``paired``: with the next one.
    """

    nodes: tuple[Node, ...]
    index: int
    layer: int
    first_sample: int = 0
    samples: int = 0
    turn: int = 0
    paired: bool = False

    @property
    def name(self) -> str:
        return self.nodes[-1].name

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def is_linear(self) -> bool:
        return isinstance(self.first, (Convolution, MatMul))


@dataclass(frozen=True)
class Program:
    """A model compiled for a configuration and a batch.

    ``parameters`` builds the block that the host streams before each step; ``sizes`` are the bytes of each region; ``flow`` is
    what of the execution flow is known before anything runs.
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
    flow: StaticFlow

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


def compile_program(graph: Graph, tables: Tables, config: HardwareConfig, batch: int) -> Program:
    """Compile for ``batch`` samples in lockstep. Raises DoesNotFit where the board's contiguous memory is too small."""
    program = lay_out(graph, tables, config, batch)
    sizes, available = program.sizes, find_board(config.board).cma_mib << 20
    if sum(sizes.values()) > available:
        fitting = bisect.bisect_right(
            range(1, batch),
            available,
            key=lambda less: sum(lay_out(graph, tables, config, less).sizes.values()),
        )
        raise DoesNotFit(
            f"a batch of {batch} needs {sum(sizes.values()) / 2**20:.0f} MiB, but {config.board} has {available >> 20} MiB of "
            "contiguous memory" + (f"; use a batch of at most {fitting}" if fitting else "; use another board")
        )
    return dataclasses.replace(program, weights=_pack_weights(program, tables))


def lay_out(graph: Graph, tables: Tables, config: HardwareConfig, batch: int) -> Program:
    """The program without its packed weights, for the cost models: nothing of the tables is read but their shapes."""
    if batch < 1:
        raise ValueError(f"found a batch of {batch}, expected at least 1")
    layers, flow = fuse(graph), analyse(graph, tables)
    _check_rows(graph, layers, config)
    homes = find_homes(graph, layers)
    operations, plans = arrange(graph, config, layers, homes, batch)
    in_parts = any(operation.first_sample for operation in operations)
    overlaps = {} if in_parts else overlapping(graph, operations, config, flow)
    placements, activations = place_tensors(graph, operations, homes, batch, overlaps, flow)
    weight_offsets, weights = _place_weights(graph, tables, config)
    parameters = ParameterLayout.build(graph, tables, operations, batch, flow)
    state, state_size = _place_state(graph, batch, flow)
    sizes = {
        Region.PROGRAM: len(operations) * DESCRIPTOR.itemsize,
        Region.WEIGHTS: weights,
        Region.PARAMETERS: parameters.size,
        Region.ACTIVATIONS: activations,
        Region.STATE: state_size,
        Region.COUNTERS: len(operations) * COUNTERS.itemsize,
    }
    descriptors = np.zeros(len(operations), DESCRIPTOR)
    encoder = _Encoder(graph, placements, weight_offsets, parameters, state, plans, operations, flow)
    for operation in operations:
        encoder.encode(operation, descriptors[operation.index])
        descriptors[operation.index]["channel_groups"] = overlaps.get(operation.index, 0)
    nothing = np.zeros(0, np.uint8)
    return Program(graph, config, batch, operations, descriptors, nothing, parameters, placements, sizes, flow)


Plans = Mapping[str, tuple[Plan, ...]]


def arrange(
    graph: Graph, config: HardwareConfig, layers: tuple[Operation, ...], homes: Homes, batch: int
) -> tuple[tuple[Operation, ...], Plans]:
    """The operations of a whole batch one after the other, or of its halves in turns if that is estimated to take less time."""
    whole = _plan(graph, config, homes, batch)
    one_by_one = tuple(dataclasses.replace(layer, samples=batch, turn=layer.index) for layer in layers)
    if batch == 1 or config.batch_parts == 1:
        return one_by_one, whole
    half = -(-batch // 2)
    plans = _plan(graph, config, homes, half)
    alone = sum(_estimated_cycles(graph, config, layer, whole, homes, batch) for layer in layers)
    cycles = [_estimated_cycles(graph, config, layer, plans, homes, half) for layer in layers]
    turns, together = take_turns(cycles, [layer.is_linear for layer in layers])
    if together >= alone:
        return one_by_one, whole
    operations: list[Operation] = []
    for turn, units in enumerate(turns):
        work = [unit for unit in (units.linear, units.vector) if unit is not None]
        for position, (layer, part) in enumerate(work):
            first, samples = (half, batch - half) if part else (0, half)
            paired = position == 0 and len(work) == 2
            operations.append(Operation(layers[layer].nodes, len(operations), layer, first, samples, turn, paired))
    return tuple(operations), plans


def _plan(graph: Graph, config: HardwareConfig, homes: Homes, samples: int) -> Plans:
    return {
        node.name: tuple(
            plan_product(config, shape, node.name) for shape in _product_shapes(graph, node, homes, samples)
        )
        for node in graph.linear_nodes
    }


def _estimated_cycles(
    graph: Graph, config: HardwareConfig, layer: Operation, plans: Plans, homes: Homes, samples: int
) -> float:
    """Roughly, to order operations by: of a vector operation the beats that it reads, or its passes."""
    node = layer.first
    if isinstance(node, (Convolution, MatMul)):
        shape, plan = _product_shapes(graph, node, homes, samples)[0], plans[node.name][0]
        instances = 1 if isinstance(node, Convolution) else samples * node.heads
        return instances * estimated_cycles(config, shape, plan)
    read = sum(graph.tensors[name].size * graph.tensors[name].dtype.itemsize for name in node.inputs)
    result = graph.tensors[layer.name]
    passes = {GroupNorm: 2, LayerNorm: 2, Softmax: 3}.get(type(node), 1)
    return samples * max(passes * read, result.size * result.dtype.itemsize) / config.bus_bytes


def _check_rows(graph: Graph, operations: tuple[Operation, ...], config: HardwareConfig) -> None:
    """CannotPlan where a pixel of a vector operation, or a row of softmax, does not fit the vector unit's row buffer."""
    for operation in operations:
        if isinstance(operation.first, (Convolution, MatMul)):
            continue
        for name in operation.first.inputs:
            needed = graph.tensors[name].shape[2] * 2
            if needed > config.row_bytes:
                raise CannotPlan(
                    f"{operation.name}: {name} has rows of {needed} bytes, but {config.board} has row_bytes = "
                    f"{config.row_bytes}; use a configuration with larger buffers"
                )


def fuse(graph: Graph) -> tuple[Operation, ...]:
    """Nodes of the graph as operations: activations and quantizers join the vector operation that only they read."""
    readers: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for source in node.inputs:
            readers[source] = readers.get(source, 0) + 1
    chains: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node, Concat):
            continue
        source = node.inputs[0]
        open_chain = chains.get(source)
        if open_chain and readers[source] == 1 and _may_follow(open_chain, node):
            chains[node.name] = [*chains.pop(source), node]
        else:
            chains[node.name] = [node]
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    sorted_chains = sorted(chains.values(), key=lambda chain: order[chain[0].name])
    return tuple(Operation(tuple(chain), index, index) for index, chain in enumerate(sorted_chains))


def _may_follow(chain: list[Node], node: Node) -> bool:
    if type(node) in ACTIVATIONS:
        return isinstance(chain[-1], (GroupNorm, LayerNorm))
    return isinstance(node, Quantize) and isinstance(chain[-1], (GroupNorm, LayerNorm, *ACTIVATIONS))


def overlapping(
    graph: Graph, operations: tuple[Operation, ...], config: HardwareConfig, flow: StaticFlow
) -> dict[int, int]:
    """Convolutions that the GroupNorm after them follows group by group: index of the operation -> channel groups (2 or more).

    A channel group is a whole number of output-channel tiles and of normalization groups.
    """
    result = {}
    for operation, following in itertools.pairwise(operations):
        node, norm = operation.first, following.first
        if not (isinstance(node, Convolution) and isinstance(norm, GroupNorm) and norm.inputs[0] == node.name):
            continue
        if node.name in flow.constant:
            continue
        channels = graph.tensors[node.name].shape[2]
        whole = [
            parts
            for parts in range(2, config.channel_groups + 1)
            if channels % (parts * config.oc_tile) == 0 and norm.groups % parts == 0
        ]
        if whole:
            result[operation.index] = whole[-1]
    return result


@dataclass(frozen=True)
class Homes:
    """Of each tensor in memory its buffer and first channel there, and the channels of each buffer."""

    buffers: Mapping[str, tuple[str, int]]
    widths: Mapping[str, int]

    def pitch(self, name: str) -> int:
        """Elements from pixel to pixel."""
        return self.widths[self.buffers[name][0]]


def find_homes(graph: Graph, layers: tuple[Operation, ...]) -> Homes:
    """Parts of a concatenation become slices of its buffer."""
    stored = {graph.input} | {operation.name for operation in layers}
    stored |= {graph.context} if graph.context else set()
    home = {name: (name, 0) for name in stored}
    widths = {name: graph.tensors[name].shape[2] for name in stored}
    for node in graph.nodes:
        if isinstance(node, Concat):
            home[node.name] = (node.name, 0)
            widths[node.name] = graph.tensors[node.name].shape[2]
            channel = 0
            for source in node.inputs:
                if home[source] != (source, 0):
                    raise ValueError(f"{node.name}: {source} is part of two concatenations, which is not supported")
                home[source] = (node.name, channel)
                channel += graph.tensors[source].shape[2]
    return Homes(home, widths)


def place_tensors(
    graph: Graph,
    operations: tuple[Operation, ...],
    homes: Homes,
    batch: int,
    overlaps: dict[int, int],
    flow: StaticFlow,
) -> tuple[dict[str, Placement], int]:
    """Memory of all tensors that exist between operations, for the whole batch."""
    home, widths = homes.buffers, homes.widths
    intervals = _lifetimes(graph, operations, home, overlaps, flow)
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
    graph: Graph, operations: tuple[Operation, ...], home: Mapping[str, tuple[str, int]], overlaps: dict[int, int],
    flow: StaticFlow,
) -> dict[str, tuple[int, int]]:  # fmt: skip
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
    for name in flow.constant & home.keys():
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


def align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _product_shapes(graph: Graph, node: Convolution | MatMul, homes: Homes, batch: int) -> tuple[ProductShape, ...]:
    """What a linear node multiplies: one product, or the two of an attention product with differences, per sample and head."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.name]
    if isinstance(node, Convolution):
        dense = homes.pitch(source.name) == source.shape[2]
        extra = _chains(graph, node).extra_columns
        return (
            ProductShape(
                batch, *source.shape, *output.shape, node.kernel, node.stride[0], dense=dense, extra_columns=extra
            ),
        )
    if node.scores:
        queries, keys = output.shape[1:]
        depth = source.shape[2] // node.heads
        return (
            ProductShape(1, queries, 1, depth, queries, 1, keys, staged=True),
            ProductShape(1, keys, 1, depth, keys, 1, queries, staged=True),
        )
    queries, keys = source.shape[1:]
    depth = output.shape[2] // node.heads
    return (
        ProductShape(1, queries, 1, keys, queries, 1, depth),
        ProductShape(1, depth, 1, keys, depth, 1, queries, staged=True, gathered=True),
    )


def _chains(graph: Graph, node: Convolution) -> Chains:
    width, output_width = graph.tensors[node.inputs[0]].shape[1], graph.tensors[node.name].shape[1]
    return chains_of(node.kernel, node.stride, node.padding, width, output_width)


def _place_weights(graph: Graph, tables: Tables, config: HardwareConfig) -> tuple[dict[str, int], int]:
    """Byte offsets of the convolutions' weights, and the bytes of all."""
    offsets: dict[str, int] = {}
    size = 0
    for node in graph.nodes:
        if isinstance(node, Convolution):
            offsets[node.name] = size
            size = align(size + packed_size(config, tables[f"{node.name}.weight"].shape))
    return offsets, max(size, ALIGNMENT)


def _pack_weights(program: Program, tables: Tables) -> np.ndarray:
    packed = np.zeros(program.sizes[Region.WEIGHTS], np.uint8)
    for operation in program.operations:
        if isinstance(operation.first, Convolution):
            descriptor = program.descriptors[operation.index]
            weight = tables[f"{operation.first.name}.weight"]
            raw = pack_weights(program.config, weight, int(descriptor["chunk_channels"])).view(np.uint8)
            offset = int(descriptor["weights"])
            packed[offset : offset + raw.size] = raw
    return packed


@dataclass(frozen=True)
class StatePlace:
    """Byte offsets in STATE of a linear node's operands, of which those of two steps are kept, and of its accumulators."""

    operands: tuple[int, ...]
    spans: tuple[int, ...]
    accumulators: int


def _place_state(graph: Graph, batch: int, flow: StaticFlow) -> tuple[dict[str, StatePlace], int]:
    """Operands are kept twice: one step's is read while the next one's is written, by cores that do not wait for each other.

    A follower's operand is its leader's. A second operand that never changes is not kept.
    """
    places: dict[str, StatePlace] = {}
    size = 0
    for node in graph.linear_nodes:
        if node.name in flow.leaders:
            leader = places[flow.leaders[node.name]]
            operands, spans = list(leader.operands), list(leader.spans)
        else:
            operands, spans = [], []
            for position, source in enumerate(node.inputs):
                operands.append(size)
                is_kept = position == 0 or source not in flow.constant
                spans.append(align(batch * graph.tensors[source].size) if is_kept else 0)
                size += 2 * spans[-1]
        places[node.name] = StatePlace(tuple(operands), tuple(spans), size)
        if node.name not in flow.constant:  # else it never refers to a step before
            size = align(size + 4 * batch * graph.tensors[node.name].size)
    return places, max(size, ALIGNMENT)


@dataclass(frozen=True)
class ParameterLayout:
    """The parameter block of one step: scalar records, vectors of the step group, then per-sample conditional vectors.

    ``vectors[table]`` is a byte offset; offsets of conditional tables are those of sample 0.
    """

    graph: Graph
    tables: Tables
    operations: tuple[Operation, ...]
    batch: int
    vectors: dict[str, int]
    shared_size: int
    sample_stride: int
    flow: StaticFlow

    @property
    def size(self) -> int:
        return self.shared_size + self.batch * self.sample_stride

    @staticmethod
    def build(
        graph: Graph, tables: Tables, operations: tuple[Operation, ...], batch: int, flow: StaticFlow
    ) -> ParameterLayout:
        shared: list[str] = []
        conditional: list[str] = []
        for operation in operations:
            node = operation.first
            if isinstance(node, Convolution):
                (conditional if node.conditional else shared).append(f"{node.name}.bias")
                shared.append(f"{node.name}.multiplier")
            elif isinstance(node, (GroupNorm, LayerNorm)):
                (conditional if node.conditional else shared).extend((f"{node.name}.gain", f"{node.name}.offset"))
        vectors: dict[str, int] = {}
        shared_size = align(len(operations) * SCALARS.itemsize)
        for name in dict.fromkeys(shared):
            vectors[name] = shared_size
            shared_size = align(shared_size + tables[name][0].nbytes)
        stride = 0
        for name in dict.fromkeys(conditional):  # parts of a batch have the same
            vectors[name] = shared_size + stride
            stride = align(stride + tables[name][0, 0].nbytes)
        return ParameterLayout(graph, tables, operations, batch, vectors, shared_size, stride, flow)

    def block(
        self, step: int, labels: np.ndarray, references: Mapping[str, Reference], keep_state: bool,
        continues: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """The bytes of one step. ``labels`` int [batch]; ``references`` of linear nodes (default: zero), ``keep_state`` whether
        the next step may refer to this one, ``continues`` whether the one before has run, so that what never changes is there."""
        group = self.graph.group_of_step[step]
        block = np.zeros(self.size, np.uint8)
        scalars = block[: len(self.operations) * SCALARS.itemsize].view(SCALARS)
        for operation in self.operations:
            self._fill_scalars(operation, step, references, keep_state, scalars[operation.index])
            scalars[operation.index]["skip"] = continues and operation.name in self.flow.constant
        for name, offset in self.vectors.items():
            table = self.tables[name]
            if offset < self.shared_size:
                raw = np.ascontiguousarray(table[group]).view(np.uint8)
                block[offset : offset + raw.size] = raw
            else:
                rows = np.ascontiguousarray(table[step][labels]).view(np.uint8)  # [batch, bytes]
                samples = block[self.shared_size :].reshape(self.batch, self.sample_stride)
                start = offset - self.shared_size
                samples[:, start : start + rows.shape[1]] = rows
        return block

    def _fill_scalars(
        self, operation: Operation, step: int, references: Mapping[str, Reference], keep_state: bool, record: np.void
    ) -> None:
        group = self.graph.group_of_step[step]

        def table(node: Node, name: str) -> np.ndarray:
            return self.tables[f"{node.name}.{name}"][group]

        node = operation.first
        if isinstance(node, (Convolution, MatMul)) and node.name not in self.flow.constant:
            record["reference"] = references.get(node.name, Reference.ZERO)
            record["keep_state"], record["parity"] = keep_state, step % 2
            record["rescaled"] = step > 0 and group != self.graph.group_of_step[step - 1]
        if isinstance(node, (Convolution, MatMul, Add, AveragePool, Softmax)):
            record["shift"] = table(node, "shift")
        if isinstance(node, (MatMul, AveragePool, Softmax)):
            record["multiplier0"] = table(node, "multiplier")
        if isinstance(node, Add):
            record["multiplier0"], record["multiplier1"] = table(node, "multiplier")
        if isinstance(node, Softmax):
            record["reciprocal_scale"] = table(node, "reciprocal_scale")
        if isinstance(node, (GroupNorm, LayerNorm)):
            for name in ("gain_bits", "epsilon"):
                record[name] = table(node, name)
        if isinstance(operation.nodes[-1], Quantize):
            record["quantize_multiplier"] = table(operation.nodes[-1], "multiplier")
            record["quantize_shift"] = table(operation.nodes[-1], "shift")


@dataclass(frozen=True)
class _Encoder:
    graph: Graph
    placements: dict[str, Placement]
    weight_offsets: dict[str, int]
    parameters: ParameterLayout
    state: dict[str, StatePlace]
    plans: Plans
    operations: tuple[Operation, ...]
    flow: StaticFlow

    def encode(self, operation: Operation, record: np.void) -> None:
        node, output = operation.first, self.graph.tensors[operation.name]
        source = self.graph.tensors[node.inputs[0]]
        record["opcode"], record["flags"] = self._opcode(operation), self._flags(operation, source, output)
        record["batch"], record["node"], record["leader"] = operation.samples, operation.index, self._leader(operation)
        record["scalars"] = operation.index * SCALARS.itemsize
        first = operation.first_sample
        record["input"], record["input_pitch"] = self._place(source, first)
        record["output"], record["output_pitch"] = self._place(output, first)
        record["height"], record["width"], record["channels"] = source.shape
        record["output_height"], record["output_width"], record["output_channels"] = output.shape
        record["sample_stride"] = self.parameters.sample_stride
        if len(node.inputs) > 1:
            record["other"], record["other_pitch"] = self._place(self.graph.tensors[node.inputs[1]], first)
        if isinstance(node, (Convolution, MatMul)):
            self._encode_linear(node, first, record)
        if isinstance(node, Convolution):
            self._encode_convolution(node, record)
        elif isinstance(node, MatMul):
            record["groups"] = node.heads
        elif isinstance(node, (GroupNorm, LayerNorm)):
            record["groups"] = node.groups if isinstance(node, GroupNorm) else 1
            record["vector0"] = self.parameters.vectors[f"{node.name}.gain"]
            record["vector1"] = self.parameters.vectors[f"{node.name}.offset"]
        elif isinstance(node, (Upsample, AveragePool)):
            record["stride_height"] = record["stride_width"] = node.factor if isinstance(node, Upsample) else node.size
        for fused in operation.nodes:
            if isinstance(fused, (SiLU, GELU)):
                record["activation_bits"] = fused.fraction_bits
        if getattr(node, "conditional", False):
            of_samples = ("vector0",) if isinstance(node, Convolution) else ("vector0", "vector1")
            for name in of_samples:
                record[name] += first * self.parameters.sample_stride

    def _leader(self, operation: Operation) -> int:
        """The same operation, or that of its leader, of the batch's first samples."""
        if not operation.is_linear:
            return operation.index
        leader = self.flow.leaders.get(operation.first.name, operation.first.name)
        return next(op.index for op in self.operations if op.first.name == leader and op.first_sample == 0)

    def _place(self, tensor: Tensor, first_sample: int) -> tuple[int, int]:
        placement = self.placements[tensor.name]
        height, width, _ = tensor.shape
        of_sample = height * width * placement.pitch * tensor.dtype.itemsize
        return placement.offset + first_sample * of_sample, placement.pitch

    def _encode_linear(self, node: Convolution | MatMul, first_sample: int, record: np.void) -> None:
        place = self.state[node.name]
        record["state_accumulators"] = place.accumulators + 4 * first_sample * self.graph.tensors[node.name].size
        for name, source, offset, span in zip(
            ("state_input", "state_other"), node.inputs, place.operands, place.spans, strict=False
        ):
            record[name] = offset + first_sample * self.graph.tensors[source].size
            record[f"{name}_span"] = span
        for prefix, resident, plan in zip(
            ("", "other_"), (Flag.RESIDENT, Flag.OTHER_RESIDENT), self.plans[node.name], strict=False
        ):
            record[f"{prefix}block_rows"], record[f"{prefix}chunk_channels"] = plan.block_rows, plan.chunk_channels
            record[f"{prefix}pass_tiles"] = plan.pass_tiles
            record["flags"] |= resident if plan.resident else 0
        record["segment_pixels"] = self.plans[node.name][0].segment_pixels

    def _encode_convolution(self, node: Convolution, record: np.void) -> None:
        record["kernel_height"], record["kernel_width"] = node.kernel
        record["stride_height"], record["stride_width"] = node.stride
        record["pad_top"], record["pad_bottom"], record["pad_left"], record["pad_right"] = node.padding
        chains = _chains(self.graph, node)
        record["lead_columns"], record["extra_columns"] = chains.lead_columns, chains.extra_columns
        record["weights"] = self.weight_offsets[node.name]
        record["vector0"] = self.parameters.vectors[f"{node.name}.bias"]
        record["vector1"] = self.parameters.vectors[f"{node.name}.multiplier"]

    def _opcode(self, operation: Operation) -> Opcode:
        node = operation.first
        if isinstance(node, MatMul):
            return Opcode.SCORES if node.scores else Opcode.MIX
        return {
            Convolution: Opcode.CONVOLUTION,
            GroupNorm: Opcode.GROUP_NORM,
            LayerNorm: Opcode.LAYER_NORM,
            Add: Opcode.ADD,
            **dict.fromkeys(ACTIVATIONS, Opcode.ACTIVATE),
            Quantize: Opcode.ACTIVATE,
            Softmax: Opcode.SOFTMAX,
            AveragePool: Opcode.AVERAGE_POOL,
            Upsample: Opcode.UPSAMPLE,
        }[type(node)]

    def _flags(self, operation: Operation, source: Tensor, output: Tensor) -> Flag:
        flags = Flag(0)
        for node in operation.nodes:
            flags |= ACTIVATIONS.get(type(node), Flag(0))
            if getattr(node, "relu", False):
                flags |= Flag.RELU
            if isinstance(node, Quantize):
                flags |= Flag.QUANTIZE | (Flag.FINE if node.fine else Flag(0))
            if getattr(node, "conditional", False):
                flags |= Flag.CONDITIONAL
        first = operation.first
        flags |= Flag.PAIRED if operation.paired else Flag(0)
        if self._leader(operation) != operation.index:
            flags |= Flag.FOLLOWS
        if first.name in self.flow.leaders:
            flags |= Flag.SHARES_OPERAND
        if isinstance(first, MatMul) and first.inputs[1] in self.flow.constant:
            flags |= Flag.CONSTANT_OTHER
        flags |= Flag.CODE_OUTPUT if output.kind == CODE else Flag(0)
        return flags | (Flag.CODE_INPUT if source.kind == CODE else Flag(0))
