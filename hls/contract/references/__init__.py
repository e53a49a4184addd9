"""What operands of linear operators are subtracted from, so that only differences are multiplied: a file each.

A new reference is a file here with its number in :class:`.kind.Reference`, its line in ``KINDS`` and, in everything that works on
linear operators (:class:`.kind.LinearWork`), the method that its ``of`` calls: ``hls/README.md`` names them all.
"""

from __future__ import annotations

from .choice import DEFO, DEFO_PLUS, Choice
from .kind import LinearWork, Reference, ReferenceKind
from .neighbour import NEIGHBOUR
from .previous_step import PREVIOUS_STEP
from .zero import ZERO

__all__ = [
    "DEFO",
    "DEFO_PLUS",
    "KINDS",
    "NEIGHBOUR",
    "PREVIOUS_STEP",
    "ZERO",
    "Choice",
    "LinearWork",
    "Reference",
    "ReferenceKind",
    "kind_of",
]

KINDS: dict[Reference, ReferenceKind] = {
    kind.reference: kind for kind in (ZERO, PREVIOUS_STEP, NEIGHBOUR, DEFO, DEFO_PLUS)
}


def kind_of(reference: int) -> ReferenceKind:
    """The reference that has this number; ValueError for a number that none has."""
    return KINDS[Reference(reference)]
