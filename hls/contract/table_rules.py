"""Whether all tables and scales of a graph are what its operators need."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..common.limits import LARGEST_SCALE, SMALLEST_SCALE
from ..common.schema import show
from .arithmetic import VALUE_RANGE
from .graph import Graph
from .table_rule import FLOAT64, INT16, TableRule
from .tensor import Tables


def table_rules(graph: Graph) -> dict[str, TableRule]:
    """The rule of every table of ``graph``, by name. ValueError for a norm of more elements than its sums hold."""
    tensors, axes = graph.tensors, graph.table_axes
    rules = {f"{name}.value": TableRule((INT16,), tensors[name].shape, *VALUE_RANGE) for name in graph.constants}
    for node in graph.nodes:
        of_node = node.table_rules([tensors[name] for name in node.inputs], tensors[node.name], axes)
        rules |= {f"{node.name}.{name}": rule for name, rule in of_node.items()}
    return rules


def check_tables(graph: Graph, tables: Tables) -> None:
    """ValueError where ``tables`` are not those of ``graph``, each as its operator needs it."""
    _check_all(table_rules(graph), tables, "table ")
    for node in graph.nodes:
        node.check_tables(tables)


def check_scales(graph: Graph, scales: Mapping[str, np.ndarray]) -> None:
    """ValueError where ``scales`` are not one per tensor and step group, positive and of a size that leaves sums finite."""
    rule = TableRule((FLOAT64,), (graph.groups,), SMALLEST_SCALE, LARGEST_SCALE)
    _check_all(dict.fromkeys(graph.tensors, rule), scales, "scale of ")


def _check_all(rules: Mapping[str, TableRule], tables: Mapping[str, np.ndarray], what: str) -> None:
    for name, rule in rules.items():
        rule.check(f"{what}{name}", tables.get(name))
    unknown = next((name for name in tables if name not in rules), None)
    if unknown is not None:
        raise ValueError(f"found a {what}{show(unknown)}, which no part of the graph has")
