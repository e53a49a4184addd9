"""Beats of a memory port: what a run of bytes costs, as ``kernels/memory.hpp`` moves it."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Beats of runs of ``length`` bytes from byte ``offset`` on."""
    length = np.asarray(length)
    return np.where(length > 0, (offset + length - 1) // bus - offset // bus + 1, 0)


def merged_beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Those of them that the run fills only in part."""
    whole = np.maximum((offset + length) // bus - -(-offset // bus), 0)
    return beats(offset, length, bus) - whole
