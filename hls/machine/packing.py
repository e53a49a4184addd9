"""Weights as the weight banks hold them: [tile, chunk, tap, word, lane, output channel of the tile], zeros where there are none.

Lane j of a chunk takes its channels c with ``c % lanes == j``; a word is the channels ``word * lanes ... + lanes - 1`` of the
chunk. Chunks start at multiples of the lanes, so words do not depend on them: the order is [tile, chunk, tap, word of chunk]. The
output channels of a lane's word are a row of whole beats, with as many numbers in a byte as fit.
"""

from __future__ import annotations

import numpy as np

from ..contract.arithmetic import ceil_divide
from ..contract.formats import WEIGHT_BITS
from ..contract.packed_bits import bytes_of, join_numbers, split_numbers
from .config import HardwareConfig


def row_bytes(config: HardwareConfig, weight_bits: int) -> int:
    """Bytes of the weights of a tile's output channels for one input channel: whole beats."""
    return ceil_divide(bytes_of(config.oc_tile, weight_bits), config.bus_bytes) * config.bus_bytes


def packed_size(config: HardwareConfig, shape: tuple[int, ...], weight_bits: int = WEIGHT_BITS) -> int:
    """The bytes of packed weights of ``shape`` [O, kh, kw, I]."""
    outputs, height, width, channels = shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    return tiles * height * width * words * config.lanes * row_bytes(config, weight_bits)


def pack_weights(
    config: HardwareConfig, weight: np.ndarray, chunk_channels: int, weight_bits: int = WEIGHT_BITS
) -> np.ndarray:
    """Weights int8 [O, kh, kw, I] as the weight banks hold them, uint8 [packed_size], in chunks of ``chunk_channels``."""
    outputs, height, width, channels = weight.shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    padded = np.zeros((tiles * config.oc_tile, height * width, words * config.lanes), np.int8)
    padded[:outputs, :, :channels] = weight.reshape(outputs, height * width, channels)
    rows = padded.reshape(tiles, config.oc_tile, height * width, words, config.lanes).transpose(0, 2, 3, 4, 1)
    raw = join_numbers(rows, weight_bits)
    banks = np.zeros((*raw.shape[:-1], row_bytes(config, weight_bits)), np.uint8)
    banks[..., : raw.shape[-1]] = raw
    step = ceil_divide(chunk_channels, config.lanes)
    pieces = [banks[tile, :, first : first + step].ravel() for tile in range(tiles) for first in range(0, words, step)]
    return np.concatenate(pieces)


def unpack_weights(
    config: HardwareConfig,
    packed: np.ndarray,
    shape: tuple[int, ...],
    chunk_channels: int,
    weight_bits: int = WEIGHT_BITS,
) -> np.ndarray:
    """Weights int8 [O, kh, kw, I] of ``shape`` that were packed by :func:`pack_weights`."""
    outputs, height, width, channels = shape
    tiles, words = ceil_divide(outputs, config.oc_tile), ceil_divide(channels, config.lanes)
    banks = np.empty((tiles, height * width, words, config.lanes, row_bytes(config, weight_bits)), np.uint8)
    step = ceil_divide(chunk_channels, config.lanes)
    offset = 0
    for tile in range(tiles):
        for first in range(0, words, step):
            piece = banks[tile, :, first : first + step]
            piece[...] = packed[offset : offset + piece.size].reshape(piece.shape)
            offset += piece.size
    rows = split_numbers(banks[..., : bytes_of(config.oc_tile, weight_bits)], config.oc_tile, weight_bits)
    weight = rows.transpose(0, 4, 1, 2, 3).reshape(tiles * config.oc_tile, height, width, words * config.lanes)
    return np.ascontiguousarray(weight[:outputs, :, :, :channels])
