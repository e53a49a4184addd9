"""Is a large model's run right? Samples of every operation's result against the reference, from the operands in memory.

The reference is slow: a whole step of Stable Diffusion would take it hours. A sample of a linear operation is the dot product of
one window, in int64; of a vector operation a pixel, a row, or a group of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...hls.contract import operators
from ...hls.contract.arithmetic import requantize
from ...hls.contract.graph import Graph
from ...hls.contract.operators import AveragePool, Convolution, GroupNorm, MatMul, Node, StepTables, Upsample
from ...hls.contract.tensor import Tables
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
        node, result = operation.first, read(operation.name)
        sample = int(self.random.integers(operation.first_sample, operation.first_sample + operation.samples))
        inputs = [read(name)[sample] for name in node.inputs]
        if isinstance(node, Convolution):
            return self._convolution(node, sample, inputs[0], result[sample])
        if isinstance(node, MatMul):
            return self._product(node, inputs, result[sample])
        if isinstance(node, GroupNorm):
            return self._group(operation, node, sample, inputs[0], result[sample])
        if isinstance(node, (Upsample, AveragePool)):
            return self._moved(node, sample, inputs[0], result[sample])
        y, x = (int(self.random.integers(size)) for size in result.shape[1:3])
        pixels = tuple(tensor[y : y + 1, x : x + 1][None].astype(np.int64) for tensor in inputs)
        expected = self._follow(operation, sample, self._of_pixel(node, sample, pixels))
        return result[sample, y, x].astype(np.int64), expected[0, 0, 0]

    def _table(self, node: Node, name: str, sample: int, by_sample: bool = False) -> np.ndarray:
        table = self.tables[f"{node.name}.{name}"]
        return table[self.step][self.rows[sample]] if by_sample else table[self.graph.group_of_step[self.step]]

    def _convolution(
        self, node: Convolution, sample: int, x: np.ndarray, result: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        row, column = (int(self.random.integers(size)) for size in result.shape[:2])
        top, left = row * node.stride[0] - node.padding[0], column * node.stride[1] - node.padding[2]
        window = np.zeros((*node.kernel, x.shape[2]), np.int64)
        for ky in range(node.kernel[0]):
            for kx in range(node.kernel[1]):
                if 0 <= top + ky < x.shape[0] and 0 <= left + kx < x.shape[1]:
                    window[ky, kx] = x[top + ky, left + kx]
        outputs = self.random.integers(result.shape[2], size=4)
        weight = self.tables[f"{node.name}.weight"][outputs].astype(np.int64)
        sums = (weight * window).sum(axis=(1, 2, 3)) + self._table(node, "bias", sample, node.conditional)[outputs]
        multiplier = self._table(node, "multiplier", sample, node.gated)[outputs]
        low, high = self.graph.tensors[node.name].limits
        expected = requantize(sums, multiplier, self._table(node, "shift", sample), (0 if node.relu else low, high))
        return result[row, column, outputs].astype(np.int64), expected

    def _product(self, node: MatMul, inputs: list[np.ndarray], result: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        windows = (node.heads, node.windows, node.interleaved)
        instance = int(self.random.integers(node.heads * node.windows))
        right = _instance(inputs[1], instance, *windows)
        left = _instance(inputs[0], instance, *windows) if node.scores else inputs[0][instance]
        query = int(self.random.integers(len(left)))
        sums = left[query].astype(np.int64) @ (right.T if node.scores else right).astype(np.int64)
        found = result[instance, query] if node.scores else _instance(result, instance, *windows)[query]
        multiplier = self._table(node, "multiplier", 0)
        if not node.scores:
            multiplier = operators.softmax.row_multipliers(left[query], int(multiplier))
        expected = requantize(sums, multiplier, self._table(node, "shift", 0), self.graph.tensors[node.name].limits)
        return found.astype(np.int64), expected

    def _group(
        self, operation: Operation, node: GroupNorm, sample: int, x: np.ndarray, result: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        size = x.shape[2] // node.groups
        first = size * int(self.random.integers(node.groups))
        channels = slice(first, first + size)
        gain, offset = (self._table(node, name, sample, node.conditional)[channels] for name in ("gain", "offset"))
        numbers = [int(self._table(node, name, sample)) for name in ("gain_bits", "epsilon")]
        normalized = operators.norm.group_norm(x[None, :, :, channels], 1, gain[None], offset[None], *numbers)
        expected = self._follow(operation, sample, normalized)[0, ..., :size]
        return result[..., channels].astype(np.int64), expected

    def _moved(
        self, node: Upsample | AveragePool, sample: int, x: np.ndarray, result: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        row, column = (int(self.random.integers(size)) for size in result.shape[:2])
        if isinstance(node, Upsample):
            return result[row, column], x[row // node.factor, column // node.factor]
        window = x[row * node.size : (row + 1) * node.size, column * node.size : (column + 1) * node.size]
        return result[row, column].astype(np.int64), self._of_pixel(node, sample, (window[None],))[0, 0, 0]

    def _of_pixel(self, node: Node, sample: int, pixels: tuple[np.ndarray, ...]) -> np.ndarray:
        """What a node that looks at one pixel, or one row, at a time makes of [1, 1, 1, C]."""
        group, labels = self.graph.group_of_step[self.step], self.rows[sample : sample + 1]
        tables = StepTables(self.tables, node.name, self.step, group, labels)
        return node.run(pixels, tables, self.graph.tensors[node.name])

    def _follow(self, operation: Operation, sample: int, x: np.ndarray) -> np.ndarray:
        """What is fused to the first node."""
        for node in operation.nodes[1:]:
            x = self._of_pixel(node, sample, (x,))
        return x


def _instance(x: np.ndarray, instance: int, heads: int, windows: int, interleaved: bool) -> np.ndarray:
    """[H, W, C] -> [tokens, depth] of one window and head, without copying the others."""
    window, head = divmod(instance, heads)
    depth = x.shape[2] // heads
    tokens = x.reshape(-1, x.shape[2])[:, head * depth : (head + 1) * depth]
    count = len(tokens) // windows
    return tokens[window::windows] if interleaved else tokens[window * count : (window + 1) * count]
