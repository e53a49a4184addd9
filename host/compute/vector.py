"""The vector unit in software: compiled loops where numba is installed, the NumPy reference otherwise. Same bits.

Arguments as in :mod:`.vector_loops`: C-contiguous [B, P, W] of which the first ``channels`` are the tensor; results go to
``out``. A ``team`` shares the rows of compiled loops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...hls.contract import operators, tables
from ...hls.contract.arithmetic import CODE_RANGE, VALUE_RANGE, quantize_in_two_parts, requantize, round_shift, saturate
from .team import ACCELERATED, ALONE, Team

NO_TABLE = np.zeros(0, np.int16)


def _loops():  # type: ignore[no-untyped-def]
    from . import vector_loops  # importing numba takes most of a second

    return vector_loops


def limits_of(dtype: np.dtype, relu: bool = False) -> tuple[int, int]:
    """The smallest and the largest result of a type, int8 or int16, and of a ReLU where there is one."""
    low, high = CODE_RANGE if dtype == np.int8 else VALUE_RANGE
    return (0 if relu else low), high


def _share(
    team: Team, loop: Callable[..., None], arrays: tuple[np.ndarray, ...], numbers: tuple, out: np.ndarray
) -> None:
    """Run ``loop(*arrays, *numbers, out)`` on parts of the rows, of which each is by itself."""

    def some(samples: slice, rows: slice) -> None:
        loop(*(array[samples, rows] for array in arrays), *numbers, out[samples, rows])

    team.share_rows(arrays[0].shape, some)


def _of_samples(table: np.ndarray, samples: slice) -> np.ndarray:
    """Rows of a table [1 or B, ...]."""
    return table[samples] if len(table) > 1 else table


@dataclass(frozen=True)
class Activation:
    """A fused activation: the contract's function of a ``kind``, of values with ``fraction_bits``."""

    kind: type[operators.activation.Activation]
    fraction_bits: int

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.kind.function(x, self.fraction_bits)


@functools.lru_cache(maxsize=32)
def _lookup(activation: Activation) -> np.ndarray:
    """The activation of every int16, as int16 [65536], indexed by the value's 16 bits as an unsigned number."""
    return activation(np.arange(1 << 16).astype(np.uint16).view(np.int16)).astype(np.int16)


def requantize_rows(
    acc: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: int,
    out: np.ndarray,
    relu: bool = False,
    team: Team = ALONE,
) -> None:
    """Requantize accumulators [B, P, O] (exact integers, int32 or float32) plus bias int32 [1 or B, O] to int8 or int16 ``out``.

    ``multiplier`` int32 [1 or B, 1 or O].
    """
    low, high = limits_of(out.dtype, relu)
    if ACCELERATED:
        from .product_loops import requantize_rows as loop

        def some(samples: slice, rows: slice) -> None:
            numbers = _of_samples(bias, samples), _of_samples(multiplier, samples)
            loop(acc[samples, rows], *numbers, shift, low, high, out[samples, rows])

        team.share_rows(acc.shape, some)
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


def quantize(x: np.ndarray, channels: int, quantizer: Quantizer, out: np.ndarray, team: Team = ALONE) -> None:
    """Quantize values int16 to codes int8, ``out`` [B, P, channels] or, in two parts, [B, P, 2 * channels]."""
    if ACCELERATED:
        numbers = (channels, quantizer.multiplier, quantizer.shift, *CODE_RANGE, quantizer.fine)
        _share(team, _loops().rescale, (x,), numbers, out)
    else:
        codes = quantizer(x[:, :, :channels])
        out[:, :, : codes.shape[2]] = codes


def activate(x: np.ndarray, channels: int, activation: Activation, out: np.ndarray, team: Team = ALONE) -> None:
    """Activate values int16, to ``out`` int16 [B, P, channels]."""
    if ACCELERATED:
        _share(team, _loops().look_up, (x,), (channels, _lookup(activation)), out)
    else:
        out[:, :, :channels] = activation(x[:, :, :channels])


