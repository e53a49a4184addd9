"""Exact integer products of linear operators on a CPU, with a choice of backend. All give the same integers.

- ``vnni``: PyTorch's int8 products (oneDNN). Used only where the CPU has VNNI *and* a self-test with saturating operands
  passes; without VNNI they saturate and are silently wrong.
- ``int16``: compiled loops that multiply pairs of int16, on any CPU; they need numba.
- ``numpy``: float32 matrix products in pieces whose sums are exact. Needs NumPy only.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from . import float_products
from .team import ACCELERATED, ALONE, Team

BACKENDS = ("vnni", "int16", "numpy")
SMALLEST_PRODUCTS = 1 << 21  # of a thread's part: what takes as long as waking the thread
_NEEDS = {"vnni": "torch", "int16": "numba"}
_IS_INSTALLED = {"torch": importlib.util.find_spec("torch") is not None, "numba": ACCELERATED}


def choose_backend(requested: str | None = None) -> str:
    """The fastest backend that is exact here, or ``requested``; ValueError where that one is unknown or not exact here."""
    if requested is not None and requested not in BACKENDS:
        raise ValueError(f"found backend {requested!r}, expected one of {', '.join(BACKENDS)}")
    needed = _NEEDS.get(requested or "")
    if needed is not None and not _IS_INSTALLED[needed]:
        raise ValueError(f"backend {requested!r} needs {needed}, which is not installed; use 'numpy'")
    if requested in (None, "vnni") and vnni_is_exact():
        return "vnni"
    if requested in (None, "int16") and int16_is_exact():
        return "int16"
    if requested in _NEEDS:
        raise ValueError(f"backend {requested!r} gives wrong sums here; use {choose_backend()!r}")
    return "numpy"


@functools.cache
def vnni_is_exact() -> bool:
    """Whether the CPU has VNNI and the int8 products survive operands that would saturate 16-bit sums."""
    if not _IS_INSTALLED["torch"]:
        return False
    import torch

    if not (hasattr(torch.cpu, "_is_vnni_supported") and torch.cpu._is_vnni_supported()):
        return False
    return _passes_self_test("vnni")


@functools.cache
def int16_is_exact() -> bool:
    """Whether numba is there, and what LLVM has made for this CPU sums products."""
    return ACCELERATED and _passes_self_test("int16")


def _passes_self_test(backend: str) -> bool:
    """Whether saturating and random operands give NumPy's sums; with 114 channels and a 3x3 kernel sums come near 2**24."""
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
                arguments = (weight, (1, 1), (kernel // 2,) * 4)
                found, expected = (integer_convolution(*arguments, name)(codes) for name in (backend, "numpy"))
                if not np.array_equal(found, expected):
                    return False
    return True


class IntegerConvolution(Protocol):
    """Accumulators of one convolution, its weights packed once. Calls may come from several threads."""

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Accumulators [B, H' * W', O] of codes int8 [B, H, W, I]: exact integers, as float32 or int32."""

    def of_difference(self, difference: np.ndarray) -> np.ndarray:
        """Accumulators int32 [B, H' * W', O] of differences int16 [B, H, W, I] in [-255, 255]."""


def integer_convolution(
    weight: np.ndarray,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    backend: str,
    team: Team = ALONE,
) -> IntegerConvolution:
    """The product of one convolution by a ``backend``. ``weight`` int8 [O, kh, kw, I]; ``padding`` (top, bottom, left, right)
    with code 0; ``team``: who works on it.

    Raises ValueError for a kernel so large that not even one input channel is exact in float32, which int16 does without:
    over 500 taps, 1,000 with VNNI.
    """
    if backend == "vnni":
        from .onednn_products import OneDnnConvolution

        return OneDnnConvolution(weight, stride, padding)
    if backend == "int16":
        return CompiledConvolution(weight, stride, padding, team)
    return float_products.NumpyConvolution(weight, stride, padding)


class CompiledConvolution:
    """The backend ``int16``; the team shares the output rows of all samples."""

    def __init__(self, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int], team: Team):
        from . import product_loops

        self._loops, self.packed, self.team = product_loops, product_loops.pack(weight, stride), team
        self.outputs, self.kernel = len(weight), weight.shape[1:3]
        self.stride, self.padding = stride, padding
        self._layer = (self.packed, self.kernel, stride, (padding[0], padding[2]))

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        rows, columns, outputs = self._size(codes)
        sums = np.empty((len(codes), rows, columns, outputs), np.int32)
        self._share(codes, lambda first, last: self._loops.convolve(codes, *self._layer, first, last, sums))
        return sums.reshape(len(codes), rows * columns, outputs)

    def of_difference(self, difference: np.ndarray) -> np.ndarray:
        return self(difference)

    def to_codes(
        self,
        codes: np.ndarray,
        bias: np.ndarray,
        multiplier: np.ndarray,
        shift: int,
        limits: tuple[int, int],
        out: np.ndarray,
    ) -> None:
        """The accumulators requantized as :func:`.vector.requantize_rows` does, without a place in memory for all of them."""
        layer = (codes, *self._layer, self._size(codes))
        finish = (bias, multiplier, shift, *limits, out)
        self._share(codes, lambda first, last: self._loops.convolve_to_codes(*layer, first, last, *finish))

    def _size(self, codes: np.ndarray) -> tuple[int, int, int]:
        """Output rows, columns and channels."""
        top, bottom, left, right = self.padding
        rows = (codes.shape[1] + top + bottom - self.kernel[0]) // self.stride[0] + 1
        columns = (codes.shape[2] + left + right - self.kernel[1]) // self.stride[1] + 1
        return rows, columns, self.outputs

    def _share(self, codes: np.ndarray, work: Callable[[int, int], object]) -> None:
        rows, columns, _ = self._size(codes)
        smallest = self.team.smallest_part(columns * self.packed.size, SMALLEST_PRODUCTS)
        self.team.share(len(codes) * rows, smallest, work)


def attention_product(left: np.ndarray, right: np.ndarray, backend: str, team: Team = ALONE) -> np.ndarray:
    """Products int32 [B, heads, M, N] of matrices ``left`` [B, heads, M, K] and ``right`` [B, heads, K, N], for any K.

    One operand may hold differences in [-255, 255], the other codes int8.
    """
    if backend == "numpy" or not ACCELERATED:
        return float_products.multiply_matrices(left, right)
    from .product_loops import multiply_matrices

    shape = (*left.shape[:3], right.shape[3])
    rows, columns = (np.ascontiguousarray(each).reshape(-1, *each.shape[2:]) for each in (left, right))
    sums = np.empty((len(rows), *shape[2:]), np.int32)
    smallest = team.smallest_part(shape[2] * shape[3] * left.shape[3], SMALLEST_PRODUCTS)
    team.share(len(rows), smallest, lambda first, last: multiply_matrices(rows, columns, first, last, sums))
    return sums.reshape(shape)


def attention_product_of_one(left: np.ndarray, right: np.ndarray, backend: str) -> np.ndarray:
    """The product int32 [M, N] of one head's ``left`` int8 [M, K] and ``right`` int8 [K, N], so that large ones stay in the
    cache."""
    if backend == "vnni":
        from .onednn_products import multiply_matrix

        return multiply_matrix(left, right)
    return attention_product(left[None, None], right[None, None], backend)[0, 0]
