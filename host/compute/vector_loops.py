# mypy: ignore-errors
"""Compiled loops of the vector unit (numba): the same integers as :mod:`ditto_zynq.hls.contract.operators`, without temporaries.

Activations are C-contiguous [B, P, W]: samples, pixels, and a pitch of which a tensor uses the first ``channels``, since it
may be a slice of a wider buffer. Every loop runs in its caller's thread and releases the GIL.

Lookup tables are arguments, not globals: numba caches compiled code by the date of this file only, so a table that it had
compiled in would outlive a change of :mod:`ditto_zynq.hls.contract.tables`. Bit widths and the digit rule are compiled in: touch
this file when they change. For the same reason no loop of another file calls one of these, nor these one of another file's.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ...hls.contract import tables as lut
from ...hls.contract.arithmetic import CODE_RANGE, FINE_BITS, NARROW_RANGE, digits_of
from ...hls.contract.operators.norm import LARGEST_SLOPE, MEAN_BITS, RECIPROCAL_BITS, SLOPE_BITS, SMALL_NORM
from ...hls.contract.operators.softmax import ROW_BITS, ROW_RECIPROCAL_BITS, SHARE_BITS

_EXP_STEP, _EXP_FRACTION, _EXP_ENTRY = lut.EXP_STEP_BITS, lut.EXP_FRACTION_BITS, lut.EXP_ENTRY_BITS
_LARGEST_CODE = CODE_RANGE[1]
_RSQRT_STEP, _RSQRT_MANTISSA, _RSQRT_ENTRY = lut.RSQRT_STEP_BITS, lut.RSQRT_MANTISSA_BITS, lut.RSQRT_ENTRY_BITS

_NARROW = NARROW_RANGE[1] + 1

compiled = njit(nogil=True, cache=True, boundscheck=False)
_digits_of = njit(digits_of)


@compiled
def rescale(x, channels, multiplier, shift, low, high, fine, out):
    """``x * multiplier``, shifted right by ``shift``, half up, into [``low``, ``high``]. ``fine``: the rounding residues of codes
    follow them, in 16ths of a step."""
    factor = np.int64(np.int32(multiplier))  # LLVM knows then that 32 bits of it count, and takes one instruction
    half = (np.int64(1) << shift) >> 1
    for b in range(x.shape[0]):
        for p in range(x.shape[1]):
            source = x[b, p]
            target = out[b, p]
            for c in range(channels):
                v = (np.int64(source[c]) * factor + half) >> shift
                target[c] = min(max(v, low), high)
            if fine:
                for c in range(channels):
                    v = ((np.int64(source[c]) * (multiplier << FINE_BITS) + half) >> shift) - (
                        np.int64(target[c]) << FINE_BITS
                    )
                    target[channels + c] = min(max(v, low), high)


@compiled
def look_up(x, channels, table, out):
    """The entry of ``table`` [65536] for every int16 of ``x``, by its bits as an unsigned number."""
    for b in range(x.shape[0]):
        for p in range(x.shape[1]):
            for c in range(channels):
                out[b, p, c] = table[np.int64(x[b, p, c]) & 0xFFFF]


@compiled
def add(a, b, channels, first, second, shift, out):
    """``a * first + b * second``, shifted right by ``shift``, half up, as int16."""
    first, second = np.int64(np.int32(first)), np.int64(np.int32(second))
    half = (np.int64(1) << shift) >> 1
    for n in range(a.shape[0]):
        for p in range(a.shape[1]):
            left, right, target = a[n, p], b[n, p], out[n, p]
            for c in range(channels):
                v = (np.int64(left[c]) * first + np.int64(right[c]) * second + half) >> shift
                target[c] = min(max(v, -32768), 32767)


@compiled
def multiply(a, b, channels, multiplier, shift, out):
    """``a * b * multiplier``, shifted right by ``shift``, half up, as int16."""
    factor = np.int64(np.int32(multiplier))
    half = (np.int64(1) << shift) >> 1
    for n in range(a.shape[0]):
        for p in range(a.shape[1]):
            left, right, target = a[n, p], b[n, p], out[n, p]
            for c in range(channels):
                v = (np.int64(left[c]) * np.int64(right[c]) * factor + half) >> shift
                target[c] = min(max(v, -32768), 32767)


@compiled
def _round_shift(x, shift):
    return (x + (np.int64(1) << (shift - 1))) >> shift if shift > 0 else x


@compiled
def _reciprocal_square_root(v, table):
    half_exponent = np.int64(0)
    for bits in (32, 16, 8, 4, 2):
        if v >> (2 * half_exponent) >= np.int64(1) << bits:
            half_exponent += bits // 2
    exponent = 2 * half_exponent
    if exponent >= _RSQRT_MANTISSA:
        mantissa = v >> (exponent - _RSQRT_MANTISSA)
    else:
        mantissa = v << (_RSQRT_MANTISSA - exponent)
    position = mantissa - (np.int64(1) << _RSQRT_MANTISSA)
    index, rest = position >> _RSQRT_STEP, position & ((1 << _RSQRT_STEP) - 1)
    low, high = np.int64(table[index]), np.int64(table[index + 1])
    return low + _round_shift((high - low) * rest, _RSQRT_STEP), half_exponent


@compiled
def norm_coefficients(x, channels, groups, gain, offset, gain_bits, epsilon, root_table, slope, intercept):
    """``slope`` and ``intercept`` int64 [B, C] of the normalization; ``gain`` and ``offset`` are [1 or B, C]."""
    batch, pixels, _ = x.shape
    per_group = channels // groups
    count = np.int64(pixels * per_group)
    reciprocal = (np.int64(1) << RECIPROCAL_BITS) // count
    sums = np.empty(channels, np.int64)
    squares = np.empty(channels, np.int64)
    for b in range(batch):
        sums[:] = 0
        squares[:] = 0
        for p in range(pixels):
            source = x[b, p]
            for c in range(channels):
                v = np.int32(source[c])
                sums[c] += v
                squares[c] += v * v
        row = b if gain.shape[0] > 1 else 0
        for g in range(groups):
            first = g * per_group
            total = sums[first : first + per_group].sum()
            square = squares[first : first + per_group].sum()
            spread = np.uint64(square) * np.uint64(count) - np.uint64(np.abs(total)) * np.uint64(np.abs(total))
            if count <= SMALL_NORM:
                root, half_exponent = _reciprocal_square_root(np.int64(spread) + epsilon, root_table)
            else:
                quarter = np.int64(spread >> np.uint64(2)) + ((epsilon + 3) >> 2)
                root, half_exponent = _reciprocal_square_root(quarter, root_table)
                half_exponent += 1
            mean = _round_shift(total * reciprocal, RECIPROCAL_BITS - MEAN_BITS)
            shift = _RSQRT_ENTRY + half_exponent + gain_bits - SLOPE_BITS
            for c in range(first, first + per_group):
                a = _round_shift(count * root * np.int64(gain[row, c]), shift)
                slope[b, c] = min(max(a, -LARGEST_SLOPE), LARGEST_SLOPE)
                intercept[b, c] = offset[row, c] - _round_shift(mean * slope[b, c], MEAN_BITS)


@compiled
def normalize(x, channels, slope, intercept, activation, multiplier, shift, fine, out):
    """``x * slope + intercept``, by slopes of 32 bits where a sample's all fit; activated where the table ``activation`` (of
    every int16) is not empty, quantized where ``shift`` is not negative."""
    half = np.int64(1) << (SLOPE_BITS - 1)
    code_half = (np.int64(1) << max(shift, 0)) >> 1
    factor = np.int64(np.int32(multiplier))
    short = np.empty(channels, np.int32)
    y = np.empty(channels, np.int32)
    for b in range(x.shape[0]):
        a, d = slope[b], intercept[b]
        is_short = True
        for c in range(channels):
            short[c] = a[c]
            is_short &= np.int64(short[c]) == a[c]
        for p in range(x.shape[1]):
            source, target = x[b, p], out[b, p]
            if is_short:
                for c in range(channels):
                    v = (np.int64(source[c]) * np.int64(short[c]) + d[c] + half) >> SLOPE_BITS
                    y[c] = min(max(v, -32768), 32767)
            else:
                for c in range(channels):
                    v = (np.int64(source[c]) * a[c] + d[c] + half) >> SLOPE_BITS
                    y[c] = min(max(v, -32768), 32767)
            if activation.size:
                for c in range(channels):
                    y[c] = activation[y[c] & 0xFFFF]
            if shift >= 0:
                for c in range(channels):
                    v = (np.int64(y[c]) * factor + code_half) >> shift
                    target[c] = min(max(v, -128), 127)
                if fine:
                    for c in range(channels):
                        v = (np.int64(y[c]) * (multiplier << FINE_BITS) + code_half) >> shift
                        target[channels + c] = min(max(v - (np.int64(target[c]) << FINE_BITS), -128), 127)
            else:
                for c in range(channels):
                    target[c] = y[c]


@compiled
def group_norm(
    x,
    channels,
    groups,
    gain,
    offset,
    gain_bits,
    epsilon,
    root_table,
    activation,
    multiplier,
    shift,
    fine,
    slope,
    intercept,
    out,
):
    """:func:`norm_coefficients`, then :func:`normalize`, in one call; ``slope`` and ``intercept`` are left behind."""
    norm_coefficients(x, channels, groups, gain, offset, gain_bits, epsilon, root_table, slope, intercept)
    normalize(x, channels, slope, intercept, activation, multiplier, shift, fine, out)


@compiled
def softmax_shares(multiplier, shift, exp_table, shares):
    """Shares int16 of all distances to a row's largest logit, up to the first one that is 0; returns how many these are."""
    half = (np.int64(1) << shift) >> 1
    for distance in range(len(shares)):
        exponent = (np.int64(distance) * multiplier + half) >> shift
        whole = min(exponent >> _EXP_FRACTION, 31)
        fraction = exponent & ((1 << _EXP_FRACTION) - 1)
        index = fraction >> _EXP_STEP
        low, high = np.int64(exp_table[index]), np.int64(exp_table[index + 1])
        rest = fraction & ((1 << _EXP_STEP) - 1)
        entry = low + _round_shift((high - low) * rest, _EXP_STEP)
        shares[distance] = (entry * _LARGEST_CODE) >> (_EXP_ENTRY - SHARE_BITS + whole)
        if shares[distance] == 0:
            return distance + 1
    return len(shares)


