"""From a calibrated model to the integer tables of its graph: every float constant becomes an integer (``hls/README.md``)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...hls.contract.graph import Graph, check_graph, constant_tensors
from ...hls.contract.operators import Node
from ...hls.contract.tensor import VALUE
from ..builders.lowering import Lowering
from ..common.unsupported import UnsupportedOperator
from ..operators import operator_of
from .network import QuantizedNetwork

HEADROOM = 2  # of int16 ranges over the largest magnitude seen in calibration, which other noise exceeds


@dataclass(frozen=True)
class IntegerModel:
    """``tables``: see :mod:`ditto_zynq.hls.contract.graph`; ``scales[tensor]`` float64 [groups]: real value of one step."""

    graph: Graph
    tables: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]


def check_lowering(graph: Graph) -> None:
    """UnsupportedOperator for a graph that has no integers whatever its numbers are, which is known before calibration."""
    tied = _tied_tensors(graph)
    sharing = Counter(tied.values())
    shared = {name for name, root in tied.items() if sharing[root] > 1}
    for node in graph.nodes:
        operator_of(node).check(node, graph, shared)


def lower(model: QuantizedNetwork) -> IntegerModel:
    """Raises UnsupportedOperator where a layer does not fit the integers of the contract."""
    check_lowering(model.graph)
    graph, scales = _assign_scales(model)
    lowering = Lowering(graph, scales, model.parameters_, model, constant_tensors(graph))
    for name in graph.constants:
        value = model.parameters_[f"{name}.value"].double().numpy()
        lowering.tables[f"{name}.value"] = np.rint(value / scales[name][0]).astype(np.int16)  # within HEADROOM
    for node in graph.nodes:
        _lower_node(node, lowering)
    check_graph(graph)
    return IntegerModel(graph, lowering.tables, scales)


def _lower_node(node: Node, lowering: Lowering) -> None:
    operator_of(node).lower(node, lowering)
    try:
        node.check_tables(lowering.tables)
    except ValueError as error:
        raise UnsupportedOperator(str(error)) from error


def _assign_scales(model: QuantizedNetwork) -> tuple[Graph, dict[str, np.ndarray]]:
    """Scales of all tensors: calibrated for codes; for values, common to what a concatenation or upsampling ties."""
    graph = model.graph
    tied = _tied_tensors(graph)
    largest: dict[str, np.ndarray] = {}
    for name, tensor in graph.tensors.items():
        if tensor.kind == VALUE:
            levels = model.scales(name).numpy() * 2**15
            root = tied[name]
            largest[root] = np.maximum(largest.get(root, 0.0), levels)
    for node in graph.nodes:
        for name, least in operator_of(node).least_scales(node, graph, model.parameters_):
            largest[tied[name]] = np.maximum(largest[tied[name]], least * (2**15 - 1) / HEADROOM)
    scales = {
        name: HEADROOM * largest[tied[name]] / (2**15 - 1) if tensor.kind == VALUE else model.scales(name).numpy()
        for name, tensor in graph.tensors.items()
    }
    reach = {name: HEADROOM * float(largest[root].max()) for name, root in tied.items() if root in largest}
    nodes, fixed = _in_fixed_point(graph, reach)
    scales |= {name: np.full(graph.groups, scale) for name, scale in fixed.items()}
    for name in constant_tensors(graph):  # measured once per step, so equal but for the rounding of sums
        scales[name] = np.full(graph.groups, scales[name].max())
    return dataclasses.replace(graph, nodes=nodes), scales


def _in_fixed_point(graph: Graph, reach: dict[str, float]) -> tuple[tuple[Node, ...], dict[str, float]]:
    """The nodes, and by name the scales around some of them, powers of two. ``reach``: what tensors of values must hold."""
    nodes: list[Node] = []
    scales: dict[str, float] = {}
    for node in graph.nodes:
        fixed = operator_of(node).with_fixed_point(node, reach.__getitem__)
        if fixed is not None:
            node, scale = fixed
            scales |= dict.fromkeys((*node.inputs, node.name), scale)
        nodes.append(node)
    return tuple(nodes), scales


def _tied_tensors(graph: Graph) -> dict[str, str]:
    """For each tensor, which one stands for the set of tensors that must share its scale."""
    parent = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if operator_of(node).keeps_scale and graph.tensors[node.name].kind == VALUE:
            for source in node.inputs:
                parent[find(source)] = find(node.name)
    return {name: find(name) for name in graph.tensors}
