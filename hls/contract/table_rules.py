"""What the tables of every operator may be: type, shape, and the range in which no kernel overflows and no shift is undefined.

All implementations compute in int64 and shift by 0 to 63. The ranges follow from the operators of :mod:`.reference`: a sum and
its bias stay in int32, so that they times a multiplier of 31 bits stay in 63; the other bounds are derived where they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.limits import (
    LARGEST_EPSILON,
    LARGEST_GAIN,
    LARGEST_OFFSET,
    LARGEST_SCALE,
    MOST_GAIN_BITS,
    MOST_NORM_PIXELS,
    SMALLEST_SCALE,
)
from ..common.schema import show
from .arithmetic import ACCUMULATOR_RANGE, CODE_RANGE, MAX_SHIFT, VALUE_RANGE
from .graph import (
    Add,
    AveragePool,
    Convolution,
    Graph,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    Softmax,
    Tables,
)
from .reference import LARGEST_NORM

INT8, INT16, INT32, INT64, FLOAT64 = (np.dtype(kind) for kind in (np.int8, np.int16, np.int32, np.int64, np.float64))


@dataclass(frozen=True)
class TableRule:
    """``dtypes`` (any of them), ``shape``, smallest and largest entry. Floats are finite."""

    dtypes: tuple[np.dtype, ...]
    shape: tuple[int, ...]
    low: float
    high: float

    def check(self, name: str, table: Any) -> None:
        """ValueError where ``table`` is missing or is another one."""
        expected = f"expected {' or '.join(map(str, self.dtypes))} {self.shape}"
        if table is None:
            raise ValueError(f"found no {name}, {expected}")
        if table.dtype not in self.dtypes or table.shape != self.shape:
            raise ValueError(f"{name}: found {table.dtype} {table.shape}, {expected}")
        limits = None if table.dtype.kind == "f" else np.iinfo(table.dtype)
        if limits is not None and self.low <= limits.min and limits.max <= self.high:
            return
        least, most = table.min(), table.max()
        if not (self.low <= least and most <= self.high):  # NaN neither
            found = least if not self.low <= least else most
            raise ValueError(f"{name}: found {found}, expected {self.low} to {self.high}")


def table_rules(graph: Graph) -> dict[str, TableRule]:
    """The rule of every table of ``graph``, by name. ValueError for a norm of more elements than its sums hold."""
    rules = {f"{name}.value": TableRule((INT16,), graph.tensors[name].shape, *VALUE_RANGE) for name in graph.constants}
    for node in graph.nodes:
        rules |= {f"{node.name}.{name}": rule for name, rule in _rules_of(node, graph)}
    return rules


def _rules_of(node: Node, graph: Graph) -> Iterator[tuple[str, TableRule]]:
    channels = graph.tensors[node.name].shape[2]
    of_group, of_step = (graph.groups,), (graph.steps, graph.labels)
    shift = TableRule((INT32,), of_group, 0, MAX_SHIFT)

    def rows(conditional: bool) -> tuple[int, ...]:
        return (*(of_step if conditional else of_group), channels)

    if isinstance(node, Convolution):
        depth = graph.tensors[node.inputs[0]].shape[2]
        yield "weight", TableRule((INT8,), (channels, *node.kernel, depth), *CODE_RANGE)
        yield "bias", TableRule((INT32,), rows(node.conditional), *ACCUMULATOR_RANGE)  # see check_accumulators
        yield "multiplier", TableRule((INT32,), rows(node.gated), *ACCUMULATOR_RANGE)
        yield "shift", shift
    elif isinstance(node, (MatMul, Quantize, Multiply, AveragePool, Add)):
        shape = (*of_group, 2) if isinstance(node, Add) else of_group
        yield "multiplier", TableRule((INT32,), shape, *ACCUMULATOR_RANGE)
        yield "shift", shift
    elif isinstance(node, Softmax):
        yield "multiplier", TableRule((INT32,), of_group, 0, ACCUMULATOR_RANGE[1])  # exponents are not negative
        yield "shift", shift
    elif isinstance(node, (GroupNorm, LayerNorm)):
        check_norm(node, graph)
        yield "gain", TableRule((INT32,), rows(node.conditional), -LARGEST_GAIN, LARGEST_GAIN)
        yield "offset", TableRule((INT32, INT64), rows(node.conditional), -LARGEST_OFFSET, LARGEST_OFFSET)
        yield "gain_bits", TableRule((INT32,), of_group, 0, MOST_GAIN_BITS)
        yield "epsilon", TableRule((INT64,), of_group, 1, LARGEST_EPSILON)


def check_norm(node: GroupNorm | LayerNorm, graph: Graph) -> int:
    """Values that are normalized together; ValueError where their sums do not fit."""
    height, width, channels = graph.tensors[node.name].shape
    pixels = height * width if isinstance(node, GroupNorm) else 1
    count = pixels * channels // node.groups if isinstance(node, GroupNorm) else channels
    if count > LARGEST_NORM or pixels > MOST_NORM_PIXELS:
        raise ValueError(
            f"{node.name}: found {count} elements in a norm group, of {pixels} pixels, expected at most {LARGEST_NORM} of "
            f"{MOST_NORM_PIXELS}"
        )
    return count


def check_tables(graph: Graph, tables: Tables) -> None:
    """ValueError where ``tables`` are not those of ``graph``, each as its operator needs it."""
    _check_all(table_rules(graph), tables, "table ")
    for node in graph.nodes:
        if isinstance(node, Convolution):
            check_accumulators(node, tables[f"{node.name}.weight"], tables[f"{node.name}.bias"])


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


def check_accumulators(node: Convolution, weight: np.ndarray, bias: np.ndarray) -> None:
    """ValueError where a bound of the sums of products leaves int32: a bias's magnitude and 128 times those of the weights."""
    largest = np.abs(bias.astype(np.int64)).reshape(-1, len(weight)).max(axis=0)
    reach = largest + 128 * 128 * weight[0].size
    if reach.max() > ACCUMULATOR_RANGE[1]:  # a bound that takes no look at the weights; most pass
        magnitudes = np.array([np.abs(row.astype(np.int64)).sum() for row in weight])
        reach = largest + 128 * magnitudes
    if reach.max() > ACCUMULATOR_RANGE[1]:
        raise ValueError(f"{node.name}: accumulators may reach {reach.max()}, more than int32 holds")