@compiled
def softmax(x, shares, thresholds, out):
    """``x`` int16 [B, R, K] -> int8 [B, R, K]; ``shares`` as of :func:`softmax_shares`, the last one for all beyond."""
    keys = x.shape[2]
    last = np.int32(len(shares) - 1)
    for b in range(x.shape[0]):
        for r in range(x.shape[1]):
            source, target = x[b, r], out[b, r]
            top = np.int16(-32768)
            for k in range(keys):
                top = max(top, source[k])
            for k in range(keys):
                share = shares[min(np.int32(top) - np.int32(source[k]), last)]
                target[k] = (share + thresholds[k]) >> SHARE_BITS


@compiled
def requantize_mix(acc, p, first, last, multiplier, shift, low, high, heads, windows, interleaved, out):
    """Means ``first`` to ``last`` of all samples, windows and heads: ``acc`` int32 [B, windows * heads, Q, D], each row over
    the sum of its codes in ``p`` int8 [B, windows * heads, Q, K] -> ``out`` [B, windows * Q, heads * D or more]."""
    _, instances, queries, depth = acc.shape
    half = (np.int64(1) << shift) >> 1
    for index in range(first, last):
        sample, instance = index // instances, index % instances
        window, column = instance // heads, instance % heads * depth
        for q in range(queries):
            factor = np.int64(np.int32(_row_multiplier(p[sample, instance, q], multiplier)))
            token = q * windows + window if interleaved else window * queries + q
            source, target = acc[sample, instance, q], out[sample, token, column : column + depth]
            for c in range(depth):
                v = (np.int64(source[c]) * factor + half) >> shift
                target[c] = min(max(v, low), high)


