"""The static part of the execution flow (Ditto, HPCA 2025): what a graph says about differences before anything runs.

The engine never stores a difference: every linear operator subtracts its operand's kept codes on the way in, so data movement
(concatenation, upsampling, the layout of heads) cannot end one, and true values are there wherever a non-linear operator needs
them. What is left to find out is which tensors never change, and which operators can share what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...hls.contract.graph import Graph, constant_tensors
from ...hls.contract.operators import LinearNode
from ...hls.contract.tensor import Tables
from ..operators import linear_operator_of

WEIGHT = "weight"  # the only table that has no axis of step groups


@dataclass(frozen=True)
class StaticFacts:
    """``constant``: tensors that are the same in every step of a run: context, constants, what is computed from these alone.

    ``leaders``: of each convolution that reads the same operand as one before it, that one: it keeps the operand for both, one
    difference serves both, and both take the same reference.
    """

    constant: frozenset[str]
    leaders: Mapping[str, str]


def analyse(graph: Graph, tables: Tables) -> StaticFacts:
    constant = constant_tensors(graph, _varying(tables, constant_tensors(graph)))
    first_reader: dict[str, str] = {}
    leaders = {}
    for node in graph.nodes:
        if not isinstance(node, LinearNode) or constant.intersection(node.inputs):
            continue
        if linear_operator_of(node).shares_operand:
            leader = first_reader.setdefault(node.inputs[0], node.name)
            if leader != node.name:
                leaders[node.name] = leader
    return StaticFacts(constant, leaders)


def _varying(tables: Tables, nodes: frozenset[str]) -> frozenset[str]:
    """The nodes among ``nodes`` that have a table which depends on the step group."""
    owners = ((*name.rpartition(".")[::2], table) for name, table in tables.items())
    return frozenset(
        node for node, kind, table in owners if node in nodes and kind != WEIGHT and np.any(table != table[:1])
    )
