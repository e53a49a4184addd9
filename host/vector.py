"""The vector unit in software: compiled loops where numba is installed, the NumPy reference otherwise. Same bits.

Arguments as in :mod:`.kernels`: C-contiguous [B, P, W] of which the first ``channels`` are the tensor; results go to ``out``.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass

import numpy as np

from ..hls import reference, tables
from ..hls.arithmetic import CODE_RANGE, VALUE_RANGE, quantize_in_two_parts, requantize, round_shift, saturate

ACCELERATED = importlib.util.find_spec("numba") is not None
NO_TABLE = np.zeros(0, np.int16)


def _kernels():  # type: ignore[no-untyped-def]
    from . import kernels  # importing numba takes most of a second

    return kernels


def limits_of(dtype: np.dtype) -> tuple[int, int]:
    return CODE_RANGE if dtype == np.int8 else VALUE_RANGE


@dataclass(frozen=True)
class Activation:
    """``kind``: a function of the reference ("silu", "gelu" or "relu") of values with ``fraction_bits``."""

    kind: str
    fraction_bits: int

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return getattr(reference, self.kind)(x, self.fraction_bits)


@functools.lru_cache(maxsize=32)
def _lookup(activation: Activation) -> np.ndarray:
    """int16 [65536]: of every int16 value, indexed by the value's 16 bits as an unsigned number."""
    return activation(np.arange(1 << 16).astype(np.uint16).view(np.int16)).astype(np.int16)


def requantize_rows(
    acc: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, shift: int, out: np.ndarray, relu: bool = False
) -> None:
    """Accumulators [B, P, O] (exact integers, int32 or float32) plus bias int32 [1 or B, O] -> int8 or int16 ``out``.

    ``multiplier`` int32 [1 or B, 1 or O].
    """
    low, high = limits_of(out.dtype)
    low = 0 if relu else low
    if ACCELERATED:
        _kernels().requantize_rows(acc, bias, multiplier, shift, low, high, out)
    else:
        total = acc.astype(np.int64) + bias[:, None]
        out[:, :, : acc.shape[2]] = requantize(total, multiplier[:, None], shift, (low, high))


@dataclass(frozen=True)
class Quantizer:
    """A fused quantizer; ``fine``: residue codes follow the codes."""

    multiplier: int
    shift: int
    fine: bool = False

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.fine:
            return quantize_in_two_parts(x, self.multiplier, self.shift)
        return requantize(x, self.multiplier, self.shift, CODE_RANGE)


def quantize(x: np.ndarray, channels: int, quantizer: Quantizer, out: np.ndarray) -> None:
    """Values to codes, [B, P, channels] or, in two parts, [B, P, 2 * channels]."""
    if ACCELERATED:
        _kernels().rescale(x, channels, quantizer.multiplier, quantizer.shift, *CODE_RANGE, quantizer.fine, out)
    else:
        codes = quantizer(x[:, :, :channels])
        out[:, :, : codes.shape[2]] = codes


def activate(x: np.ndarray, channels: int, activation: Activation, out: np.ndarray) -> None:
    if ACCELERATED:
        _kernels().look_up(x, channels, _lookup(activation), out)
    else:
        out[:, :, :channels] = activation(x[:, :, :channels])


def add(
    a: np.ndarray, b: np.ndarray, channels: int, multipliers: tuple[int, int], shift: int,
    out: np.ndarray,
) -> None:  # fmt: skip
    if ACCELERATED:
        _kernels().add(a, b, channels, *multipliers, shift, out)
    else:
        left, right = a[:, :, :channels].astype(np.int64), b[:, :, :channels].astype(np.int64)
        total = left * multipliers[0] + right * multipliers[1]
        out[:, :, :channels] = saturate(round_shift(total, shift), VALUE_RANGE)


def group_norm(
    x: np.ndarray,
    channels: int,
    groups: int,
    gain: np.ndarray,
    offset: np.ndarray,
    gain_bits: int,
    epsilon: int,
    activation: Activation | None,
    quantizer: Quantizer | None,
    out: np.ndarray,
) -> None:
    """GroupNorm, then ``activation`` and ``quantizer`` where they are given. LayerNorm: of pixels as samples, in one group.

    ``gain`` int32 and ``offset`` int64 are [1 or B, C].
    """
    if ACCELERATED:
        kernels = _kernels()
        coefficients = kernels.norm_coefficients(
            x, channels, groups, gain, offset, gain_bits, epsilon, tables.RECIPROCAL_SQUARE_ROOT
        )
        table = NO_TABLE if activation is None else _lookup(activation)
        code = quantizer or Quantizer(0, -1)
        kernels.normalize(x, channels, *coefficients, table, code.multiplier, code.shift, code.fine, out)
        return
    wide = (len(x), channels)
    y = reference.group_norm(
        x[:, :, None, :channels],
        groups,
        np.broadcast_to(gain, wide),
        np.broadcast_to(offset, wide),
        gain_bits,
        epsilon,
    )[:, :, 0]
    y = y if activation is None else activation(y)
    if quantizer is not None:
        y = quantizer(y)
    out[:, :, : y.shape[2]] = y


def multiply(a: np.ndarray, b: np.ndarray, channels: int, multiplier: int, shift: int, out: np.ndarray) -> None:
    if ACCELERATED:
        _kernels().multiply(a, b, channels, multiplier, shift, out)
    else:
        out[:, :, :channels] = reference.multiply(a[:, :, :channels], b[:, :, :channels], multiplier, shift)


@functools.lru_cache(maxsize=64)
def _softmax_powers(multiplier: int, shift: int) -> np.ndarray:
    powers = np.empty(1 << 16, np.int32)
    count = _kernels().softmax_powers(multiplier, shift, tables.EXP2_NEGATIVE, powers)
    return powers[:count].copy()


def softmax(x: np.ndarray, multiplier: int, shift: int, reciprocal_scale: int, out: np.ndarray) -> None:
    """Rows of logits int16 [B, R, K] -> codes int8 of the same shape."""
    if ACCELERATED:
        _kernels().softmax(x, _softmax_powers(multiplier, shift), reciprocal_scale, out)
    else:
        out[...] = reference.softmax(x, multiplier, shift, reciprocal_scale)
