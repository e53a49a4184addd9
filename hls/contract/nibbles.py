"""Numbers of 4 bits, two in a byte: the first of a pair in the low half."""

from __future__ import annotations

import numpy as np

from .formats import NARROW_WEIGHT_BITS, signed_range

RANGE = signed_range(NARROW_WEIGHT_BITS)


def join_nibbles(numbers: np.ndarray) -> np.ndarray:
    """Numbers int8 [..., N] in -8..7 -> bytes uint8 [..., ceil(N / 2)]; the last one's high half is zero where N is odd."""
    even = np.concatenate([numbers, np.zeros((*numbers.shape[:-1], numbers.shape[-1] % 2), numbers.dtype)], axis=-1)
    low, high = (even[..., first::2].astype(np.uint8) & 15 for first in (0, 1))
    return low | high << 4


def split_nibbles(raw: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` numbers int8 [..., count] of bytes uint8 [..., ceil(count / 2)]."""
    halves = np.stack([raw & 15, raw >> 4], axis=-1).reshape(*raw.shape[:-1], -1)[..., :count].astype(np.int8)
    return (halves ^ 8) - np.int8(8)