def add(
    a: np.ndarray,
    b: np.ndarray,
    channels: int,
    multipliers: tuple[int, int],
    shift: int,
    out: np.ndarray,
    team: Team = ALONE,
) -> None:
    """Add values int16, each times its multiplier, and shift the sum right, half up, to ``out`` int16 [B, P, channels]."""
    if ACCELERATED:
        _share(team, _loops().add, (a, b), (channels, *multipliers, shift), out)
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
    team: Team = ALONE,
) -> None:
    """Normalize values int16 by group, then activate and quantize them where ``activation`` and ``quantizer`` are given, to
    ``out`` int16 or int8. A LayerNorm is that of pixels as samples, in one group.

    ``gain`` int32 and ``offset`` int64 are [1 or B, C].
    """
    if ACCELERATED:
        loops = _loops()
        code = quantizer or Quantizer(0, -1)
        finish = (NO_TABLE if activation is None else _lookup(activation), code.multiplier, code.shift, code.fine)
        slope, intercept = np.empty((2, len(x), channels), np.int64)
        root = tables.RECIPROCAL_SQUARE_ROOT

        def whole(first: int, last: int) -> None:
            part = slice(first, last)
            scaling = (_of_samples(gain, part), _of_samples(offset, part), gain_bits, epsilon, root)
            results = slope[part], intercept[part], out[part]
            loops.group_norm(x[part], channels, groups, *scaling, *finish, *results)

        def some(samples: slice, rows: slice) -> None:
            loops.normalize(x[samples, rows], channels, slope[samples], intercept[samples], *finish, out[samples, rows])

        if team.splits_samples(len(x)):
            team.share(len(x), team.smallest_part(x[0].size), whole)
        else:
            scaling = (gain, offset, gain_bits, epsilon, root)
            loops.norm_coefficients(x, channels, groups, *scaling, slope, intercept)
            team.share_rows(x.shape, some)
        return
    wide = (len(x), channels)
    y = operators.norm.group_norm(
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


def multiply(
    a: np.ndarray, b: np.ndarray, channels: int, multiplier: int, shift: int, out: np.ndarray, team: Team = ALONE
) -> None:
    """Multiply values int16 with each other and ``multiplier``, and shift right, half up, to ``out`` int16 [B, P, channels]."""
    if ACCELERATED:
        _share(team, _loops().multiply, (a, b), (channels, multiplier, shift), out)
    else:
        out[:, :, :channels] = operators.pair.multiply(a[:, :, :channels], b[:, :, :channels], multiplier, shift)


@functools.lru_cache(maxsize=64)
def _softmax_shares(multiplier: int, shift: int) -> np.ndarray:
    """Shares int16 of distances to a row's largest logit, up to the first one that is 0."""
    shares = np.empty(1 << 16, np.int16)
    count = _loops().softmax_shares(multiplier, shift, tables.EXP2_NEGATIVE, shares)
    return shares[:count].copy()


def softmax(x: np.ndarray, multiplier: int, shift: int, out: np.ndarray, team: Team = ALONE) -> None:
    """Softmax of rows of logits int16 [B, R, K], as codes int8 of the same shape."""
    if ACCELERATED:
        thresholds = operators.softmax.rounding_thresholds(x.shape[2]).astype(np.int16)
        _share(team, _loops().softmax, (x,), (_softmax_shares(multiplier, shift), thresholds), out)
    else:
        out[...] = operators.softmax.softmax(x, multiplier, shift)


def requantize_mix(
    acc: np.ndarray,
    p: np.ndarray,
    multiplier: int,
    shift: int,
    heads: int,
    windows: int,
    interleaved: bool,
    out: np.ndarray,
    team: Team = ALONE,
) -> None:
    """Requantize accumulators [B, windows * heads, Q, D] of softmax codes ``p`` int8 [B, windows * heads, Q, K] to means of
    values, ``out`` int8 or int16 [B, windows * Q, heads * D or more]: each row is divided by the sum of its codes."""
    limits = limits_of(out.dtype)
    if ACCELERATED:
        loop, numbers = _loops().requantize_mix, (multiplier, shift, *limits, heads, windows, interleaved)
        team.share(
            acc.shape[0] * acc.shape[1],
            team.smallest_part(acc[0, 0].size),
            lambda first, last: loop(acc, p, first, last, *numbers, out),
        )
    else:
        rows = operators.softmax.row_multipliers(p, multiplier)
        means = operators.attention.join_heads(requantize(acc, rows, shift, limits), heads, windows, interleaved)
        out[:, :, : means.shape[2]] = means