@compiled
def _row_multiplier(codes, multiplier):
    """The multiplier that divides a row's product by the sum of its softmax codes int8 [K]."""
    total = np.int32(0)
    for k in range(len(codes)):
        total += np.int32(codes[k])
    reciprocal = (np.int64(1) << ROW_RECIPROCAL_BITS) // np.int64(max(total, _LARGEST_CODE))
    return _round_shift(np.int64(multiplier) * reciprocal, ROW_BITS)


@compiled
def count_map(codes, previous, lanes, digits, width, rows_counts):
    """Digits per lane of ``codes - previous`` into uint16 ``digits`` [N, lanes]; operands int8 [N, K].

    Adds (zeros, narrow non-zeros, digits) of every ``width`` pixels to int64 ``rows_counts`` [N / width, 3]. An empty
    ``previous`` is the reference zero.
    """
    rows, depth = codes.shape
    temporal = previous.size > 0
    nothing = np.zeros(depth, np.int8)
    digit = np.zeros(depth, np.int32)
    lane = np.empty(lanes, np.int32)
    for n in range(rows):
        source = codes[n]
        before = previous[n] if temporal else nothing
        row_present, row_narrow, row_total = np.int32(0), np.int32(0), np.int32(0)
        for k in range(depth):  # without branches, so that it is vectorized
            d = np.int32(source[k]) - np.int32(before[k])
            present = np.int32(d != 0)
            high, low = _digits_of(d)
            digit[k] = np.int32(np.int32(high) != 0) + np.int32(np.int32(low) != 0)
            row_present += present
            row_total += digit[k]
            row_narrow += np.int32(((d + _NARROW) & (-2 * _NARROW)) == 0)
        counts = rows_counts[n // width]
        counts[0] += depth - row_present
        counts[1] += row_narrow - (depth - row_present)
        counts[2] += row_total
        lane[:] = 0
        for first in range(0, depth, lanes):
            part = digit[first : first + lanes]  # slices spare numba the check for negative indices
            for j in range(len(part)):
                lane[j] += part[j]
        for j in range(lanes):
            digits[n, j] = lane[j]


@compiled
def window_cycles(
    digits, kernel_height, kernel_width, stride_height, stride_width, top, left, rows, columns, cycles, used
):
    """Per output row, into int64 [B, rows]: ``cycles``, the sum over its pixels of the fullest lane's digits, at least 1 each;
    ``used``, the digits in all windows.

    ``digits`` uint16 [B, H, W, lanes]; padding contributes none.
    """
    batch, height, width, lanes = digits.shape
    flat = digits.reshape(batch, height, width * lanes)
    window = np.empty((columns, lanes), np.int32)
    line = window.reshape(columns * lanes)
    for b in range(batch):
        for y in range(rows):
            line[:] = 0
            row_cycles, row_used = 0, 0
            for ky in range(kernel_height):
                sy = y * stride_height + ky - top
                if sy < 0 or sy >= height:
                    continue
                for kx in range(kernel_width):
                    first = max(0, -((kx - left) // stride_width))  # output columns whose tap is inside the image
                    last = min(columns, (width - 1 - kx + left) // stride_width + 1)
                    if last <= first:
                        continue
                    start = first * stride_width + kx - left
                    if stride_width == 1:  # slices spare numba the check for negative indices
                        target = line[first * lanes : last * lanes]
                        source = flat[b, sy, start * lanes : (start + last - first) * lanes]
                        for i in range(len(target)):
                            target[i] += source[i]
                    else:
                        for x in range(first, last):
                            pixel, source = window[x], digits[b, sy, x * stride_width + kx - left]
                            for j in range(lanes):
                                pixel[j] += source[j]
            for x in range(columns):
                pixel = window[x]
                fullest = np.int32(1)
                for j in range(lanes):
                    row_used += pixel[j]
                    fullest = max(fullest, pixel[j])
                row_cycles += fullest
            cycles[b, y] = row_cycles
            used[b, y] = row_used
