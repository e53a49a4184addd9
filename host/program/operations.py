"""The operations of a step: which nodes of a graph one descriptor runs, in which order, and how each is cut into tiles.

Activations and quantizers are fused into the vector operation before them. A batch runs whole, or in halves that take turns.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from ...hls.contract.graph import Graph
from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    ReLU,
    SiLU,
    Softmax,
    Upsample,
)
from ...hls.contract.spatial import Chains, chains_of
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag
from ...hls.machine.plan import CannotPlan, Plan, ProductShape, estimated_cycles, plan_product
from .flow import StaticFlow
from .homes import Homes
from .turns import take_turns

ACTIVATIONS: dict[type[Node], Flag] = {SiLU: Flag.SILU, GELU: Flag.GELU, ReLU: Flag.RELU}
Plans = Mapping[str, tuple[Plan, ...]]


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
    return isinstance(node, Quantize) and isinstance(chain[-1], (GroupNorm, LayerNorm, Add, Multiply, *ACTIVATIONS))


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
        instances = 1 if isinstance(node, Convolution) else samples * node.windows * node.heads
        return instances * estimated_cycles(config, shape, plan)
    read = sum(graph.tensors[name].size * graph.tensors[name].dtype.itemsize for name in node.inputs)
    result = graph.tensors[layer.name]
    passes = {GroupNorm: 2, LayerNorm: 2, Softmax: 2}.get(type(node), 1)
    return samples * max(passes * read, result.size * result.dtype.itemsize) / config.bus_bytes


def _product_shapes(graph: Graph, node: Convolution | MatMul, homes: Homes, batch: int) -> tuple[ProductShape, ...]:
    """What a linear node multiplies: one product, or with differences two of attention, per sample, window and head."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.name]
    if isinstance(node, Convolution):
        dense = homes.pitch(source.name) == source.shape[2]
        extra = chains_of_convolution(graph, node).extra_columns
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


def chains_of_convolution(graph: Graph, node: Convolution) -> Chains:
    width, output_width = graph.tensors[node.inputs[0]].shape[1], graph.tensors[node.name].shape[1]
    return chains_of(node.kernel, node.stride, node.padding, width, output_width)


def row_bytes_of(operation: Operation, graph: Graph) -> int:
    """What an operation of the vector unit keeps of a pixel, or of softmax of a row: those that only stream keep nothing."""
    if not isinstance(operation.first, (GroupNorm, LayerNorm, Softmax, AveragePool, Upsample)):
        return 0
    return max(2 * graph.tensors[name].shape[2] for name in operation.first.inputs)


def fitting(config: HardwareConfig, graph: Graph) -> HardwareConfig:
    """``config``, or where its row buffers are too small for ``graph`` one with larger ones, and as many of its cores as then
    fit the board. ValueError where not even one does."""
    needed = max(row_bytes_of(operation, graph) for operation in fuse(graph))
    if needed <= config.row_bytes:
        return config
    row_bytes = 1 << (needed - 1).bit_length()
    for cores in range(config.cores, 1, -1):
        try:
            return dataclasses.replace(config, cores=cores, row_bytes=row_bytes)
        except ValueError:
            continue
    return dataclasses.replace(config, cores=1, row_bytes=row_bytes)


def check_rows(graph: Graph, operations: tuple[Operation, ...], config: HardwareConfig) -> None:
    """CannotPlan where a pixel of a vector operation, or a row of softmax, does not fit the vector unit's row buffer."""
    for operation in operations:
        needed = row_bytes_of(operation, graph)
        if needed > config.row_bytes:
            raise CannotPlan(
                f"{operation.name}: {operation.first.inputs[0]} has rows of {needed} bytes, but {config.board} has row_bytes = "
                f"{config.row_bytes}; use a configuration with larger buffers"
            )
