"""Is a large model's run right? Samples of every operation's result against the reference, from the operands in memory.

The reference is slow: a whole step of Stable Diffusion would take it hours. A sample of a linear operation is the dot product of
one window, in int64; of a vector operation a pixel, a row, or a group of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node, StepTables
from ...hls.contract.tensor import Tables
from ..operators import operator_of
from ..operators.operator import SampleView
from ..program.compiler import Program
from ..program.operations import Operation

Read = Callable[[str], np.ndarray]  # a tensor in memory, [B, H, W, C]


class Wrong(AssertionError):
    """A sample that is not what the reference says."""


@dataclass
class SpotCheck:
    """Compares ``samples`` of each operation of a step; ``checked`` counts results compared, by kind of operation."""

    program: Program
    tables: Tables
    step: int
    rows: np.ndarray  # of conditional tables, int [B]
    samples: int = 8
    seed: int = 0
    checked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.graph: Graph = self.program.graph

    def __call__(self, operation: Operation, read: Read) -> None:
        """After ``operation`` has run. Raises Wrong at the first sample that differs."""
        kind = type(operation.first).__name__
        for _ in range(self.samples):
            found, expected = self._sample(operation, read)
            if not np.array_equal(found, expected):
                raise Wrong(f"{operation.name} ({kind}): found {found.ravel()[:4]}, expected {expected.ravel()[:4]}")
            self.checked[kind] = self.checked.get(kind, 0) + found.size

    def _sample(self, operation: Operation, read: Read) -> tuple[np.ndarray, np.ndarray]:
        node = operation.first
        sample = int(self.random.integers(operation.first_sample, operation.first_sample + operation.samples))
        return operator_of(node).sample(_View(self, operation, sample, read), node)


class _View(SampleView):
    """One sample of an operation that has run."""

    def __init__(self, check: SpotCheck, operation: Operation, sample: int, read: Read):
        self.graph, self.tables, self.random = check.graph, check.tables, check.random
        self.inputs = [read(name)[sample] for name in operation.first.inputs]
        self.result = read(operation.name)[sample]
        self._step, self._rows = check.step, check.rows[sample : sample + 1]
        self._fused = operation.nodes[1:]

    def _step_tables(self, node: Node) -> StepTables:
        return StepTables(self.tables, node.name, self._step, self.graph.group_of_step[self._step], self._rows)

    def table(self, node: Node, name: str, per_sample: bool = False) -> np.ndarray:
        row = self._step_tables(node).row(name, per_sample)
        return row[0] if per_sample else row

    def run(self, node: Node, operands: tuple[np.ndarray, ...]) -> np.ndarray:
        return node.run(operands, self._step_tables(node), self.graph.tensors[node.name])

    def follow(self, values: np.ndarray) -> np.ndarray:
        for node in self._fused:
            values = self.run(node, (values,))
        return values
