"""What a program or a parameter block is refused for: the accelerator's ERROR register has 1 + the index of the descriptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Refusal:
    """``reason``: what was expected of the descriptor ``index``, or of its scalars."""

    index: int
    reason: str


class Rules:
    """Collects what is required of all descriptors at once; the first descriptor that breaks a rule is refused."""

    def __init__(self) -> None:
        self._first: Refusal | None = None

    def require(self, legal: np.ndarray, reason: str) -> None:
        """``legal`` bool [n]."""
        if legal.all():
            return
        index = int(legal.argmin())
        if self._first is None or index < self._first.index:
            self._first = Refusal(index, reason)

    @property
    def refusal(self) -> Refusal | None:
        return self._first
