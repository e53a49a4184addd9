"""What the encoding and compute units do with a linear operator's operand: classes, digits, and the cycles of the fullest lane.

Lane j takes input channels c with ``c % lanes == j``. A core works on one output pixel or token at a time; its lanes wait
for each other once per pixel, so a pixel costs the digits of its fullest lane over all kernel taps, and at least one cycle.
Counts are per row of the image and per chunk of channels: the cycle model puts them together as a program's plan says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hls.contract.arithmetic import classify, count_digits
from ...hls.contract.spatial import Chains, with_neighbours
from ..compute import vector

NOTHING = np.zeros((0, 0), np.int8)


@dataclass(frozen=True)
class Encoded:
    """Counts of one operand, int64. ``classes`` [B, H, chunks, 3]: zeros, non-zeros that fit 4 bits, and digits of input rows.

    ``cycles`` and ``used`` [B, H', chunks], of output rows: of the fullest lane, and digits once for every window they are in.
    """

    classes: np.ndarray
    cycles: np.ndarray
    used: np.ndarray


def count_convolution(
    codes: np.ndarray,
    previous: np.ndarray | None,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    lanes: int,
    chunk: int,
    columns: int | None = None,
) -> Encoded:
    """Codes int8 [B, H, W, C], and those that they refer to, if any, in chunks of ``chunk`` channels.

    ``columns`` of windows are walked (default: as many as there are).
    """
    batch, height, width, channels = codes.shape
    rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    if columns is None:
        columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    chunks = -(-channels // chunk)
    classes = np.zeros((chunks, batch * height, 3), np.int64)
    cycles, used = np.zeros((2, chunks, batch, rows), np.int64)
    for index in range(chunks):
        part = slice(index * chunk, (index + 1) * chunk)
        now = np.ascontiguousarray(codes[..., part])
        before = None if previous is None else np.ascontiguousarray(previous.reshape(codes.shape)[..., part])
        digits = np.zeros((batch, height, width, lanes), np.uint16)
        _count_map(now, before, lanes, digits.reshape(-1, lanes), width, classes[index])
        _window_cycles(digits, kernel, stride, padding[0], padding[2], rows, columns, cycles[index], used[index])
    classes = classes.reshape(chunks, batch, height, 3)
    return Encoded(classes.transpose(1, 2, 0, 3), cycles.transpose(1, 2, 0), used.transpose(1, 2, 0))


def count_chains(
    codes: np.ndarray,
    chains: Chains,
    block_rows: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    columns: int,
    lanes: int,
    chunk: int,
) -> Encoded:
    """The digits of codes [B, H, W, C] that refer to their neighbours, for ``columns`` output pixels of a row."""
    wide, before = with_neighbours(codes, chains, block_rows)
    top, bottom, left, right = padding
    padding = (top, bottom, left + chains.lead_columns * stride[1], right)
    return count_convolution(wide, before, kernel, stride, padding, lanes, chunk, columns + chains.lead_columns)


def count_rows(rows: np.ndarray, previous: np.ndarray | None, lanes: int, chunk: int) -> Encoded:
    """Attention operands int8 [I, N, K]: one token, of K elements, per row of an image one pixel wide."""
    image = rows[:, :, None]
    before = None if previous is None else previous[:, :, None]
    return count_convolution(image, before, (1, 1), (1, 1), (0,) * 4, lanes, chunk)


def _count_map(
    codes: np.ndarray, previous: np.ndarray | None, lanes: int, digits: np.ndarray, width: int, classes: np.ndarray
) -> None:
    channels = codes.shape[3]
    flat = codes.reshape(-1, channels)
    if vector.ACCELERATED:
        from ..compute.vector_loops import count_map

        count_map(flat, NOTHING if previous is None else previous.reshape(flat.shape), lanes, digits, width, classes)
        return
    difference = flat.astype(np.int64) - (0 if previous is None else previous.reshape(flat.shape).astype(np.int64))
    each = count_digits(difference)
    for lane in range(min(lanes, channels)):
        digits[:, lane] = each[:, lane::lanes].sum(axis=1)
    kinds = classify(difference)
    for column, counted in enumerate((kinds == 0, kinds == 1, each)):
        classes[:, column] = counted.reshape(len(classes), -1).sum(axis=1)


def _window_cycles(
    digits: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    top: int,
    left: int,
    rows: int,
    columns: int,
    cycles: np.ndarray,
    used: np.ndarray,
) -> None:
    if vector.ACCELERATED:
        from ..compute.vector_loops import window_cycles

        window_cycles(digits, *kernel, *stride, top, left, rows, columns, cycles, used)
        return
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
    cycles[...] = np.maximum(window.max(axis=3), 1).sum(axis=2)
    used[...] = window.sum(axis=(2, 3))
