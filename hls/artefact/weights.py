"""Weights on disk: int8 as they are, and those of 4 bits two in a byte along their input channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..contract.formats import NARROW_WEIGHT_BITS
from ..contract.graph import Graph
from ..contract.nibbles import join_nibbles, split_nibbles
from ..contract.table_rules import table_rules


def _shapes_of_nibbles(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape [O, kh, kw, I] of all weights of 4 bits, by the name of their table."""
    chosen = [node for node in graph.linear_nodes if node.weight_table and node.weight_bits == NARROW_WEIGHT_BITS]
    names = {f"{node.name}.{node.weight_table}" for node in chosen}
    return {name: rule.shape for name, rule in table_rules(graph).items() if name in names} if names else {}


def stored_weights(graph: Graph, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is written of tables int8 [O, kh, kw, I]: those of 4 bits as uint8 [O, kh, kw, ceil(I / 2)]."""
    nibbles = _shapes_of_nibbles(graph)
    return {name: join_nibbles(weight) if name in nibbles else weight for name, weight in weights.items()}


def loaded_weights(graph: Graph, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tables int8 [O, kh, kw, I] of what is stored; ValueError where weights of 4 bits have another type or shape."""
    result = dict(stored)
    for name, shape in _shapes_of_nibbles(graph).items():
        raw, expected = stored.get(name), (*shape[:-1], -(-shape[-1] // 2))
        if raw is None:
            continue  # which the table's rule says
        if raw.dtype != np.uint8 or raw.shape != expected:
            raise ValueError(
                f"table {name}: found {raw.dtype} {raw.shape}, expected uint8 {expected}, two weights in a byte"
            )
        result[name] = split_nibbles(raw, shape[-1])
    return result
