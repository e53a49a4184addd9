"""What every operator says of itself to the quantizer: how it is traced, runs in floating point, becomes integers, and QONNX.

One object serves all nodes of its kind in all graphs and has no state. Arrays of the float run are float32: images [B, C, H, W],
logits and probabilities [B, windows * heads, queries, keys].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import ClassVar, Generic, TypeVar

import torch

from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.qonnx_step import QonnxStep

EITHER = "either"  # kind of tensor: codes where only operators that take codes read the result, else values
N = TypeVar("N", bound=Node)


class Operator(ABC, Generic[N]):
    """The quantizer's side of nodes ``N`` of the integer graph."""

    reads: ClassVar[str] = VALUE
    """Kind of its operands."""
    writes: ClassVar[str] = VALUE
    """Kind of its result."""
    scaled: ClassVar[tuple[str, ...]] = ()
    """Parameters that a factor of the result multiplies; none where it cannot be folded into them."""
    has_weights: ClassVar[bool] = False
    """Whether it is a layer with parameters ``weight`` [O, I, kh, kw] and ``bias``, that reads codes."""
    moves: ClassVar[bool] = False
    """Whether it changes no value: then its result has no range of its own."""
    keeps_scale: ClassVar[bool] = False
    """Whether its result has the scale of its operands."""
    fixed_scale: ClassVar[float | None] = None
    """Real value of one step of its result, where that is not calibrated."""

    @abstractmethod
    def run(self, node: N, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        """The result in floating point."""

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """A result of a fixed scale as the integers have it."""
        return x

    def check(self, node: N, graph: Graph, shared: Set[str]) -> None:
        """UnsupportedOperator for a node that has no integers whatever its numbers are; of most operators nothing. ``shared``:
        tensors that have to have the scale of another one."""
        return None

    def least_scales(
        self, node: N, graph: Graph, parameters: Mapping[str, torch.Tensor]
    ) -> Iterable[tuple[str, float]]:
        """Tensors of values, each with the least scale with which the node's parameters are integers of the contract.

        What is zero, or nearly, asks for less: layers that start at zero (an untrained conv_out, ControlNet's, adaLN-Zero's) and
        tensors that never change. With the least scale all that is lost of their values is below the steps of the result.
        """
        return ()

    def with_fixed_point(self, node: N, reach: Callable[[str], float]) -> tuple[N, float] | None:
        """Where operands and result have one scale, a power of two: the node that says so, and the scale. ``reach`` gives the
        magnitude up to which a tensor must be held."""
        return None

    def in_two_parts(self, node: N) -> N | None:
        """The node with codes in two parts, if it can have them and has not."""
        return None

    def lower(self, node: N, lowering: Lowering) -> None:
        """Put the node's integer tables, if it has some. UnsupportedOperator where integers do not hold them."""
        return None

    @abstractmethod
    def qonnx(self, node: N, inputs: Sequence[str], step: QonnxStep) -> str:
        """Name of the result of the tensors ``inputs``. UnsupportedOperator where ONNX has no form of it."""


class ConditionedOperator(Operator[N]):
    """An operator that conditioning folds into: its tables may have a row per step and label."""

    @abstractmethod
    def conditioned(self, node: N, operations: Sequence[str]) -> N:
        """The node with conditional tables. ``operations``, in their order: what conditioning does with its result, "add",
        "multiply" or "divide". UnsupportedOperator for an order that has no form."""

    @abstractmethod
    def folded(
        self,
        node: N,
        parameters: Mapping[str, torch.Tensor],
        terms: Sequence[tuple[str, torch.Tensor]],
        shape: tuple[int, ...],
    ) -> dict[str, torch.Tensor]:
        """Parameters of ``shape`` [steps, labels, C], by name, that do what ``terms`` ("add" or "multiply", [steps, labels, C])
        do with the result of the node's ``parameters``."""

    @abstractmethod
    def row_bytes(self, node: N) -> int:
        """Bytes of a channel in a row per step and label, at most, in all tables that have such rows."""
