"""The pixel or token before: spatial differences (Diffy, MICRO 2018; Ditto+), walked as :mod:`..spatial` says."""

from __future__ import annotations

from .kind import LinearWork, Reference, ReferenceKind, T


class Neighbour(ReferenceKind):
    """The codes of the pixel before are subtracted; its sums go on from that pixel's. Nothing is kept from step to step."""

    def of(self, work: LinearWork[T]) -> T:
        return work.from_neighbour()


NEIGHBOUR = Neighbour(Reference.NEIGHBOUR, "spatial", "previous pixel", column="spatial_cycles", in_chains=True)
