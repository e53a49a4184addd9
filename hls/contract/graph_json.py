"""The integer graph as JSON: a list of tensors, a list of nodes with the name of their operator, and the graph's other fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from ..common.limits import MOST_AXES, MOST_NODES
from ..common.schema import Illegal, Length, OneOf, first_repeated, read, show
from .graph import MOST_TENSORS, Graph, check_structure
from .layout import STORED, Layout, Part
from .operators import OPERATORS, Node
from .tensor import Size, Tensor

StoredPart = tuple[Annotated[str, OneOf(STORED)], Size, Size]
StoredAxis = Annotated[tuple[StoredPart, ...], Length(0, MOST_AXES)]
StoredLayout = Annotated[tuple[StoredAxis, ...], Length(1, MOST_AXES)]
LAYOUTS = ("input_layout", "output_layout")


def graph_to_json(graph: Graph) -> dict[str, Any]:
    others = {field.name: getattr(graph, field.name) for field in dataclasses.fields(graph)}
    return {
        **others,
        "group_of_step": list(graph.group_of_step),
        "constants": list(graph.constants),
        **{name: _layout_to_json(others[name]) for name in LAYOUTS},
        "tensors": [dataclasses.asdict(tensor) for tensor in graph.tensors.values()],
        "nodes": [{"op": type(node).__name__, **dataclasses.asdict(node)} for node in graph.nodes],
    }


def graph_from_json(data: Mapping[str, Any]) -> Graph:
    """Rebuild and check a graph. Raises ValueError with what is wrong."""
    where = "the integer graph"
    tensors = read(Annotated[tuple[Tensor, ...], Length(1, MOST_TENSORS)], data.get("tensors"), f"{where}: tensors")
    nodes = read(Annotated[tuple[Any, ...], Length(1, MOST_NODES)], data.get("nodes"), f"{where}: nodes")
    repeated = first_repeated(tensor.name for tensor in tensors)
    if repeated is not None:
        raise Illegal(f"{where}: found tensor {show(repeated)} twice")
    fields = {
        **data,
        "tensors": {tensor.name: tensor for tensor in tensors},
        "nodes": tuple(_node_from_json(entry, f"{where}: node {index}") for index, entry in enumerate(nodes)),
        **{name: _layout_from_json(data.get(name), f"{where}: {name}") for name in LAYOUTS},
    }
    graph: Graph = read(Graph, fields, where)
    check_structure(graph)
    return graph


def _node_from_json(entry: Any, where: str) -> Node:
    fields = dict(entry) if isinstance(entry, Mapping) else {}
    op = fields.pop("op", None)
    if not isinstance(op, str) or op not in OPERATORS:
        found = show(op if isinstance(entry, Mapping) else entry)
        raise Illegal(f"{where}: found operator {found}, expected one of {', '.join(OPERATORS)}")
    node: Node = read(OPERATORS[op], fields, where)
    return node


def _layout_to_json(layout: Layout | None) -> list[Any] | None:
    return None if layout is None else [[dataclasses.astuple(part) for part in axis] for axis in layout]


def _layout_from_json(data: Any, where: str) -> Layout | None:
    if data is None:
        return None
    return tuple(tuple(Part(*part) for part in axis) for axis in read(StoredLayout, data, where))
