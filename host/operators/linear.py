"""What linear operators have in common: kept operands and sums, references, plans, products of the cost model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...hls.contract.graph import Graph
from ...hls.contract.operators import LinearNode
from ...hls.contract.references import LinearWork, kind_of
from ...hls.machine.config import HardwareConfig
from ...hls.machine.forms import Linear
from ...hls.machine.isa import Region
from ...hls.machine.plan import ProductShape
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts, Product
from ..counting.traffic import Array
from .execution import Execution
from .operator import Operator
from .places import Places

N = TypeVar("N", bound=LinearNode)
F = TypeVar("F", bound=Linear)


class LinearOperator(Operator[N, F]):
    """An operator of the linear unit."""

    shares_operand = False  # whether another one before it can keep the operand for both

    @abstractmethod
    def product_shapes(self, node: N, graph: Graph, samples: int, dense: bool) -> tuple[ProductShape, ...]:
        """What it multiplies, to be planned: one product, or with differences two. ``dense``: operand pixels have no gaps."""

    @abstractmethod
    def instances(self, node: N, samples: int) -> int:
        """How many products of these shapes there are."""

    @abstractmethod
    def products(self, form: F, scalars: np.void) -> list[Product]:
        """The products of a descriptor as the controller runs them (``Steps`` in kernels/steps.hpp), the written one first."""

    def keep_other_counts(self, config: HardwareConfig, form: F, scalars: np.void) -> Counts | None:
        """Counters of copying a second operand that no product keeps, if there is one."""
        return None

    @abstractmethod
    def encoded(self, form: F, config: HardwareConfig, now: Operands, before: Operands) -> LinearWork[list[Encoded]]:
        """The digits of operands as :meth:`as_multiplied` has them, and had them in the step before."""

    @abstractmethod
    def alike(self, node: N) -> tuple[bool, ...]:
        """What nodes have in common that can lend each other digits."""

    def lent_instances(self, node: N, samples: int) -> int:
        """How many images the digits of ``samples`` are of."""
        return samples

    def lent_heads(self, node: N, graph: Graph) -> int | None:
        """How many heads of a large product of attention stand for all; None where there are none."""
        return None

    def lent_shape(self, node: N, graph: Graph, position: int, heads: int | None) -> tuple[int, int, int]:
        """The shape of an operand, of so many heads, that another node lends."""
        return graph.tensors[node.inputs[position]].shape

    def as_multiplied(self, node: N, operands: Operands, heads: int | None) -> Operands:
        """Operands [B, H, W, C] as the linear unit sees them."""
        return operands

    def fields(self, node: N, places: Places) -> dict[str, int]:
        plan = places.plans[node.name][0]
        state_input, span = places.kept_operand(node, 0)
        return {
            "block_rows": plan.block_rows,
            "chunk_channels": plan.chunk_channels,
            "pass_tiles": plan.pass_tiles,
            "segment_pixels": plan.segment_pixels,
            "state_input": state_input,
            "state_input_span": span,
            "state_accumulators": places.accumulators(node),
        }


Operands = tuple[np.ndarray, ...]  # codes of a linear operator's one or two operands


@dataclass(frozen=True)
class KeptOperand:
    """An operand's codes in STATE, of even and of odd steps; ``view(parity)`` is not called where nothing is kept."""

    view: Callable[[int], np.ndarray]

    def now(self, scalars: np.void) -> np.ndarray:
        """Where this step's operand is kept."""
        return self.view(int(scalars["parity"]))

    def before(self, scalars: np.void) -> np.ndarray:
        """The operand of the step before."""
        return self.view(1 - int(scalars["parity"]))


def kept_offsets(start: int, span: int, scalars: np.void, offset: Array) -> tuple[Array, Array]:
    """Byte offsets of this step's kept operand and of the previous step's."""
    even, odd = start + offset, start + span + offset
    return (odd, even) if scalars["parity"] else (even, odd)


class LinearExecution(Execution[F]):
    """An operation of the linear unit: it multiplies what its reference says, and counts the digits of that."""

    sums_shape: tuple[int, ...]  # of a sample's accumulators

    def state(self, offset: int, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Something kept of every sample."""
        return self.memory.view(Region.STATE, offset, dtype, (self.form.batch, *shape))

    def kept(self, start: int, span: int, shape: tuple[int, ...]) -> KeptOperand:
        """The two places of an operand in STATE."""
        return KeptOperand(lambda parity: self.state(start + parity * span, np.int8, shape))

    @property
    def accumulators(self) -> np.ndarray:
        """The sums kept in STATE."""
        return self.state(self.form.state_accumulators, np.int32, self.sums_shape)

    def keep_sums(self, sums: np.ndarray, scalars: np.void) -> None:
        """Keep sums for the next step, where differences are really executed."""
        if scalars["keep_state"] and self.means.differences:
            self.accumulators[...] = sums

    def count(self, scalars: np.void, work: LinearWork[list[Encoded]]) -> list[Encoded]:
        """The digits of the operands by the step's reference; nothing where nothing is counted."""
        return kind_of(int(scalars["reference"])).of(work) if self.means.counting else []

    def sum(self, scalars: np.void, work: LinearWork[np.ndarray]) -> np.ndarray:
        """The sums by the step's reference, or, where differences are not really executed, those of the codes: they are equal."""
        return kind_of(int(scalars["reference"])).of(work) if self.means.differences else work.from_zero()
