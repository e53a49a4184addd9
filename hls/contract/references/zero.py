"""Reference zero: the codes themselves are multiplied, as on any accelerator."""

from __future__ import annotations

from .kind import LinearWork, Reference, ReferenceKind, T


class Zero(ReferenceKind):
    """Nothing is subtracted, and nothing kept."""

    def of(self, work: LinearWork[T]) -> T:
        return work.from_zero()


ZERO = Zero(Reference.ZERO, "original", "reference zero", column="original_cycles")
