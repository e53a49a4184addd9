"""The integer arithmetic that every implementation shares: rounding, saturation, multipliers, digits (``hls/README.md``).

All functions work on NumPy int64 arrays and never lose a bit silently.
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from .formats import (
    CODE_BITS,
    DIFFERENCE_BITS,
    DIGIT_BITS,
    FINE_BITS,
    NARROW_BITS,
    RADIX,
    RADIX_BITS,
    SUM_BITS,
    VALUE_BITS,
    WEIGHT_BITS,
    signed_range,
)

CODE_RANGE = signed_range(CODE_BITS)
WEIGHT_RANGE = signed_range(WEIGHT_BITS)
VALUE_RANGE = signed_range(VALUE_BITS)
ACCUMULATOR_RANGE = signed_range(SUM_BITS)
DIFFERENCE_RANGE = signed_range(DIFFERENCE_BITS)
DIGIT_RANGE = signed_range(DIGIT_BITS)
NARROW_RANGE = signed_range(NARROW_BITS)
MULTIPLIER_BITS = 31
MAX_SHIFT = 62
FINE_STEPS = 1 << FINE_BITS  # residue codes per code of a tensor in two parts


@overload
def ceil_divide(a: int, b: int) -> int: ...
@overload
def ceil_divide(a: np.ndarray, b: int) -> np.ndarray: ...
def ceil_divide(a: Any, b: int) -> Any:
    """``a / b``, rounded up."""
    return -(-a // b)


def round_shift(x: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """``x / 2**shift``, rounded half up: ``(x + (1 << (shift - 1))) >> shift``; ``shift`` 0 returns ``x``."""
    shift = np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)
    return (np.asarray(x, np.int64) + half) >> shift


def saturate(x: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    return np.clip(x, *limits)


def to_multiplier(factor: np.ndarray) -> tuple[np.ndarray, int]:
    """Fixed-point form of positive or negative real ``factor`` (any shape): ``factor ~ mantissa / 2**shift``.

    One shift serves all entries, the largest mantissa has 31 bits. Returns (int32 mantissas, shift in 1..62).
    Raises ValueError where a factor is not finite or is too large (2**30 and more).
    """
    factor = np.asarray(factor, np.float64)
    largest = float(np.max(np.abs(factor), initial=0.0))
    if not np.isfinite(largest) or largest >= 2.0 ** (MULTIPLIER_BITS - 1):
        raise ValueError(f"found a multiplier of {largest:g}, expected one below 2**30: the scales are not usable")
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    shift = int(np.clip(MULTIPLIER_BITS - exponent, 1, MAX_SHIFT))
    mantissa = np.rint(np.ldexp(factor, shift))
    if np.max(np.abs(mantissa), initial=0) >= 2**MULTIPLIER_BITS:  # rounding carried into bit 31
        shift -= 1
        mantissa = np.rint(np.ldexp(factor, shift))
    return mantissa.astype(np.int32), shift


def requantize(
    x: np.ndarray, multiplier: np.ndarray | int, shift: np.ndarray | int, limits: tuple[int, int]
) -> np.ndarray:
    """``saturate((x * multiplier + half) >> shift)`` with x within int32 and a 31-bit multiplier: fits int64."""
    product = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    return saturate(round_shift(product, shift), limits)


def quantize_in_two_parts(x: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Codes of values x [..., C] as :func:`requantize`, then those of the rounding residues, in 16ths -> [..., 2 C]."""
    codes = requantize(x, multiplier, shift, CODE_RANGE)
    sixteenths = round_shift(np.asarray(x, np.int64) * (int(multiplier) << FINE_BITS), shift)
    return np.concatenate([codes, saturate(sixteenths - (codes << FINE_BITS), CODE_RANGE)], axis=-1)


def encode_input(sample: np.ndarray, scale: float, parts: int) -> np.ndarray:
    """The host's rounding: sample float64 [B, H, W, C] -> codes int8 [B, H, W, parts * C].

    ``parts`` 2 appends the codes of the rounding residue, in 16ths of a step.
    """
    steps = sample / scale
    codes = np.clip(np.rint(steps), *CODE_RANGE)
    if parts == 2:
        residue = np.clip(np.rint((steps - codes) * FINE_STEPS), *CODE_RANGE)
        codes = np.concatenate([codes, residue], axis=3)
    return codes.astype(np.int8)


def decode_codes(codes: np.ndarray, scale: float, parts: int) -> np.ndarray:
    """What the codes of :func:`encode_input` stand for: [..., parts * C] -> float64 [..., C]."""
    coarse, *residue = np.split(codes.astype(np.float64), parts, axis=-1)
    return np.asarray((coarse + sum(residue) / FINE_STEPS) * scale)


def decode_output(values: np.ndarray, scale: float, parts: int) -> np.ndarray:
    """Values int16 [B, H, W, parts * C] -> the model's output float64 [B, H, W, C], the sum of its parts."""
    total = sum(part.astype(np.int64) for part in np.split(values, parts, axis=3))
    return np.asarray(total) * scale


def split_digits(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Digits (hi, lo) of ``d`` as :func:`digits_of`, int64; ValueError for one outside [-256, 255]."""
    d = np.asarray(d, np.int64)
    outside = ~_fits(d, DIFFERENCE_RANGE)
    if np.any(outside):
        raise ValueError(f"found a difference of {d[outside][0]}, expected one in {list(DIFFERENCE_RANGE)}")
    return digits_of(d)


def digits_of(d: Any) -> tuple[Any, Any]:
    """The digit rule: (hi, lo) with ``16 * hi + lo == d``, each a 5-bit signed number, of ``d`` in [-256, 255].

    ``d`` in [-16, 15] is one digit (lo = d, hi = 0); anything else is ``hi = d >> 4``, ``lo = d & 15``. A zero digit is never
    sent. An array or one integer: the emulator's loops compile this very function, and ``split`` of ``kernels/arithmetic.hpp``
    and ``rtl/encoding_unit.sv`` are its forms in hardware.
    """
    two = ((d + RADIX) & (-2 * RADIX)) != 0
    hi = (d >> RADIX_BITS) & -(1 * two)
    return hi, d - (hi << RADIX_BITS)


def _fits(d: np.ndarray, limits: tuple[int, int]) -> np.ndarray:
    return (d >= limits[0]) & (d <= limits[1])


def count_digits(d: np.ndarray) -> np.ndarray:
    """Digits sent per element: 0, 1 or 2."""
    hi, lo = split_digits(d)
    return (hi != 0).astype(np.int64) + (lo != 0)


def classify(d: np.ndarray) -> np.ndarray:
    """Ditto's classes per element: 0 = zero, 1 = fits 4 bits ([-8, 7]), 2 = more (HPCA'25, figure 5)."""
    d = np.asarray(d, np.int64)
    return np.where(d == 0, 0, np.where(_fits(d, NARROW_RANGE), 1, 2))
