"""The choice among references, which the Defo unit makes for every layer (Ditto, HPCA 2025)."""

from __future__ import annotations

from .kind import LinearWork, Reference, ReferenceKind, T
from .neighbour import NEIGHBOUR
from .previous_step import PREVIOUS_STEP
from .zero import ZERO


class Choice(ReferenceKind):
    """Whichever of the candidates took fewest cycles when it was tried, each for one of a run's first steps."""

    def of(self, work: LinearWork[T]) -> T:
        raise ValueError(f"found reference {self.reference!r}, expected what Defo has decided for")

    def asked_at(self, position: int) -> Reference:
        return self.candidates[position].reference if position < len(self.candidates) else self.reference


DEFO = Choice(
    Reference.DEFO,
    "defo",
    "each layer's cheaper one of zero and the previous step",
    keeps=True,
    candidates=(ZERO, PREVIOUS_STEP),
)
DEFO_PLUS = Choice(
    Reference.DEFO_PLUS,
    "defo+",
    "each layer's cheapest of these three",
    keeps=True,
    candidates=(ZERO, PREVIOUS_STEP, NEIGHBOUR),
)
