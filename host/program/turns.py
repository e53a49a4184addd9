"""Two halves of a batch take turns: while the linear unit works on one, the vector unit works on the other.

Both halves run the same operations in the same order, the first one always ahead. A *turn* is one operation alone, or a linear
operation of one half and a vector operation of the other at the same time. The order that takes least time by the estimates
given is found by dynamic programming over how far either half has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 12  # operations that the first half may be ahead


@dataclass(frozen=True)
class Turn:
    """(operation, half) of the linear unit's and the vector unit's work; None for a unit that has none."""

    linear: tuple[int, int] | None
    vector: tuple[int, int] | None


def take_turns(cycles: Sequence[float], is_linear: Sequence[bool]) -> tuple[list[Turn], float]:
    """Turns for two halves of which operation i takes ``cycles[i]``, and the time of them all."""
    count = len(cycles)
    best: dict[tuple[int, int], float] = {(count, count): 0.0}  # operations done by either half -> time that is left
    following: dict[tuple[int, int], tuple[int, int]] = {}
    for first in range(count, -1, -1):
        for second in range(first, max(first - WINDOW, 0) - 1, -1):
            if (first, second) == (count, count):
                continue
            choices = []
            if first < count and first - second < WINDOW:
                choices.append((cycles[first] + best[first + 1, second], (first + 1, second)))
            if second < first:
                choices.append((cycles[second] + best[first, second + 1], (first, second + 1)))
            if second < first < count and is_linear[first] != is_linear[second]:
                together = max(cycles[first], cycles[second])
                choices.append((together + best[first + 1, second + 1], (first + 1, second + 1)))
            best[first, second], following[first, second] = min(choices)
    turns, state = [], (0, 0)
    while state != (count, count):
        after = following[state]
        done = [(position, half) for half, position in enumerate(state) if after[half] > position]
        units: dict[bool, tuple[int, int]] = {is_linear[position]: (position, half) for position, half in done}
        turns.append(Turn(units.get(True), units.get(False)))
        state = after
    return turns, best[0, 0]
