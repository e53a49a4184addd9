"""Maximum cluster coverage: filters whose kernels stand for as many clusters as possible, greedily (REPrune, equations 6 and 7).

Without cells the greedy choice covers at least ``1 - 1/e`` of what the best one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Structure:
    """What channels may be chosen: ``units`` int [U, size], channels that stay or go together (those of an attention head);
    ``cells`` int [U], of which all lose the same share (those of a norm's group)."""

    units: np.ndarray
    cells: np.ndarray

    @staticmethod
    def free(channels: int, cells: int = 1, unit: int = 1) -> Structure:
        """Units of ``unit`` channels side by side, in ``cells`` equal cells side by side."""
        units = np.arange(channels).reshape(-1, unit)
        return Structure(units, np.repeat(np.arange(cells), len(units) // cells))

    def quota(self, keep: int) -> int:
        """How many units of each cell stay where ``keep`` channels do; ValueError where that is no whole number."""
        whole = self.units.shape[1] * (int(self.cells.max()) + 1)
        if keep < whole or keep % whole:
            raise ValueError(f"found {keep} channels to keep, expected a multiple of {whole}")
        return keep // whole

    def with_others(self, chosen: np.ndarray, more: int, random: np.random.Generator) -> np.ndarray:
        """The channels ``chosen``, and so many ``more`` at ``random`` of those that are not, as many of each cell; sorted."""
        if not more:
            return np.sort(chosen)
        gone = ~np.isin(self.units[:, 0], chosen)
        back = [
            random.choice(np.flatnonzero(gone & (self.cells == cell)), self.quota(more), replace=False)
            for cell in range(int(self.cells.max()) + 1)
        ]
        return np.sort(np.concatenate([chosen, self.units[np.concatenate(back)].ravel()]))


def best_of_cells(scores: np.ndarray, structure: Structure, keep: int, random: np.random.Generator) -> np.ndarray:
    """The channels of the units with the largest ``scores`` [U] in each cell, sorted; ties are broken at ``random``."""
    quota, order = structure.quota(keep), np.lexsort((random.permutation(len(scores)), -scores))
    chosen = [order[structure.cells[order] == cell][:quota] for cell in range(int(structure.cells.max()) + 1)]
    return np.sort(structure.units[np.concatenate(chosen)].ravel())


def cover(labels: np.ndarray, structure: Structure, keep: int, random: np.random.Generator) -> np.ndarray:
    """Channels to keep, sorted, by their clusters int [input channels, filters]: in turn the unit that covers most clusters which
    none has covered, of those whose cells are not full; ties are broken at ``random``."""
    room = np.full(int(structure.cells.max()) + 1, structure.quota(keep))
    covered, free = np.zeros(labels.max() + 1, bool), np.ones(len(structure.units), bool)
    priority = random.permutation(len(structure.units))
    chosen: list[int] = []
    of_units = labels[:, structure.units]  # [input channels, U, size]
    first = _first_of_unit(of_units)
    while room.any():
        gains = (first & ~covered[of_units]).sum(axis=(0, 2))
        open_units = free & (room[structure.cells] > 0)
        best = int(np.lexsort((priority, -gains, ~open_units))[0])
        chosen.append(best)
        free[best] = False
        room[structure.cells[best]] -= 1
        covered[of_units[:, best]] = True
    return np.sort(structure.units[chosen].ravel())


def _first_of_unit(clusters: np.ndarray) -> np.ndarray:
    """Which of a unit's kernels [..., size] are the first of their cluster: each counts once."""
    first = np.ones(clusters.shape, bool)
    for position in range(1, clusters.shape[-1]):
        first[..., position] = (clusters[..., :position] != clusters[..., position : position + 1]).all(axis=-1)
    return first


def coverage(labels: np.ndarray, kept: np.ndarray) -> float:
    """Share of all clusters that the kernels of filters ``kept`` are in."""
    return len(np.unique(labels[:, kept])) / len(np.unique(labels))
