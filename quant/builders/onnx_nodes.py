"""Nodes of ONNX graphs piece by piece, as plain data: named, each operation and each constant once.

Operators' forms in ONNX are made of these, so that quantizing a model does not need ONNX; :mod:`..qonnx` writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT, INT64 = 1, 7  # ONNX's numbers of types of elements


@dataclass(frozen=True)
class OnnxNode:
    """An operation with one output, which has the node's name."""

    kind: str
    inputs: tuple[str, ...]
    name: str
    attributes: Mapping[str, Any]
    domain: str | None = None


@dataclass(frozen=True)
class Body:
    """An attribute that is a graph, the nodes of ``build``: from its input ``given`` to ``found``, both int64 of ``shape``."""

    build: NodeBuilder
    given: str
    found: str
    shape: tuple[int, ...]


class NodeBuilder:
    """Collects the nodes and the constants of a graph. What is asked for twice exists once.

    ``scope`` stands before the names of what is made, ``home``, where the graph is a node's, before those of scalars too.
    """

    def __init__(self, home: str = "") -> None:
        self.scope = self.home = home
        self.nodes: list[OnnxNode] = []
        self.constants: dict[str, np.ndarray] = {}
        self._made: dict[tuple, str] = {}  # by content
        self._uses: dict[str, int] = {}  # of names

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of the node's only output, which is the node's own."""
        key = (kind, domain, inputs, repr(sorted(attributes.items())))
        if key not in self._made:
            name = self._made[key] = self._unique(kind)
            self.nodes.append(OnnxNode(kind, inputs, name, attributes, domain))
        return self._made[key]

    def constant(self, value: Any, dtype: type = np.int64) -> str:
        """The name of a constant, of as many dimensions as ``value`` has."""
        array: np.ndarray = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._made:
            scalar = f"{self.home}/{array.dtype}_{array}".lstrip("/")
            name = self._made[key] = self._unique("constant") if array.ndim else scalar
            self.constants[name] = array
        return self._made[key]

    def cast(self, name: str, to: int) -> str:
        return self.op("Cast", name, to=to)

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", name, self.constant(shape))

    def floor_divide(self, name: str, divisor: str) -> str:
        """The floor of int64 quotients; ONNX's own division of negative numbers cuts."""
        return self.op("Div", self.op("Sub", name, self.op("Mod", name, divisor)), divisor)

    def round_shift(self, name: str, shift: int, more: int | np.ndarray = 0) -> str:
        """``(x + more + half) >> shift``, the floor of negative numbers too."""
        half = 1 << shift >> 1
        rounded = self.op("Add", name, self.constant(more + half)) if np.any(more) or half else name
        return self.floor_divide(rounded, self.constant(1 << shift)) if shift else rounded

    def clip(self, name: str, limits: tuple[int, int]) -> str:
        return self.op("Clip", name, self.constant(limits[0]), self.constant(limits[1]))

    def lookup(self, table: np.ndarray, index: str) -> str:
        """int64 entries of ``table``, which is kept in as few bytes as hold it."""
        smallest = next(t for t in (np.int16, np.int32, np.int64) if np.array_equal(table.astype(t), table))
        found = self.op("Gather", self.constant(table, smallest), index)
        return found if smallest is np.int64 else self.cast(found, INT64)

    def _unique(self, kind: str) -> str:
        name = f"{self.scope}/{kind}" if self.scope else kind
        self._uses[name] = self._uses.get(name, 0) + 1
        return name if self._uses[name] == 1 else f"{name}_{self._uses[name]}"
