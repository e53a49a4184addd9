"""Exact integer products of linear operators on a CPU, with a choice of backend. All give the same integers.

- ``vnni``: PyTorch's int8 convolution and matrix product (oneDNN), 3 to 4 times faster than float32 on a CPU with VNNI or
  AMX. Without those it saturates at 16 bits and is silently wrong, so it is used only where the CPU has them *and* a
  self-test with saturating operands passes.
- ``float32``: PyTorch float32 convolutions. Sums of integers are exact in any order while they stay below 2**24, but not
  by Winograd's algorithm, which PyTorch takes where oneDNN is off or missing: it too must pass the self-test.
- ``numpy``: float32 matrix products per kernel tap, exact in chunks of 512 channels. Needs NumPy only.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

EXACT_FLOAT32 = 1 << 24
MAGNITUDES = {"vnni": 128, "float32": 255, "numpy": 255}  # of operands: vnni sees codes and digits, others differences
CHUNK = 512  # channels: 512 * 255 * 128 < 2**24
BACKENDS = ("vnni", "float32", "numpy")


def _torch() -> Any:
    import torch

    return torch


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def choose_backend(requested: str | None = None) -> str:
    """The fastest backend that is exact here, or ``requested``; ValueError where that one is unknown or not exact here."""
    if requested is not None and requested not in BACKENDS:
        raise ValueError(f"found backend {requested!r}, expected one of {', '.join(BACKENDS)}")
    if requested in ("vnni", "float32") and not _has_torch():
        raise ValueError(f"backend {requested!r} needs torch, which is not installed; use 'numpy'")
    if requested in (None, "vnni") and vnni_is_exact():
        return "vnni"
    if requested in (None, "float32") and float32_is_exact():
        return "float32"
    if requested in ("vnni", "float32"):
        raise ValueError(f"backend {requested!r} gives wrong sums here; use {choose_backend()!r}")
    return "numpy"


@functools.cache
def vnni_is_exact() -> bool:
    """Whether the CPU has VNNI and the int8 products survive operands that would saturate 16-bit sums."""
    if not _has_torch():
        return False
    torch = _torch()
    if not (hasattr(torch.cpu, "_is_vnni_supported") and torch.cpu._is_vnni_supported()):
        return False
    return _passes_self_test("vnni")


@functools.cache
def float32_is_exact() -> bool:
    """Whether PyTorch's float32 convolutions really sum products (judged once, with its settings at that time)."""
    return _has_torch() and _passes_self_test("float32")


