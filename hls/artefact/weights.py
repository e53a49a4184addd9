"""Weights on disk: int8 as they are, and narrower ones as many in a byte as fit, along their input channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contract.formats import WEIGHT_BITS
from ..contract.graph import Graph
from ..contract.packed_bits import bytes_of, join_numbers, split_numbers
from ..contract.table_rules import table_rules


def _narrow(graph: Graph) -> dict[str, int]:
    """The bits of all weights that are narrower than a byte, by the name of their table."""
    nodes = [node for node in graph.linear_nodes if node.weight_table and node.weight_bits < WEIGHT_BITS]
    return {f"{node.name}.{node.weight_table}": node.weight_bits for node in nodes}


def stored_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is written of tables int8 [O, kh, kw, I]: narrow ones as uint8 [O, kh, kw, bytes]."""
    narrow = _narrow(graph)
    return {name: join_numbers(table, narrow[name]) if name in narrow else table for name, table in weights.items()}


def loaded_weights(graph: Graph, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables int8 [O, kh, kw, I] of what is stored; ValueError where narrow weights have another type or shape."""
    result, narrow = dict(stored), _narrow(graph)
    rules = table_rules(graph) if narrow else {}
    for name, bits in narrow.items():
        raw, (*shape, channels) = stored.get(name), rules[name].shape
        if raw is None:
            continue  # which the table's rule says
        expected = (*shape, bytes_of(channels, bits))
        if raw.dtype != np.uint8 or raw.shape != expected:
            raise ValueError(
                f"table {name}: found {raw.dtype} {raw.shape}, expected uint8 {expected}, {8 // bits} weights in a byte"
            )
        result[name] = split_numbers(raw, channels, bits)
    return result
