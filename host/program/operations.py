"""The operations of a step: which nodes of a graph one descriptor runs, in which order, and how each is cut into tiles.

Activations and quantizers are fused into the vector operation before them. A batch runs whole, or in halves that take turns.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

from ...hls.contract.graph import Graph
from ...hls.contract.operators import LinearNode, Node
from ...hls.machine.config import HardwareConfig
from ...hls.machine.plan import CannotPlan, ProductShape, estimated_cycles, plan_product
from ..operators import linear_operator_of, operator_of
from ..operators.places import Plans
from .homes import Homes
from .static_facts import StaticFacts
from .turns import take_turns


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
        return isinstance(self.first, LinearNode)


def fuse(graph: Graph) -> tuple[Operation, ...]:
    """Nodes of the graph as operations: activations and quantizers join the vector operation that only they read."""
    readers: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for source in node.inputs:
            readers[source] = readers.get(source, 0) + 1
    chains: dict[str, list[Node]] = {}
    for node in graph.nodes:
        operator, source = operator_of(node), node.inputs[0]
        if not node.is_stored:
            continue
        open_chain = chains.get(source)
        if open_chain and readers[source] == 1 and operator.may_follow(operator_of(open_chain[-1])):
            chains[node.name] = [*chains.pop(source), node]
        else:
            chains[node.name] = [node]
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    sorted_chains = sorted(chains.values(), key=lambda chain: order[chain[0].name])
    return tuple(Operation(tuple(chain), index, index) for index, chain in enumerate(sorted_chains))


def overlapping(
    graph: Graph, operations: tuple[Operation, ...], config: HardwareConfig, facts: StaticFacts
) -> dict[int, int]:
    """Convolutions that the GroupNorm after them follows group by group: index of the operation -> channel groups (2 or more).

    A channel group is a whole number of output-channel tiles and of normalization groups.
    """
    result = {}
    for operation, following in itertools.pairwise(operations):
        node, norm = operation.first, following.first
        groups = operator_of(norm).channel_groups(norm)
        is_convolution = operation.is_linear and linear_operator_of(node).shares_operand
        if not (is_convolution and groups and norm.inputs[0] == node.name) or node.name in facts.constant:
            continue
        channels = graph.tensors[node.name].shape[2]
        whole = [
            parts
            for parts in range(2, config.channel_groups + 1)
            if channels % (parts * config.oc_tile) == 0 and groups % parts == 0
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
    if layer.is_linear:
        shape, plan = _product_shapes(graph, node, homes, samples)[0], plans[node.name][0]
        return linear_operator_of(node).instances(node, samples) * estimated_cycles(config, shape, plan)
    read = sum(graph.tensors[name].size * graph.tensors[name].dtype.itemsize for name in node.inputs)
    result = graph.tensors[layer.name]
    return samples * max(operator_of(node).passes * read, result.size * result.dtype.itemsize) / config.bus_bytes


def _product_shapes(graph: Graph, node: Node, homes: Homes, samples: int) -> tuple[ProductShape, ...]:
    """What a linear node multiplies."""
    source = graph.tensors[node.inputs[0]]
    is_dense = homes.pitch(source.name) == source.shape[2]
    return linear_operator_of(node).product_shapes(node, graph, samples, is_dense)


def row_bytes_of(operation: Operation, graph: Graph) -> int:
    """What an operation of the vector unit keeps of a pixel, or of softmax of a row: those that only stream keep nothing."""
    if not operator_of(operation.first).keeps_row:
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
