"""The parameter block that the host streams before each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..hls.graph import (
    Add,
    AveragePool,
    Convolution,
    Graph,
    GroupNorm,
    LayerNorm,
    MatMul,
    Node,
    Quantize,
    Softmax,
    Tables,
)
from ..hls.isa import SCALARS, Reference
from .flow import StaticFlow
from .memory_map import align
from .operations import Operation


@dataclass(frozen=True)
class ParameterLayout:
    """The parameter block of one step: scalar records, vectors of the step group, then per-sample conditional vectors.

    ``vectors[table]`` is a byte offset; offsets of conditional tables are those of sample 0.
    """

    graph: Graph
    tables: Tables
    operations: tuple[Operation, ...]
    batch: int
    vectors: dict[str, int]
    shared_size: int
    sample_stride: int
    flow: StaticFlow

    @property
    def size(self) -> int:
        return self.shared_size + self.batch * self.sample_stride

    @staticmethod
    def build(
        graph: Graph, tables: Tables, operations: tuple[Operation, ...], batch: int, flow: StaticFlow
    ) -> ParameterLayout:
        shared: list[str] = []
        conditional: list[str] = []
        for operation in operations:
            node = operation.first
            if isinstance(node, Convolution):
                (conditional if node.conditional else shared).append(f"{node.name}.bias")
                shared.append(f"{node.name}.multiplier")
            elif isinstance(node, (GroupNorm, LayerNorm)):
                (conditional if node.conditional else shared).extend((f"{node.name}.gain", f"{node.name}.offset"))
        vectors: dict[str, int] = {}
        shared_size = align(len(operations) * SCALARS.itemsize)
        for name in dict.fromkeys(shared):
            vectors[name] = shared_size
            shared_size = align(shared_size + tables[name][0].nbytes)
        stride = 0
        for name in dict.fromkeys(conditional):  # parts of a batch have the same
            vectors[name] = shared_size + stride
            stride = align(stride + tables[name][0, 0].nbytes)
        return ParameterLayout(graph, tables, operations, batch, vectors, shared_size, stride, flow)

    def block(
        self, step: int, labels: np.ndarray, references: Mapping[str, Reference], keep_state: bool,
        continues: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """The bytes of one step. ``labels`` int [batch]; ``references`` of linear nodes (default: zero), ``keep_state`` whether
        the next step may refer to this one, ``continues`` whether the one before has run, so that what never changes is there."""
        group = self.graph.group_of_step[step]
        block = np.zeros(self.size, np.uint8)
        scalars = block[: len(self.operations) * SCALARS.itemsize].view(SCALARS)
        for operation in self.operations:
            self._fill_scalars(operation, step, references, keep_state, scalars[operation.index])
            scalars[operation.index]["skip"] = continues and operation.name in self.flow.constant
        for name, offset in self.vectors.items():
            table = self.tables[name]
            if offset < self.shared_size:
                raw = np.ascontiguousarray(table[group]).view(np.uint8)
                block[offset : offset + raw.size] = raw
            else:
                rows = np.ascontiguousarray(table[step][labels]).view(np.uint8)  # [batch, bytes]
                samples = block[self.shared_size :].reshape(self.batch, self.sample_stride)
                start = offset - self.shared_size
                samples[:, start : start + rows.shape[1]] = rows
        return block

    def _fill_scalars(
        self, operation: Operation, step: int, references: Mapping[str, Reference], keep_state: bool, record: np.void
    ) -> None:
        group = self.graph.group_of_step[step]

        def table(node: Node, name: str) -> np.ndarray:
            return self.tables[f"{node.name}.{name}"][group]

        node = operation.first
        if isinstance(node, (Convolution, MatMul)) and node.name not in self.flow.constant:
            record["reference"] = references.get(node.name, Reference.ZERO)
            record["keep_state"], record["parity"] = keep_state, step % 2
            record["rescaled"] = step > 0 and group != self.graph.group_of_step[step - 1]
        if isinstance(node, (Convolution, MatMul, Add, AveragePool, Softmax)):
            record["shift"] = table(node, "shift")
        if isinstance(node, (MatMul, AveragePool, Softmax)):
            record["multiplier0"] = table(node, "multiplier")
        if isinstance(node, Add):
            record["multiplier0"], record["multiplier1"] = table(node, "multiplier")
        if isinstance(node, Softmax):
            record["reciprocal_scale"] = table(node, "reciprocal_scale")
        if isinstance(node, (GroupNorm, LayerNorm)):
            for name in ("gain_bits", "epsilon"):
                record[name] = table(node, name)
        if isinstance(operation.nodes[-1], Quantize):
            record["quantize_multiplier"] = table(operation.nodes[-1], "multiplier")
            record["quantize_shift"] = table(operation.nodes[-1], "shift")
