"""Integer products in float32 by NumPy alone: exact in any order while all sums stay below 2**24, so in pieces that do."""

from __future__ import annotations

import itertools

import numpy as np

EXACT_FLOAT32 = 1 << 24
CHUNK = 512  # channels: 512 * 255 * 128 < 2**24
DIFFERENCES = 255  # the largest magnitude of an operand


class NumpyConvolution:
    """A convolution as one matrix product per kernel tap and chunk of channels; arguments as of
    :func:`.products.integer_convolution`."""

    def __init__(self, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]):
        self.stride, self.padding, self.kernel, self.outputs = stride, padding, weight.shape[1:3], len(weight)
        self.chunks = channel_chunks(weight, DIFFERENCES, CHUNK)
        taps = weight.transpose(1, 2, 3, 0).astype(np.float32)  # [kh, kw, I, O]
        self.packed = [np.ascontiguousarray(taps[:, :, chunk]) for chunk in self.chunks]

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self.padding
        x = np.pad(codes.astype(np.float32), ((0, 0), (top, bottom), (left, right), (0, 0)))
        rows = (x.shape[1] - self.kernel[0]) // self.stride[0] + 1
        columns = (x.shape[2] - self.kernel[1]) // self.stride[1] + 1
        result = np.zeros((len(x) * rows * columns, self.outputs), np.int32)
        for chunk, taps in zip(self.chunks, self.packed, strict=True):
            total = np.zeros((len(x) * rows * columns, self.outputs), np.float32)
            for ky, kx in np.ndindex(*self.kernel):
                window = x[:, ky : ky + rows * self.stride[0] : self.stride[0], :, chunk]
                window = window[:, :, kx : kx + columns * self.stride[1] : self.stride[1]]
                total += window.reshape(len(total), -1) @ taps[ky, kx]
            result += total.astype(np.int32)
        return result.reshape(len(x), rows * columns, self.outputs)

    def of_difference(self, difference: np.ndarray) -> np.ndarray:
        return self(difference)


def multiply_matrices(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Products int32 [..., M, N] of integer matrices [..., M, K] and [..., K, N], for any K."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    total = np.zeros((*left.shape[:-1], right.shape[-1]), np.int32)
    for first in range(0, a.shape[-1], CHUNK):
        total += (a[..., first : first + CHUNK] @ b[..., first : first + CHUNK, :]).astype(np.int32)
    return total


def channel_chunks(weight: np.ndarray, magnitude: int, largest: int | None = None) -> list[slice]:
    """Slices of the input channels of ``weight`` [O, kh, kw, I] such that every output's float32 sum stays exact.

    ``magnitude`` of the operands; ``largest``: of a slice. ValueError for a kernel of which not even one channel is exact.
    """
    channels = weight.shape[3]
    magnitudes = np.abs(weight.astype(np.int64)).sum(axis=(1, 2))  # [O, I]
    heaviest = int(magnitudes.sum(axis=1).max(initial=1))
    pieces = max(-(-magnitude * heaviest // (EXACT_FLOAT32 - 1)), 1 if largest is None else -(-channels // largest))
    pieces = min(pieces, channels)
    while True:
        bounds = [channels * piece // pieces for piece in range(pieces + 1)]
        reach = int(np.add.reduceat(magnitudes, bounds[:-1], axis=1).max())
        if reach * magnitude < EXACT_FLOAT32:
            return [slice(first, last) for first, last in itertools.pairwise(bounds)]
        if pieces == channels:
            raise ValueError(
                f"found a {weight.shape[1]}x{weight.shape[2]} kernel whose sums over one channel may reach "
                f"{reach * magnitude}, expected less than {EXACT_FLOAT32}; use a smaller kernel"
            )
        pieces += 1
