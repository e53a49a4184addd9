"""When stages that overlap end."""

from __future__ import annotations

import numpy as np

from .traffic import Array


def overlapped(encode: Array, compute: Array, finish: Array, fill: int) -> Array:
    """Cycles [I] of three overlapping stages [I, phases], two buffers between two (``Timeline`` of ``kernels/linear.hpp``).

    ``fill``: how much later than it is free the second stage has its results.
    """
    if len(encode) == 1:  # plain integers are faster than arrays of one
        return np.array([_overlap(max, 0, encode[0].tolist(), compute[0].tolist(), finish[0].tolist(), fill)])
    return _overlap(np.maximum, np.zeros(len(encode), np.int64), encode.T, compute.T, finish.T, fill)


def _overlap(most, start, encode, compute, finish, fill):  # type: ignore[no-untyped-def]
    encoded = computed = computed_before = finished = finished_before = start
    for first, second, third in zip(encode, compute, finish, strict=True):
        encoded = most(encoded, computed_before) + first
        computed, computed_before = most(most(encoded, computed), finished_before) + second, computed
        finished, finished_before = most(computed + fill, finished) + third, finished
    return finished
