"""The parameter block that the host streams before each step."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ...hls.contract.references import Reference
from ...hls.contract.tensor import Tables
from ...hls.machine.isa import SCALARS
from ..operators import operator_of
from .memory_map import align
from .operations import Operation
from .static_facts import StaticFacts


@dataclass(frozen=True)
class ParameterLayout:
    """The parameter block of one step: scalar records, vectors of the step group, then per-sample conditional vectors.

    ``vectors[table]`` is a byte offset, that of sample 0 where every sample has its own; ``dtypes[table]``: in how many bits its
    numbers stand there, whatever the table's are.
    """

    graph: Graph
    tables: Tables
    operations: tuple[Operation, ...]
    batch: int
    vectors: dict[str, int]
    dtypes: dict[str, np.dtype]
    shared_size: int
    sample_stride: int
    facts: StaticFacts

    @property
    def size(self) -> int:
        return self.shared_size + self.batch * self.sample_stride

    @staticmethod
    def build(
        graph: Graph, tables: Tables, operations: tuple[Operation, ...], batch: int, facts: StaticFacts
    ) -> ParameterLayout:
        shared: list[str] = []
        conditional: list[str] = []
        dtypes: dict[str, np.dtype] = {}
        for operation in operations:
            for vector in operator_of(operation.first).vectors(operation.first):
                name = f"{operation.first.name}.{vector.table}"
                (conditional if vector.per_sample else shared).append(name)
                dtypes[name] = vector.dtype
        vectors: dict[str, int] = {}
        shared_size = align(len(operations) * SCALARS.itemsize)
        for name in dict.fromkeys(shared):
            vectors[name] = shared_size
            shared_size = align(shared_size + tables[name].shape[-1] * dtypes[name].itemsize)
        stride = 0
        for name in dict.fromkeys(conditional):  # parts of a batch have the same
            vectors[name] = shared_size + stride
            stride = align(stride + tables[name].shape[-1] * dtypes[name].itemsize)
        return ParameterLayout(graph, tables, operations, batch, vectors, dtypes, shared_size, stride, facts)

    def block(
        self, step: int, labels: np.ndarray, reference: Reference, keep_state: bool, continues: bool = False
    ) -> np.ndarray:
        """The bytes of one step, uint8 [size]. ``labels`` int [batch]; ``reference`` of all linear operators, ``keep_state``
        whether the next step may refer to this one, ``continues`` whether the one before has run, so that what never changes is
        there."""
        group_of_step = self.graph.group_of_step
        block = np.zeros(self.size, np.uint8)
        block[: self.shared_size] = self._shared(group_of_step[step])
        scalars = block[: len(self.operations) * SCALARS.itemsize].view(SCALARS)
        scalars["reference"][self._varying] = reference
        scalars["keep_state"][self._varying] = keep_state
        scalars["parity"][self._varying] = step % 2
        scalars["rescaled"][self._varying] = step > 0 and group_of_step[step] != group_of_step[step - 1]
        scalars["skip"][self._constant] = continues
        if self.sample_stride:
            self._fill_samples(step, labels, block[self.shared_size :].reshape(self.batch, -1))
        return block

    @functools.cached_property
    def _constant(self) -> np.ndarray:
        """bool [operations]: those whose result never changes."""
        return np.array([operation.name in self.facts.constant for operation in self.operations])

    @functools.cached_property
    def _varying(self) -> np.ndarray:
        """bool [operations]: linear ones with a result that changes from step to step."""
        return np.array([operation.is_linear for operation in self.operations]) & ~self._constant

    @functools.cached_property
    def _shared_blocks(self) -> dict[int, np.ndarray]:
        """What has been put together for step groups."""
        return {}

    def _shared(self, group: int) -> np.ndarray:
        """What the steps of a group have in common, uint8 [shared_size]."""
        if group not in self._shared_blocks:
            block = np.zeros(self.shared_size, np.uint8)
            scalars = block[: len(self.operations) * SCALARS.itemsize].view(SCALARS)
            for operation in self.operations:
                self._fill_scalars(operation, group, scalars[operation.index])
            for name, offset in self.vectors.items():
                if offset < self.shared_size:
                    raw = self.tables[name][group].astype(self.dtypes[name]).view(np.uint8)
                    block[offset : offset + raw.size] = raw
            self._shared_blocks[group] = block
        return self._shared_blocks[group]

    def _fill_samples(self, step: int, labels: np.ndarray, rows: np.ndarray) -> None:
        """The conditional vectors of a step into ``rows``, uint8 [batch, sample_stride]; only those of ``labels`` are read."""
        for place, table in self._per_sample:
            rows[:, place] = table[step][labels]

    @functools.cached_property
    def _per_sample(self) -> list[tuple[slice, np.ndarray]]:
        """Where in a sample's part each conditional table goes, and its bytes uint8 [steps, labels, bytes]."""
        found = []
        for name, offset in self.vectors.items():
            if offset >= self.shared_size:
                raw = np.ascontiguousarray(self.tables[name], self.dtypes[name]).view(np.uint8)
                found.append((slice(offset - self.shared_size, offset - self.shared_size + raw.shape[-1]), raw))
        return found

    def _fill_scalars(self, operation: Operation, group: int, record: np.void) -> None:
        def table(node: Node, name: str) -> np.ndarray:
            return self.tables[f"{node.name}.{name}"][group]

        for node in operation.nodes:
            for name, value in operator_of(node).scalars(node, table).items():
                record[name] = value
