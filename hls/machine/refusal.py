"""What a program or a parameter block is refused for: the accelerator's ERROR register has 1 + the index of the descriptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Refusal:
    """Why a program is refused. ``reason``: what was expected of the descriptor ``index``, or of its scalars."""

    index: int
    reason: str


class Rules:
    """Collects what is required of all descriptors at once; the first descriptor that breaks a rule is refused."""

    def __init__(self) -> None:
        self._first: Refusal | None = None

    def require(self, legal: np.ndarray, reason: str) -> None:
        """Refuse the first descriptor that is not ``legal`` bool [n], unless an earlier one is refused already."""
        if legal.all():
            return
        index = int(legal.argmin())
        if self._first is None or index < self._first.index:
            self._first = Refusal(index, reason)

    @property
    def refusal(self) -> Refusal | None:
        """What is refused, and why; None where every rule holds."""
        return self._first
