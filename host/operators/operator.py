"""What the host knows of every operator: the descriptor and the scalars of a node, how it is executed, and what it costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import Node
from ...hls.contract.tensor import Tables
from ...hls.machine.config import HardwareConfig
from ...hls.machine.forms import Form
from ...hls.machine.isa import Flag, Opcode
from ..counting.product_cycles import Counts
from .execution import Execution
from .places import Places

N = TypeVar("N", bound=Node)
F = TypeVar("F", bound=Form)
Table = Callable[[Node, str], np.ndarray]  # the row of a node's table that a step group reads
INT32, INT64 = np.dtype("<i4"), np.dtype("<i8")


@dataclass(frozen=True)
class Vector:
    """A table that stands in the parameter block, of each channel: ``per_sample`` for every sample its own."""

    table: str
    per_sample: bool
    dtype: np.dtype = INT32


class Operator(ABC, Generic[N, F]):
    """One kind of node. What is asked of a whole operation is asked of all nodes that are fused in it, the first one first.

    ``form`` of its descriptor, ``execution`` of it; ``passes`` over its operands, for estimates alone. ``keeps_row``: whether the
    vector unit keeps a pixel's values, or a row, while it works; ``takes_activation`` and ``takes_quantizer``: whether one may be
    fused behind it.
    """

    opcodes: ClassVar[tuple[Opcode, ...]] = ()
    form: ClassVar[type[Form]] = Form
    execution: ClassVar[type[Execution[Any]]]
    passes: ClassVar[int] = 1
    keeps_row: ClassVar[bool] = False
    takes_activation: ClassVar[bool] = False
    takes_quantizer: ClassVar[bool] = False

    def execution_of(self, opcode: Opcode) -> type[Execution[Any]]:
        """How the emulator executes one of its opcodes."""
        return self.execution

    @abstractmethod
    def opcode(self, node: N) -> Opcode:
        """What the descriptor of an operation runs whose first node this is."""

    def flags(self, node: N, constant: frozenset[str]) -> Flag:
        """Its modifiers, besides the types of operand and result; ``constant``: tensors that never change."""
        return Flag(0)

    def fields(self, node: N, places: Places) -> dict[str, int]:
        """Numbers of the form that are its own."""
        return {}

    def vectors(self, node: N) -> tuple[Vector, ...]:
        """What stands in the parameter block for it."""
        return ()

    def scalars(self, node: N, table: Table) -> dict[str, np.ndarray]:
        """Its numbers in the record of scalars."""
        return {}

    def may_follow(self, before: Operator[Any, Any]) -> bool:
        """Whether it can be fused behind an operation that ends with ``before``."""
        return False

    def channel_groups(self, node: N) -> int:
        """In how many parts it can follow the parts of a convolution before it, at most; 0 where it cannot."""
        return 0

    def counts(self, config: HardwareConfig, form: F) -> Counts:
        """Counters of a descriptor for the vector unit, which no digits change."""
        raise TypeError(
            f"found {type(self).__name__}, expected an operator of the vector unit: this one has digits to count"
        )

    def sample(self, view: SampleView, node: N) -> tuple[np.ndarray, np.ndarray]:
        """A small part of a result at random, as it was found and as the contract has it."""
        y, x = view.random_pixel()
        pixels = tuple(tensor[y : y + 1, x : x + 1][None].astype(np.int64) for tensor in view.inputs)
        return view.result[y, x].astype(np.int64), view.follow(view.run(node, pixels))[0, 0, 0]


class SampleView(ABC):
    """One sample of an operation that has run: ``inputs`` and ``result`` [H, W, C], and what the contract makes of parts."""

    graph: Graph
    tables: Tables
    random: np.random.Generator
    inputs: list[np.ndarray]
    result: np.ndarray

    def random_pixel(self) -> tuple[int, int]:
        """Row and column of a pixel of the result."""
        row, column = (int(self.random.integers(size)) for size in self.result.shape[:2])
        return row, column

    @abstractmethod
    def table(self, node: Node, name: str, per_sample: bool = False) -> np.ndarray:
        """The row of a table that the sample reads."""

    @abstractmethod
    def run(self, node: Node, operands: tuple[np.ndarray, ...]) -> np.ndarray:
        """What the contract makes of operands [1, H, W, C]."""

    @abstractmethod
    def follow(self, values: np.ndarray) -> np.ndarray:
        """``values`` after what is fused behind the operation's first node."""


def merged(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """All numbers of an operation's nodes."""
    result: dict[str, Any] = {}
    for part in parts:
        result |= part
    return result
