"""Is a large model's run right? Samples of every operation's result against the reference, from the operands in memory.

The reference is slow: a whole step of Stable Diffusion would take it hours. A sample of a linear operation is the dot product of
one window, in int64; of a vector operation a pixel, a row, or a group of channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...hls.contract import reference
from ...hls.contract.arithmetic import CODE_RANGE, VALUE_RANGE, quantize_in_two_parts, requantize
from ...hls.contract.graph import (
    CODE,
    GELU,
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
    ReLU,
    SiLU,
    Softmax,
    Tables,
    Upsample,
)
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
            return self._moved(node, inputs[0], result[sample])
        y, x = (int(self.random.integers(size)) for size in result.shape[1:3])
        pixels = [tensor[y : y + 1, x : x + 1][None].astype(np.int64) for tensor in inputs]
        found = self._follow(operation, self._of_pixel(node, sample, pixels))
        return result[sample, y, x].astype(np.int64), found[0, 0, 0]

    def _table(self, node: Node, name: str, sample: int, by_sample: bool = False) -> np.ndarray:
        table = self.tables[f"{node.name}.{name}"]
        return table[self.step][self.rows[sample]] if by_sample else table[self.graph.group_of_step[self.step]]

    def _limits(self, name: str) -> tuple[int, int]:
        return CODE_RANGE if self.graph.tensors[name].kind == CODE else VALUE_RANGE

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
        low, high = self._limits(node.name)
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
            multiplier = reference.row_multipliers(left[query], int(multiplier))
        expected = requantize(sums, multiplier, self._table(node, "shift", 0), self._limits(node.name))
        return found.astype(np.int64), expected

    def _group(
        self, operation: Operation, node: GroupNorm, sample: int, x: np.ndarray, result: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        size = x.shape[2] // node.groups
        first = size * int(self.random.integers(node.groups))
        channels = slice(first, first + size)
        gain, offset = (self._table(node, name, sample, node.conditional)[channels] for name in ("gain", "offset"))
        numbers = [int(self._table(node, name, sample)) for name in ("gain_bits", "epsilon")]
        normalized = reference.group_norm(x[None, :, :, channels], 1, gain[None], offset[None], *numbers)
        expected = self._follow(operation, normalized)[0, ..., :size]
        return result[..., channels].astype(np.int64), expected

    def _moved(self, node: Upsample | AveragePool, x: np.ndarray, result: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column = (int(self.random.integers(size)) for size in result.shape[:2])
        if isinstance(node, Upsample):
            return result[row, column], x[row // node.factor, column // node.factor]
        window = x[row * node.size : (row + 1) * node.size, column * node.size : (column + 1) * node.size]
        numbers = [int(self._table(node, name, 0)) for name in ("multiplier", "shift")]
        return result[row, column].astype(np.int64), reference.average_pool(window[None], node.size, *numbers)[0, 0, 0]

    def _of_pixel(self, node: Node, sample: int, pixels: list[np.ndarray]) -> np.ndarray:
        """The first node of a chain, of [1, 1, 1, C]."""
        x = pixels[0]
        if isinstance(node, LayerNorm):
            gain, offset = (self._table(node, name, sample, node.conditional)[None] for name in ("gain", "offset"))
            numbers = [int(self._table(node, name, sample)) for name in ("gain_bits", "epsilon")]
            return reference.layer_norm(x, gain, offset, *numbers)
        if isinstance(node, Softmax):
            numbers = [int(self._table(node, name, 0)) for name in ("multiplier", "shift")]
            return reference.softmax(x, *numbers)
        if isinstance(node, Multiply):
            numbers = [int(self._table(node, name, 0)) for name in ("multiplier", "shift")]
            return reference.multiply(pixels[0], pixels[1], *numbers)
        if isinstance(node, Add):
            factors, shift = self._table(node, "multiplier", 0).astype(np.int64), self._table(node, "shift", 0)
            total = pixels[0] * factors[0] + pixels[1] * factors[1]
            return reference.saturate(reference.round_shift(total, shift), VALUE_RANGE)
        return self._elementwise(node, x)

    def _elementwise(self, node: Node, x: np.ndarray) -> np.ndarray:
        if isinstance(node, SiLU):
            return reference.silu(x, node.fraction_bits)
        if isinstance(node, GELU):
            return reference.gelu(x, node.fraction_bits)
        if isinstance(node, ReLU):
            return reference.relu(x)
        assert isinstance(node, Quantize)
        multiplier, shift = int(self._table(node, "multiplier", 0)), int(self._table(node, "shift", 0))
        if node.fine:
            return quantize_in_two_parts(x, multiplier, shift)
        return requantize(x, multiplier, shift, CODE_RANGE)

    def _follow(self, operation: Operation, x: np.ndarray) -> np.ndarray:
        """What is fused to the first node."""
        for node in operation.nodes[1:]:
            x = self._elementwise(node, x)
        return x


def _instance(x: np.ndarray, instance: int, heads: int, windows: int, interleaved: bool) -> np.ndarray:
    """[H, W, C] -> [tokens, depth] of one window and head, without copying the others."""
    window, head = divmod(instance, heads)
    depth = x.shape[2] // heads
    tokens = x.reshape(-1, x.shape[2])[:, head * depth : (head + 1) * depth]
    count = len(tokens) // windows
    return tokens[window::windows] if interleaved else tokens[window * count : (window + 1) * count]
