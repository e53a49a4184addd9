"""What every reference says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reference(IntEnum):
    """The numbers of references, in scalars, counter records and Defo's table."""

    ZERO = 0
    PREVIOUS_STEP = 1
    NEIGHBOUR = 2
    DEFO = 3
    DEFO_PLUS = 4


class LinearWork(Protocol[T_co]):
    """Something that is done with the operands of a linear operator, in one way for each thing they are subtracted from."""

    def from_zero(self) -> T_co:
        """With the codes themselves."""

    def from_previous_step(self) -> T_co:
        """With their differences to the kept codes of the step before, going on from its kept sums."""

    def from_neighbour(self) -> T_co:
        """With the differences to the pixel or token before, going on from its sums (:mod:`..spatial`)."""


@dataclass(frozen=True)
class ReferenceKind(ABC):
    """A reference: its number, the name of the execution flow that asks for it, and one line of help.

    ``column`` of Defo's table has the cycles that it took. ``keeps``: whether its flow keeps operands and sums for the step that
    follows; ``adds_kept``: whether it goes on from those of the step before; ``in_chains``: whether it goes on from sums of the
    same step. ``candidates``: among which references the Defo unit chooses, for those that leave it the choice.
    """

    reference: Reference
    flow: str
    help: str
    column: str | None = None
    keeps: bool = False
    adds_kept: bool = False
    in_chains: bool = False
    candidates: tuple[ReferenceKind, ...] = ()

    @abstractmethod
    def of(self, work: LinearWork[T]) -> T:
        """Do the work by this reference; ValueError where Defo must decide first."""

    def asked_at(self, position: int) -> Reference:
        """What linear operators are asked to refer to ``position`` steps after a run began."""
        return self.reference
