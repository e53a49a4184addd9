"""The two products of attention, Q . K and P . V."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arithmetic import requantize
from ..table_rule import TableRule, requantizer_rules
from ..tensor import Size, Tensor
from .node import LinearNode, Operands, StepTables, TableAxes
from .softmax import row_multipliers


@dataclass(frozen=True)
class MatMul(LinearNode):
    """Attention product per head. Tables: multiplier, shift.

    ``scores``: inputs Q, K of (tokens, channels) -> (windows * heads, queries, keys);
    otherwise inputs P of (windows * heads, queries, keys), a Softmax's, and V -> the (height, width) of the queries' image x
    channels: means of V weighted with P, each divided by the sum of its row of P.

    Tokens come in ``windows``, each of which attends to itself alone: token t of window i is pixel ``i * tokens + t``, or, if
    ``interleaved``, ``t * windows + i`` (of stored frames the first is attention within, the second between frames).
    """

    inputs_expected = 2

    heads: Size = 1
    scores: bool = True
    image: tuple[Size, Size] = (1, 1)
    windows: Size = 1
    interleaved: bool = False

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        left, right = inputs
        tokens, depth, instances = right.shape[0] * right.shape[1], right.shape[2], self.windows * self.heads
        if depth % self.heads:
            raise ValueError(f"{self.name}: {depth} channels cannot be cut into {self.heads} heads")
        if tokens % self.windows:
            raise ValueError(f"{self.name}: {tokens} tokens cannot be cut into {self.windows} windows")
        keys = tokens // self.windows
        if self.scores:
            queries = left.shape[0] * left.shape[1]
            if left.shape[2] != depth:
                raise ValueError(f"{self.name}: Q has {left.shape[2]} channels, K {depth}, expected the same")
            if queries % self.windows:
                raise ValueError(f"{self.name}: {queries} queries cannot be cut into {self.windows} windows")
            return instances, queries // self.windows, keys
        if left.shape[0] != instances or left.shape[2] != keys:
            raise ValueError(f"{self.name}: P has shape {left.shape}, expected ({instances}, queries, {keys})")
        if math.prod(self.image) != self.windows * left.shape[1]:
            raise ValueError(
                f"{self.name}: an image of {self.image} does not hold {self.windows} x {left.shape[1]} queries"
            )
        return *self.image, depth

    def products_of_a_sum(self, inputs: Sequence[Tensor]) -> int:
        inner = inputs[0].shape[2]
        return inner // self.heads if self.scores else inner

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        return requantizer_rules(axes.groups)

    def products(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        if self.scores:
            return attention_scores(operands[0], operands[1], *self._windows)
        return self._as_image(attention_mix(operands[0], operands[1], *self._windows))

    def products_of_differences(
        self, operands: Operands, before: Operands, tables: StepTables, output: Tensor
    ) -> np.ndarray:
        """Two sub-operations: dA . B_prev + A . dB."""
        first = self.products((operands[0] - before[0], before[1]), tables, output)
        return first + self.products((operands[0], operands[1] - before[1]), tables, output)

    def products_in_chains(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        rows = split_heads(operands[0], *self._windows) if self.scores else operands[0]
        columns = split_heads(operands[1], *self._windows)
        differences = np.diff(rows, axis=2, prepend=0)  # [B, windows * heads, queries, ...]
        sums = (differences @ (columns.swapaxes(2, 3) if self.scores else columns)).cumsum(axis=2)
        return sums if self.scores else self._as_image(join_heads(sums, *self._windows))

    def finish(self, sums: np.ndarray, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        multiplier = tables.row("multiplier")
        if not self.scores:
            multiplier = self._mix_multipliers(operands[0], int(multiplier), output.shape[2])
        return requantize(sums, multiplier, tables.row("shift"), output.limits)

    def _mix_multipliers(self, p: np.ndarray, multiplier: int, channels: int) -> np.ndarray:
        """The multiplier of every result [B, height, width, C]: that of its query's row."""
        rows = np.repeat(row_multipliers(p, multiplier), channels // self.heads, axis=3)
        return self._as_image(join_heads(rows, *self._windows))

    def _as_image(self, tokens: np.ndarray) -> np.ndarray:
        return tokens.reshape(len(tokens), *self.image, -1)

    @property
    def _windows(self) -> tuple[int, int, bool]:
        return self.heads, self.windows, self.interleaved


def attention_scores(
    q: np.ndarray, k: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False
) -> np.ndarray:
    """Q [B, H, W, C] times K transposed, per window and head -> [B, windows * heads, queries, keys]."""
    return split_heads(q, heads, windows, interleaved) @ split_heads(k, heads, windows, interleaved).swapaxes(2, 3)


def attention_mix(p: np.ndarray, v: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """P [B, windows * heads, queries, keys] times V [B, H, W, C] -> [B, windows * queries, C]."""
    mixed = np.asarray(p, np.int64) @ split_heads(v, heads, windows, interleaved)
    return join_heads(mixed, heads, windows, interleaved)


def split_heads(x: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """[B, H, W, C] -> [B, windows * heads, tokens of a window, C / heads]."""
    batch, channels = len(x), x.shape[3]
    tokens = x.shape[1] * x.shape[2] // windows
    x = np.asarray(x, np.int64).reshape(batch, *((tokens, windows) if interleaved else (windows, tokens)), heads, -1)
    x = x.swapaxes(1, 2) if interleaved else x
    return x.transpose(0, 1, 3, 2, 4).reshape(batch, windows * heads, tokens, channels // heads)


def join_heads(x: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """The inverse: [B, windows * heads, tokens, depth] -> [B, windows * tokens, heads * depth]."""
    batch, _, tokens, depth = x.shape
    x = x.reshape(batch, windows, heads, tokens, depth).transpose(0, 1, 3, 2, 4)
    x = x.swapaxes(1, 2) if interleaved else x
    return x.reshape(batch, windows * tokens, heads * depth)


OPERATORS = (MatMul,)
