"""Which channels of a group stay: by kernel representatives (REPrune), or by the usual scores, which are its baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .clusters import cluster_kernels
from .coverage import Structure, best_of_cells, cover


@dataclass(frozen=True)
class Filters:
    """The filters of a group's channels. ``kernels`` of each layer that writes them, float [channels, input channels, taps];
    ``gradients`` of the loss in the same shapes, where a criterion asks for them."""

    kernels: tuple[np.ndarray, ...]
    structure: Structure
    gradients: tuple[np.ndarray, ...] | None = None


Criterion = Callable[[Filters, int, np.random.Generator], np.ndarray]
"""Gives the channels to keep, sorted, of which there shall be so many; ties are broken at random."""


def representatives(filters: Filters, keep: int, random: np.random.Generator) -> np.ndarray:
    """REPrune (AAAI 2024, algorithm 1): the filters that cover most clusters of kernels. Layers that write the same channels each
    have a cut-off height of their own, and all their clusters count."""
    labels, first = [], 0
    for kernels in filters.kernels:
        labels.append(cluster_kernels(kernels, keep) + first)
        first = int(labels[-1].max()) + 1
    return cover(np.concatenate(labels), filters.structure, keep, random)


def magnitude(filters: Filters, keep: int, random: np.random.Generator) -> np.ndarray:
    """The filters with the largest sums of magnitudes (L1: Li et al., ICLR 2017)."""
    return best_of_cells(
        _scores([np.abs(kernels) for kernels in filters.kernels], filters), filters.structure, keep, random
    )


def at_random(filters: Filters, keep: int, random: np.random.Generator) -> np.ndarray:
    """Any."""
    return best_of_cells(np.zeros(len(filters.structure.units)), filters.structure, keep, random)


def taylor(filters: Filters, keep: int, random: np.random.Generator) -> np.ndarray:
    """The filters whose weights change the loss most to first order, ``sum |w dL/dw|`` (Diff-Pruning, NeurIPS 2023)."""
    if filters.gradients is None:
        raise ValueError("found no gradients, which this criterion goes by")
    pairs = zip(filters.kernels, filters.gradients, strict=True)
    return best_of_cells(_scores([np.abs(w * g) for w, g in pairs], filters), filters.structure, keep, random)


def _scores(parts: list[np.ndarray], filters: Filters) -> np.ndarray:
    """The sum [U] over the weights of all writers and channels of a unit."""
    of_channels = sum(part.sum(axis=(1, 2)) for part in parts)
    return np.asarray(of_channels)[filters.structure.units].sum(axis=1)


CRITERIA: dict[str, Criterion] = {
    "reprune": representatives,
    "l1": magnitude,
    "random": at_random,
    "taylor": taylor,
}