def _passes_self_test(backend: str) -> bool:
    """Saturating and random operands against NumPy; 16 samples, from which on PyTorch may turn to Winograd.

    With 114 channels and a 3x3 kernel sums come near 2**24, and beyond it before oneDNN takes out the zero point of 128.
    """
    random = np.random.default_rng(0)
    for channels, kernel in itertools.product((64, 114), (1, 3)):
        shape = (16, 5, 6, channels)
        for codes in (
            np.full(shape, 127, np.int8),
            np.full(shape, -128, np.int8),
            random.integers(-128, 128, shape).astype(np.int8),
        ):
            for weight in (
                np.full((32, kernel, kernel, channels), 127, np.int8),
                random.integers(-127, 128, (32, kernel, kernel, channels)).astype(np.int8),
            ):
                padding = (kernel // 2,) * 4
                found = ConvolutionProduct(weight, (1, 1), padding, backend)(codes)
                if not np.array_equal(found, ConvolutionProduct(weight, (1, 1), padding, "numpy")(codes)):
                    return False
    return True


def _full_precision() -> Any:
    """A context in which a caller's ``torch.autocast`` does not round float32 operands and sums to bfloat16."""
    return _torch().autocast("cpu", enabled=False)


class ConvolutionProduct:
    """Accumulators of one convolution, its weights packed once.

    ``weight`` int8 [O, kh, kw, I]; ``padding`` (top, bottom, left, right) with code 0. Calls may come from several threads.
    Raises ValueError for a kernel so large that not even one input channel is exact in float32 (over 500 taps, 1,000 with VNNI).
    """

    def __init__(self, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int], backend: str):
        self.stride, self.padding, self.backend = stride, padding, backend
        self.kernel = weight.shape[1:3]
        self.outputs = len(weight)
        heaviest = int(np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=1))
        heaviest = max(heaviest, 1)
        pieces = max(
            -(-MAGNITUDES[backend] * heaviest // (EXACT_FLOAT32 - 1)),
            -(-weight.shape[3] // CHUNK) if backend == "numpy" else 1,
        )
        self.chunks = _channel_chunks(weight, pieces, MAGNITUDES[backend])
        if backend == "vnni" and self._is_matrix:
            self.packed = [_torch().from_numpy(_matrix(weight))]
            self.chunks = [slice(0, weight.shape[3])]  # int32 accumulators need no chunks
        elif backend == "vnni":
            self.packed = [_pack(weight[..., chunk], stride, self._symmetric_padding) for chunk in self.chunks]
        elif backend == "float32":
            self.packed = [
                _as_nchw(_torch().from_numpy(weight[..., chunk].astype(np.float32))) for chunk in self.chunks
            ]
        else:
            taps = weight.transpose(1, 2, 3, 0).astype(np.float32)  # [kh, kw, I, O]
            self.packed = [np.ascontiguousarray(taps[:, :, chunk]) for chunk in self.chunks]

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
        """Codes int8 [B, H, W, I] -> accumulators [B, H' * W', O], exact integers as float32 or int32."""
        if self.backend == "vnni":
            return self._matrix_product(codes) if self._is_matrix else self._int8_convolution(codes)
        return self._float_product(codes)

    def of_difference(self, difference: np.ndarray) -> np.ndarray:
        """Differences int16 [B, H, W, I] in [-255, 255] -> accumulators int32."""
        if self.backend == "vnni":  # the two digits of each difference, as the hardware sends them
            high, low = (difference >> 4).astype(np.int8), (difference & 15).astype(np.int8)
            return 16 * self(high).astype(np.int32) + self(low).astype(np.int32)
        return self._float_product(difference).astype(np.int32)

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

    def _float_product(self, operand: np.ndarray) -> np.ndarray:
        if self.backend == "numpy":
            return self._numpy_product(operand)
        torch = _torch()
        x = torch.from_numpy(operand).float()
        if self._symmetric_padding is None:
            x = _pad(x, self.padding, 0)
        results = []
        for chunk, weight in zip(self.chunks, self.packed, strict=True):
            part = x if len(self.chunks) == 1 else x[..., chunk].contiguous()
            with _full_precision():
                convolved = torch.nn.functional.conv2d(
                    _as_nchw(part), weight, None, self.stride, self._symmetric_padding or (0, 0)
                )
            results.append(convolved)
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

    def _numpy_product(self, operand: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self.padding
        x = np.pad(operand.astype(np.float32), ((0, 0), (top, bottom), (left, right), (0, 0)))
        rows = (x.shape[1] - self.kernel[0]) // self.stride[0] + 1
        columns = (x.shape[2] - self.kernel[1]) // self.stride[1] + 1
        result = np.zeros((len(x) * rows * columns, self.outputs), np.int32)
        for chunk, taps in zip(self.chunks, self.packed, strict=True):
            total = np.zeros((len(x) * rows * columns, self.outputs), np.float32)
            for ky in range(self.kernel[0]):
                for kx in range(self.kernel[1]):
                    window = x[:, ky : ky + rows * self.stride[0] : self.stride[0], :, chunk]
                    window = window[:, :, kx : kx + columns * self.stride[1] : self.stride[1]]
                    total += window.reshape(len(total), -1) @ taps[ky, kx]
            result += total.astype(np.int32)
        return result.reshape(len(x), rows * columns, self.outputs)


def _channel_chunks(weight: np.ndarray, pieces: int, magnitude: int) -> list[slice]:
    """Slices of input channels such that every output's float32 sum stays exact."""
    channels = weight.shape[3]
    pieces = min(pieces, channels)
    while True:
        bounds = [channels * piece // pieces for piece in range(pieces + 1)]
        chunks = [slice(first, last) for first, last in itertools.pairwise(bounds)]
        reach = max(int(np.abs(weight[..., chunk].astype(np.int64)).sum(axis=(1, 2, 3)).max()) for chunk in chunks)
        if reach * magnitude < EXACT_FLOAT32:
            return chunks
        if pieces == channels:
            raise ValueError(
                f"found a {weight.shape[1]}x{weight.shape[2]} kernel whose sums over one channel may reach "
                f"{reach * magnitude}, expected less than {EXACT_FLOAT32}; use a smaller kernel"
            )
        pieces += 1


def _matrix(weight: np.ndarray) -> np.ndarray:
    """[I, O]. A fresh array: the transpose of one column keeps its strides, which ``torch._int_mm`` silently misreads."""
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


def attention_product(left: np.ndarray, right: np.ndarray, backend: str) -> np.ndarray:
    """``left`` [B, heads, M, K] times ``right`` [B, heads, K, N] -> int32 [B, heads, M, N], for any K.

    One operand may hold differences in [-255, 255], the other codes int8.
    """
    if backend == "numpy":
        return _sum_chunks(left.astype(np.float32), right.astype(np.float32), lambda x: x.astype(np.int32))
    torch = _torch()
    with _full_precision():
        a, b = torch.from_numpy(left).float(), torch.from_numpy(right).float()
        return _sum_chunks(a, b, lambda x: x.int().numpy())


def attention_product_of_one(left: np.ndarray, right: np.ndarray, backend: str) -> np.ndarray:
    """``left`` int8 [M, K] times ``right`` int8 [K, N] -> int32 [M, N]: of one head, so that large ones stay in the cache."""
    if backend != "vnni":
        return attention_product(left[None, None], right[None, None], backend)[0, 0]
    torch = _torch()
    operands = [torch.from_numpy(np.array(operand)) for operand in (left, right)]  # fresh arrays: see _matrix
    return torch._int_mm(*operands).numpy()


def _sum_chunks(a: Any, b: Any, to_int32: Callable[[Any], np.ndarray]) -> np.ndarray:
    total: Any = None
    for first in range(0, a.shape[3], CHUNK):
        integers = to_int32(a[..., first : first + CHUNK] @ b[..., first : first + CHUNK, :])
        total = integers if total is None else total + integers
    return total
