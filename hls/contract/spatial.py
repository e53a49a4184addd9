"""Spatial references: an operand pixel or token refers to the one before it in the same tensor (Diffy, MICRO 2018; Ditto+).

The engine walks output pixels in chains: ``acc[i] = acc[i - 1] + W . (window[i] - window[i - 1])``, and a chain begins with a
window of zeros. Of a convolution a chain is an output row, and a code refers to the one ``stride`` columns before it: windows
that lie left of the image are walked too (``lead_columns``), and so are the columns right of it that have a neighbour inside
(``extra_columns``), whose difference is that neighbour's negative. Where windows are single pixels side by side - fully
connected layers, attention products - a chain is all pixels of a core's block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chains:
    """How the output pixels of an operator are chained. Columns left of the first window, and right of the image."""

    lead_columns: int
    extra_columns: int
    whole_block: bool
    stride: int


TOKENS = Chains(0, 0, True, 1)
"""Of attention products, whose tokens are rows of one pixel."""


def chains_of(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], width: int, output_width: int
) -> Chains:
    """``padding``: top, bottom, left, right; ``width`` of the operand."""
    left = padding[2]
    if kernel == (1, 1) and stride == (1, 1) and not any(padding):
        return TOKENS
    seen = (output_width - 1) * stride[1] - left + kernel[1]
    extra = min(max(seen - width, 0), stride[1])
    return Chains(max((kernel[1] - 1 - left) // stride[1], 0), extra, False, stride[1])


def with_neighbours(codes: np.ndarray, chains: Chains, block_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [B, H, W, C] with the extra columns, and the codes that they refer to, both [B, H, W + extra, C] of one dtype."""
    wide = np.pad(codes, ((0, 0), (0, 0), (0, chains.extra_columns), (0, 0)))
    before = np.zeros_like(wide)
    if not chains.whole_block:
        before[:, :, chains.stride :] = wide[:, :, : -chains.stride]
        return wide, before
    pixels, neighbours = (x.reshape(len(codes), -1, codes.shape[3]) for x in (wide, before))
    neighbours[:, 1:] = pixels[:, :-1]
    neighbours[:, :: block_rows * codes.shape[2]] = 0  # a block begins with a reference of zero
    return wide, neighbours.reshape(wide.shape)
