"""What the encoding unit does with a linear operator's operand: classes, digits, and the cycles of the fullest lane.

Lane j takes input channels c with ``c % lanes == j``. A core works on one output pixel or token at a time; its lanes wait
for each other once per pixel, so a pixel costs the digits of its fullest lane over all kernel taps, and at least one cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..hls.arithmetic import classify, count_digits
from . import vector

NOTHING = np.zeros((0, 0), np.int8)


@dataclass(frozen=True)
class Encoded:
    """Counts of one operand: ``elements`` = ``zeros`` + ``narrow`` (fit 4 bits, not zero) + wider ones.

    ``used_digits`` counts a digit once for every kernel window it falls into; ``pixel_cycles`` sums the fullest lane.
    """

    elements: int
    zeros: int
    narrow: int
    digits: int
    used_digits: int
    pixel_cycles: int

    def __add__(self, other: Encoded) -> Encoded:
        return Encoded(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def count_convolution(
    codes: np.ndarray,
    previous: np.ndarray | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    lanes: int,
) -> Encoded:
    """Codes int8 [B, H, W, C], and those of the previous step where it is the reference."""
    batch, height, width, channels = codes.shape
    rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    digits = np.zeros((batch, height, width, lanes), np.uint16)
    zeros, narrow, total = _count_map(codes.reshape(-1, channels), previous, lanes, digits.reshape(-1, lanes))
    cycles, used = _window_cycles(digits, kernel, stride, padding[0], padding[2], rows, columns)
    return Encoded(codes.size, zeros, narrow, total, used, cycles)


def count_rows(rows: np.ndarray, previous: np.ndarray | None, lanes: int) -> Encoded:
    """Attention operands int8 [..., N, K]: one token, of K elements, per row."""
    depth = rows.shape[-1]
    flat = rows.reshape(1, 1, -1, depth)
    return count_convolution(
        flat, None if previous is None else previous.reshape(flat.shape), (1, 1), (1, 1), (0,) * 4, lanes
    )


def _count_map(codes: np.ndarray, previous: np.ndarray | None, lanes: int, digits: np.ndarray) -> tuple[int, int, int]:
    if vector.ACCELERATED:
        from .kernels import count_map

        before = NOTHING if previous is None else np.ascontiguousarray(previous).reshape(codes.shape)
        return count_map(np.ascontiguousarray(codes), before, lanes, digits)
    difference = codes.astype(np.int64) - (0 if previous is None else previous.reshape(codes.shape).astype(np.int64))
    each = count_digits(difference)
    for lane in range(min(lanes, codes.shape[1])):
        digits[:, lane] = each[:, lane::lanes].sum(axis=1)
    classes = classify(difference)
    return int((classes == 0).sum()), int((classes == 1).sum()), int(each.sum())


def _window_cycles(
    digits: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], top: int, left: int, rows: int, columns: int
) -> tuple[int, int]:
    if vector.ACCELERATED:
        from .kernels import window_cycles

        return window_cycles(digits, *kernel, *stride, top, left, rows, columns)
    batch, height, width, lanes = digits.shape
    padded = np.zeros(
        (batch, (rows - 1) * stride[0] + kernel[0] + top, (columns - 1) * stride[1] + kernel[1] + left, lanes), np.int64
    )
    inside_rows, inside_columns = min(height, padded.shape[1] - top), min(width, padded.shape[2] - left)
    padded[:, top : top + inside_rows, left : left + inside_columns] = digits[:, :inside_rows, :inside_columns]
    window = np.zeros((batch, rows, columns, lanes), np.int64)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            window += padded[:, ky : ky + rows * stride[0] : stride[0], kx : kx + columns * stride[1] : stride[1]][
                :, :rows, :columns
            ]
    return int(np.maximum(window.max(axis=3), 1).sum()), int(window.sum())
