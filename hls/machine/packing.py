"""Weights as the weight banks hold them: [tile, chunk, tap, word, lane, output channel of the tile], int8, zeros where none.

Lane j of a chunk takes its channels c with ``c % lanes == j``; a word is the channels ``word * lanes ... + lanes - 1`` of the
chunk. Chunks start at multiples of the lanes, so words do not depend on them: the order is [tile, chunk, tap, word of chunk].
"""

from __future__ import annotations

import numpy as np

from ..contract.arithmetic import ceil_divide
from .config import HardwareConfig


def packed_size(config: HardwareConfig, shape: tuple[int, ...]) -> int:
    """The bytes of packed weights of ``shape`` [O, kh, kw, I]."""
    outputs, height, width, channels = shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    return tiles * height * width * words * config.lanes * config.oc_tile


def pack_weights(config: HardwareConfig, weight: np.ndarray, chunk_channels: int) -> np.ndarray:
    """Weights int8 [O, kh, kw, I] as the weight banks hold them, int8 [packed_size], in chunks of ``chunk_channels``."""
    outputs, height, width, channels = weight.shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    padded = np.zeros((tiles * config.oc_tile, height * width, words * config.lanes), np.int8)
    padded[:outputs, :, :channels] = weight.reshape(outputs, height * width, channels)
    banks = padded.reshape(tiles, config.oc_tile, height * width, words, config.lanes).transpose(0, 2, 3, 4, 1)
    step = ceil_divide(chunk_channels, config.lanes)
    pieces = [banks[tile, :, first : first + step].ravel() for tile in range(tiles) for first in range(0, words, step)]
    return np.concatenate(pieces)


def unpack_weights(
    config: HardwareConfig, packed: np.ndarray, shape: tuple[int, ...], chunk_channels: int
) -> np.ndarray:
    """Weights int8 [O, kh, kw, I] of ``shape`` that were packed by :func:`pack_weights`."""
    outputs, height, width, channels = shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    banks = np.empty((tiles, height * width, words, config.lanes, config.oc_tile), np.int8)
    step = ceil_divide(chunk_channels, config.lanes)
    offset = 0
    for tile in range(tiles):
        for first in range(0, words, step):
            piece = banks[tile, :, first : first + step]
            piece[...] = packed[offset : offset + piece.size].reshape(piece.shape)
            offset += piece.size
    weight = banks.transpose(0, 4, 1, 2, 3).reshape(tiles * config.oc_tile, height, width, words * config.lanes)
    return np.ascontiguousarray(weight[:outputs, :, :, :channels])
