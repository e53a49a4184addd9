"""The previous step: temporal differences (Ditto, HPCA 2025)."""

from __future__ import annotations

from .kind import LinearWork, Reference, ReferenceKind, T


class PreviousStep(ReferenceKind):
    """The operand's codes of the step before are subtracted; its sums go on from that step's. Both are kept for the next one."""

    def of(self, work: LinearWork[T]) -> T:
        return work.from_previous_step()

    def asked_at(self, position: int) -> Reference:
        return self.reference if position else Reference.ZERO  # before a run's first step there is none


PREVIOUS_STEP = PreviousStep(
    Reference.PREVIOUS_STEP,
    "difference",
    "previous step",
    column="difference_cycles",
    keeps=True,
    adds_kept=True,
)
