"""Beats of a memory port: what a run of bytes costs, as ``kernels/memory.hpp`` moves it."""

from __future__ import annotations

import numpy as np

from ...hls.machine.isa import READ_BEATS, WRITTEN_BEATS

Array = np.ndarray


def dram_beats(records: np.ndarray | np.void) -> Array:
    """int64, of all ports, for each of the counter records."""
    return np.asarray(sum(records[name].astype(np.int64) for name in (*READ_BEATS, *WRITTEN_BEATS)))


def beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Beats of runs of ``length`` bytes from byte ``offset`` on."""
    length = np.asarray(length)
    return np.where(length > 0, (offset + length - 1) // bus - offset // bus + 1, 0)


def merged_beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Beats that runs of ``length`` bytes from byte ``offset`` on fill only in part."""
    whole = np.maximum((offset + length) // bus - -(-offset // bus), 0)
    return beats(offset, length, bus) - whole
