"""Small numbers, as many in a byte as fit: the first one in the lowest bits."""

from __future__ import annotations

import numpy as np

from .arithmetic import ceil_divide


def join_numbers(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Signed numbers int8 [..., N] of ``bits`` bits, which divide 8, in bytes uint8 [..., ceil(N * bits / 8)]; what is left of
    the last byte is zero."""
    in_byte = 8 // bits
    missing = -numbers.shape[-1] % in_byte
    whole = np.concatenate([numbers, np.zeros((*numbers.shape[:-1], missing), numbers.dtype)], axis=-1)
    fields = whole.astype(np.uint8).reshape(*whole.shape[:-1], -1, in_byte) & ((1 << bits) - 1)
    shifted = fields << (bits * np.arange(in_byte, dtype=np.uint8))
    return np.asarray(shifted.sum(axis=-1, dtype=np.uint8))


def split_numbers(raw: np.ndarray, count: int, bits: int) -> np.ndarray:
    """The first ``count`` signed numbers int8 [..., count] of ``bits`` bits in bytes uint8 [..., ceil(count * bits / 8)]."""
    fields = raw[..., None] >> (bits * np.arange(8 // bits, dtype=np.uint8)) & ((1 << bits) - 1)
    numbers = fields.reshape(*raw.shape[:-1], -1)[..., :count].astype(np.int16)
    sign = 1 << (bits - 1)
    return ((numbers ^ sign) - sign).astype(np.int8)


def bytes_of(count: int, bits: int) -> int:
    """The bytes of ``count`` numbers of ``bits`` bits."""
    return ceil_divide(count * bits, 8)
