"""Integer products by PyTorch's int8 convolution and matrix product (oneDNN): 3 to 4 times as fast as float32 with VNNI or AMX.

Without those oneDNN saturates at 16 bits and is silently wrong: see :func:`.products.vnni_is_exact`. Its threads are OpenMP's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hls.contract.formats import RADIX, RADIX_BITS
from .float_products import channel_chunks

CODES = 128  # the largest magnitude of an operand: differences come in two parts


def _torch() -> Any:
    import torch

    return torch


class OneDnnConvolution:
    """A convolution by oneDNN, or a matrix product where it is one; arguments as of :func:`.products.integer_convolution`.
    Accumulators come as float32 or int32."""

    def __init__(self, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]):
        self.stride, self.padding, self.kernel, self.outputs = stride, padding, weight.shape[1:3], len(weight)
        if self._is_matrix:
            self.chunks = [slice(0, weight.shape[3])]  # int32 accumulators need no chunks
            self.packed = [_torch().from_numpy(_matrix(weight))]
        else:
            self.chunks = channel_chunks(weight, CODES)
            self.packed = [_pack(weight[..., chunk], stride, self._symmetric_padding) for chunk in self.chunks]

    @property
    def _is_matrix(self) -> bool:
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.padding)

    @property
    def _symmetric_padding(self) -> tuple[int, int] | None:
        """What PyTorch's convolutions pad themselves: not where a window may lie outside the image, which oneDNN gets wrong."""
        top, bottom, left, right = self.padding
        inside = top < self.kernel[0] and left < self.kernel[1]
        return (top, left) if inside and (top, left) == (bottom, right) else None

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        return self._matrix_product(codes) if self._is_matrix else self._int8_convolution(codes)

    def of_difference(self, difference: np.ndarray) -> np.ndarray:
        """Accumulators of differences int16, which int8 operands hold in two parts."""
        high, low = (difference >> RADIX_BITS).astype(np.int8), (difference & (RADIX - 1)).astype(np.int8)
        return RADIX * self(high).astype(np.int32) + self(low).astype(np.int32)

    def _matrix_product(self, codes: np.ndarray) -> np.ndarray:
        rows = _torch().from_numpy(codes.reshape(-1, codes.shape[3]))
        return _torch()._int_mm(rows, self.packed[0]).numpy().reshape(len(codes), -1, self.outputs)

    def _int8_convolution(self, codes: np.ndarray) -> np.ndarray:
        torch = _torch()
        unsigned = torch.from_numpy(codes.view(np.uint8)).bitwise_xor(128)  # code + 128, zero point 128
        if self._symmetric_padding is None:
            unsigned = _pad(unsigned, self.padding, 128)
        results = []
        for chunk, packed in zip(self.chunks, self.packed, strict=True):
            part = unsigned if len(self.chunks) == 1 else unsigned[..., chunk].contiguous()
            if part.shape[3] == 1:
                part = torch.cat([part, part], dim=3)
            results.append(_convolve_packed(_as_nchw(part), packed, self.stride, self._symmetric_padding or (0, 0)))
        return self._rows(results)

    def _rows(self, convolved: list[Any]) -> np.ndarray:
        """The sum of all chunks [B, O, H', W'] as [B, H' * W', O]."""
        total = convolved[0]
        if len(convolved) > 1:
            total = total.int()
            for part in convolved[1:]:
                total += part.int()
        rows = total.permute(0, 2, 3, 1).contiguous()
        return rows.reshape(len(rows), -1, self.outputs).numpy()


def multiply_matrix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The product int32 [M, N] of int8 matrices [M, K] and [K, N]."""
    operands = [_torch().from_numpy(np.array(operand)) for operand in (left, right)]  # fresh arrays: see _matrix
    return _torch()._int_mm(*operands).numpy()


def _matrix(weight: np.ndarray) -> np.ndarray:
    """Weights of a 1 x 1 convolution as a matrix [I, O]. A fresh array: the transpose of one column keeps its strides, which
    ``torch._int_mm`` silently misreads."""
    matrix = np.empty((weight[0].size, len(weight)), np.int8)
    matrix[...] = weight.reshape(len(weight), -1).T
    return matrix


def _as_nchw(nhwc: Any) -> Any:
    batch, height, width, channels = nhwc.shape
    if channels == 1:  # a view with the usual strides: oneDNN misreads permuted ones in float32 (found by fuzzing)
        return nhwc.reshape(batch, 1, height, width)
    return nhwc.permute(0, 3, 1, 2)


def _pad(nhwc: Any, padding: tuple[int, int, int, int], value: int) -> Any:
    top, bottom, left, right = padding
    return _torch().nn.functional.pad(nhwc, (0, 0, left, right, top, bottom), value=value)


def _pack(weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int] | None) -> Any:
    """Weights [O, kh, kw, I] for :func:`_convolve_packed`. One channel becomes two, the second of weight zero: with a single
    one and an output one pixel wide oneDNN misreads the image (found by fuzzing)."""
    torch = _torch()
    if weight.shape[3] == 1:
        weight = np.concatenate([weight, np.zeros_like(weight)], axis=3)
    nchw = torch.from_numpy(np.ascontiguousarray(weight.transpose(0, 3, 1, 2)))
    ones = torch.ones(len(weight), dtype=torch.float32, device="cpu")
    return torch.ops.onednn.qconv_prepack(nchw, ones, 1.0, 128, list(stride), list(padding or (0, 0)), [1, 1], 1, None)


def _convolve_packed(x: Any, packed: Any, stride: tuple[int, int], padding: tuple[int, int]) -> Any:
    torch = _torch()
    outputs = packed.shape[0]
    ones = torch.ones(outputs, dtype=torch.float32, device="cpu")  # whatever the caller's default dtype and device
    zeros = torch.zeros(outputs, dtype=torch.long, device="cpu")
    return torch.ops.onednn.qconv2d_pointwise(
        x,
        1.0,
        128,
        packed,
        ones,
        zeros,
        None,
        list(stride),
        list(padding),
        [1, 1],
        1,
        1.0,
        0,
        torch.float32,
        "none",
        [],
        "",
    )
