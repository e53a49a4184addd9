"""Lookup tables of the vector unit, tabulated once from float64 and used by reference, emulator and HLS alike.

Every table is read with linear interpolation: ``t[i] + ((t[i+1] - t[i]) * r + half) >> bits``. The error bounds that operators
state are checked over their whole domains by ``tests/hls/contract/operators/``.

A ``..._DEFICIT`` is what an activation is below ``max(x, 0)``, by |x|: 513 knots, 1/32 apart, over [0, 16], on which kinks must
lie; 0 at the last, and from there on. The vector unit has all of them in one memory, but for the last knot: ``DEFICITS``.
"""

from __future__ import annotations

import math

import numpy as np

from .arithmetic import round_shift

ACTIVATION_FRACTION_BITS = 11  # the argument |x| as Q4.11
ACTIVATION_ENTRY_BITS = 16  # entries as Q0.16
ACTIVATION_STEP_BITS = 6  # 512 segments over [0, 16)
DEFICIT_KNOTS = 512

EXP_FRACTION_BITS = 12  # the exponent as Qn.12
EXP_ENTRY_BITS = 20  # entries as Q1.20
EXP_STEP_BITS = 4  # 256 segments over [0, 1)

RSQRT_ENTRY_BITS = 23  # entries as Q1.23
RSQRT_MANTISSA_BITS = 30  # the argument in [1, 4) as Q2.30
RSQRT_STEP_BITS = 22  # 768 segments over [1, 4)


def _silu_deficit() -> np.ndarray:
    """``relu(x) - silu(x) = |x| / (1 + exp(|x|))``, even in x, at the 513 knots over [0, 16]; below 1/2."""
    x = np.arange(513) / 2.0 ** (ACTIVATION_FRACTION_BITS - ACTIVATION_STEP_BITS)
    return np.rint(x / (1 + np.exp(x)) * 2.0**ACTIVATION_ENTRY_BITS).astype(np.int32)


def _gelu_deficit() -> np.ndarray:
    """``relu(x) - gelu(x) = |x| * Phi(-|x|)`` (Phi: the normal distribution), in the format of the SiLU table."""
    x = np.arange(513) / 2.0 ** (ACTIVATION_FRACTION_BITS - ACTIVATION_STEP_BITS)
    tail = np.array([math.erfc(value / math.sqrt(2)) / 2 for value in x])
    return np.rint(x * tail * 2.0**ACTIVATION_ENTRY_BITS).astype(np.int32)


def _mish_deficits() -> tuple[np.ndarray, np.ndarray]:
    """``relu(x) - mish(x)`` of positive and of negative x, by |x|, in the format of the SiLU table.

    With n = exp(x) (exp(x) + 2), tanh(softplus(x)) is n / (n + 2): 2 |x| / (n + 2), and |x| n / (n + 2).
    """
    x = np.arange(513) / 2.0 ** (ACTIVATION_FRACTION_BITS - ACTIVATION_STEP_BITS)
    above, below = (np.exp(each) * (np.exp(each) + 2) for each in (x, -x))
    positive, negative = 2 * x / (above + 2), x * below / (below + 2)
    positive, negative = (np.rint(each * 2.0**ACTIVATION_ENTRY_BITS).astype(np.int32) for each in (positive, negative))
    return positive, negative


def _exp2_negative() -> np.ndarray:
    """``2**-x`` at the 257 knots over [0, 1]."""
    x = np.arange(257) / 2.0 ** (EXP_FRACTION_BITS - EXP_STEP_BITS)
    return np.rint(np.exp2(-x) * 2.0**EXP_ENTRY_BITS).astype(np.int32)


def _reciprocal_square_root() -> np.ndarray:
    """``1 / sqrt(x)`` at the 769 knots over [1, 4]."""
    x = 1 + np.arange(769) / 2.0 ** (RSQRT_MANTISSA_BITS - RSQRT_STEP_BITS)
    return np.rint(2.0**RSQRT_ENTRY_BITS / np.sqrt(x)).astype(np.int32)


SILU_DEFICIT = _silu_deficit()
GELU_DEFICIT = _gelu_deficit()
MISH_DEFICIT, MISH_NEGATIVE_DEFICIT = _mish_deficits()
DEFICITS = {
    "SILU_DEFICIT": SILU_DEFICIT,
    "GELU_DEFICIT": GELU_DEFICIT,
    "MISH_DEFICIT": MISH_DEFICIT,
    "MISH_NEGATIVE_DEFICIT": MISH_NEGATIVE_DEFICIT,
}
"""Of all activations, as every lane of the vector unit has them."""
EXP2_NEGATIVE = _exp2_negative()
RECIPROCAL_SQUARE_ROOT = _reciprocal_square_root()


def interpolate(table: np.ndarray, position: np.ndarray, step_bits: int) -> np.ndarray:
    """Linear interpolation of ``table`` at ``position / 2**step_bits``; ``position`` is below the last knot."""
    index, rest = position >> step_bits, position & ((1 << step_bits) - 1)
    low = table.astype(np.int64)[index]
    high = table.astype(np.int64)[index + 1]
    return low + round_shift((high - low) * rest, step_bits)
