"""What every operator says of itself: its inputs and their kinds, the shape of its result, its tables, and how it computes.

Arrays are int64 and batched: codes and values [B, H, W, C], logits and probabilities [B, windows * heads, queries, keys].
Integer tables lie beside the graph under ``"<node>.<table>"``; their first axis is the step group. A *conditional* table
depends on step and label instead and is shaped [steps, labels, channels].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...common.schema import Name, Text, show
from ..formats import WEIGHT_BITS
from ..table_rule import TableRule
from ..tensor import CODE, VALUE, Tables, Tensor

Operands = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class TableAxes:
    """What tables depend on: how many step ``groups``, ``steps`` and ``labels`` a graph has."""

    groups: int
    steps: int
    labels: int

    def rows(self, conditional: bool, channels: int) -> tuple[int, ...]:
        """Shape of a table of every channel."""
        return (self.steps, self.labels, channels) if conditional else (self.groups, channels)


@dataclass(frozen=True)
class StepTables:
    """The ``tables`` of the operator ``node`` as one ``step`` of samples with ``labels`` int [B] reads them."""

    tables: Tables
    node: str
    step: int
    group: int
    labels: np.ndarray

    def whole(self, name: str) -> np.ndarray:
        return self.tables[f"{self.node}.{name}"]

    def row(self, name: str, conditional: bool = False) -> np.ndarray:
        """[...] of the step's group, or [B, ...] of the step and each sample's label."""
        return self.whole(name)[self.step][self.labels] if conditional else self.whole(name)[self.group]

    def scalar(self, name: str) -> int:
        return int(self.whole(name)[self.group])


@dataclass(frozen=True)
class Node(ABC):
    """Base of all operators. ``name`` is unique and is also the output tensor's name; ``module`` the module path."""

    inputs_expected: ClassVar[int] = 1
    takes_more: ClassVar[bool] = False  # than those inputs
    is_stored: ClassVar[bool] = True  # its result is computed, and not just its inputs side by side

    name: Name
    module: Text
    inputs: tuple[Name, ...]

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        """Shape of the result; ``channels`` is what a convolution's weight says. ValueError where inputs do not fit."""
        if any(tensor.shape != inputs[0].shape for tensor in inputs):
            raise ValueError(f"{self.name}: found shapes {show([t.shape for t in inputs])}, expected equal ones")
        return inputs[0].shape

    def check_kinds(self, inputs: list[str], output: str) -> None:
        """ValueError where ``inputs`` and ``output`` are not of the kinds that the operator takes and gives."""
        if {*inputs, output} != {VALUE}:
            raise ValueError(f"{self.name}: found {inputs} -> {output}, expected values")

    def check(self, inputs: list[Tensor], output: Tensor) -> None:
        """ValueError where number, shapes or kinds are not the operator's."""
        count, kind = self.inputs_expected, type(self).__name__
        if len(inputs) < count or (len(inputs) > count and not self.takes_more):
            expected = f"{'at least ' if self.takes_more else ''}{count}"
            raise ValueError(f"{self.name}: found {len(inputs)} inputs of a {kind}, expected {expected}")
        shape = self.output_shape(inputs, output.shape[2])
        if output.shape != shape:
            raise ValueError(f"{self.name}: found output shape {output.shape}, expected {shape}")
        self.check_kinds([tensor.kind for tensor in inputs], output.kind)

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        """The rule of every table, by its name. ValueError for sizes that no table could make right."""
        return {}

    def check_tables(self, tables: Tables) -> None:
        """ValueError for what no single table's rule says: of most operators nothing."""
        return None

    @property
    def depends_on_step(self) -> bool:
        """Whether tables differ from step to step within a step group."""
        return False

    @abstractmethod
    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        """The result of this operator, by the contract."""


class LinearNode(Node):
    """An operator on the linear unit: sums of products of codes, exact in int32, then requantized.

    The sums can go on from others, for they are linear: ``acc_ref + W . (q - q_ref)``, whatever the reference is.
    """

    weight_table: ClassVar[str | None] = None  # int8 [O, kh, kw, I], of an operator that has weights
    weight_bits: int = WEIGHT_BITS

    @abstractmethod
    def products_of_a_sum(self, inputs: Sequence[Tensor]) -> int:
        """How many products each sum has."""

    def weights(self, tables: Tables) -> np.ndarray | None:
        """Its weights, if it has any."""
        return None if self.weight_table is None else tables[f"{self.name}.{self.weight_table}"]

    def check_kinds(self, inputs: list[str], output: str) -> None:
        if set(inputs) != {CODE}:
            raise ValueError(f"{self.name}: found inputs of kind {inputs}, expected codes")

    @abstractmethod
    def products(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        """The sums, [B, *shape of the result]."""

    @abstractmethod
    def products_of_differences(
        self, operands: Operands, before: Operands, tables: StepTables, output: Tensor
    ) -> np.ndarray:
        """What the sums of ``operands`` have more than those of ``before``, by products of differences only."""

    @abstractmethod
    def products_in_chains(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        """The sums, every output pixel or token from the one before it (:mod:`..spatial`)."""

    @abstractmethod
    def finish(self, sums: np.ndarray, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        """The result of ``sums``."""

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return self.finish(self.products(operands, tables, output), operands, tables, output)
