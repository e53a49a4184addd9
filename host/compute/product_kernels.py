# mypy: ignore-errors
"""Compiled loops of integer products (numba): exact on every CPU, for they multiply int16 by int16 into int32.

A tile is the sums of ``PIXELS`` rows by ``OUTPUTS`` outputs, two input channels at a time: LLVM makes one instruction of the
two products and their sum (x86: ``vpmaddwd``, with VNNI ``vpdpwssd``), twice as many products a cycle as in float32. It is
built here from LLVM's vector operations, which numba has no words for; the tile's sums stay in registers.

What is made of the sums is here too: numba knows a change of this file only, and would keep what it compiled of another one's.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .kernels import compiled

PIXELS, OUTPUTS = 6, 16  # 12 of AVX2's 16 registers are sums
BAND_BYTES = 1 << 18  # of an image, that stay in the cache while all outputs pass

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_SUMS, _CODES, _PRODUCTS = (
    ir.VectorType(_I32, OUTPUTS),
    ir.VectorType(_I16, 2 * OUTPUTS),
    ir.VectorType(_I32, 2 * OUTPUTS),
)


@intrinsic
def _tile(typing_context, sums, row_bytes, rows, taps, tap_count, pairs, weights):
    """Sums int32 [PIXELS, OUTPUTS], ``row_bytes`` apart, all arguments int64, addresses in bytes.

    ``rows``: of PIXELS addresses of int16 pairs; ``taps``: of offsets to them, each of ``pairs`` pairs; ``weights`` int16
    [taps, pairs, OUTPUTS, 2].
    """

    def generate(context, builder, signature, arguments):
        _build_tile(builder, *arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), generate


def _build_tile(builder, sums, row_bytes, rows, taps, tap_count, pairs, weights):
    """Two loops, over taps and over pairs of channels, that carry the sums."""
    entry = builder.block
    bases = [_load(builder, builder.add(rows, _I64(8 * pixel)), _I64) for pixel in range(PIXELS)]
    zeros = [ir.Constant(_SUMS, [0] * OUTPUTS)] * PIXELS
    each_tap, each_pair, next_tap, end = (builder.append_basic_block(name) for name in ("tap", "pair", "next", "end"))
    builder.branch(each_tap)

    builder.position_at_end(each_tap)
    tap, tap_weights, *tap_sums = _carry(builder, entry, [_I64(0), weights, *zeros])
    offset = _load(builder, builder.add(taps, builder.shl(tap, _I64(3))), _I64)
    starts = [builder.add(base, offset) for base in bases]
    builder.branch(each_pair)

    builder.position_at_end(each_pair)
    pair, pair_weights, *pair_sums = _carry(builder, each_tap, [_I64(0), tap_weights, *tap_sums])
    factors = builder.sext(_load(builder, pair_weights, _CODES), _PRODUCTS)
    place = builder.shl(pair, _I64(2))
    totals = [
        builder.add(total, _pair_products(builder, builder.add(start, place), factors))
        for total, start in zip(pair_sums, starts, strict=True)
    ]
    following = [builder.add(pair, _I64(1)), builder.add(pair_weights, _I64(4 * OUTPUTS)), *totals]
    _carry_on((pair, pair_weights, *pair_sums), following, each_pair)
    builder.cbranch(builder.icmp_signed("<", following[0], pairs), each_pair, next_tap)

    builder.position_at_end(next_tap)
    advanced = [builder.add(tap, _I64(1)), *following[1:]]
    _carry_on((tap, tap_weights, *tap_sums), advanced, next_tap)
    builder.cbranch(builder.icmp_signed("<", advanced[0], tap_count), each_tap, end)

    builder.position_at_end(end)
    for pixel, total in enumerate(totals):
        target = builder.add(sums, builder.mul(row_bytes, _I64(pixel)))
        builder.store(total, builder.inttoptr(target, _SUMS.as_pointer())).align = 4


def _load(builder, address, kind):
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 8 if kind == _I64 else 2
    return value


def _carry(builder, before, values):
    """Values that a loop carries, as they come from the block ``before`` it."""
    carried = [builder.phi(value.type) for value in values]
    _carry_on(carried, values, before)
    return carried


def _carry_on(carried, values, block):
    for each, value in zip(carried, values, strict=True):
        each.add_incoming(value, block)


def _pair_products(builder, address, factors):
    """int32 [OUTPUTS]: a pair of int16 times ``factors`` [OUTPUTS, 2], the two products added."""
    undefined = ir.Constant(_SUMS, ir.Undefined)
    first = builder.insert_element(undefined, _load(builder, address, _I32), _I32(0))
    repeated = builder.shuffle_vector(first, undefined, ir.Constant(_SUMS, [0] * OUTPUTS))
    products = builder.mul(builder.sext(builder.bitcast(repeated, _CODES), _PRODUCTS), factors)
    halves = [
        builder.shuffle_vector(
            products, ir.Constant(_PRODUCTS, ir.Undefined), ir.Constant(_SUMS, list(range(parity, 2 * OUTPUTS, 2)))
        )
        for parity in (0, 1)
    ]
    return builder.add(*halves)


@compiled
def _multiply(base, offsets, taps, pairs, weights, outputs, sums):
    """``sums`` int32 [pixels, O] of int16 pairs at ``base`` + ``offsets`` [pixels] bytes."""
    pixels = len(offsets)
    rows = np.empty(PIXELS, np.int64)
    part = np.empty((PIXELS, OUTPUTS), np.int32)
    for block in range(weights.shape[0]):
        first = block * OUTPUTS
        count = min(OUTPUTS, outputs - first)
        factors = weights[block].ctypes.data
        for pixel in range(0, pixels, PIXELS):
            inside = min(PIXELS, pixels - pixel)
            for row in range(PIXELS):
                rows[row] = base + offsets[pixel + min(row, inside - 1)]
            is_whole = inside == PIXELS and count == OUTPUTS
            target = sums[pixel, first:].ctypes.data if is_whole else part.ctypes.data
            row_bytes = 4 * (outputs if is_whole else OUTPUTS)
            _tile(target, row_bytes, rows.ctypes.data, taps.ctypes.data, len(taps), pairs, factors)
            if not is_whole:
                for row in range(inside):
                    for output in range(count):
                        sums[pixel + row, first + output] = part[row, output]


@compiled
def _plan(rows, columns, pairs, kernel, stride):
    """Of bands of output rows: how many rows, a band of the image int16 [H, W, 2 * pairs], byte offsets of taps and of pixels."""
    wide = (columns - 1) * stride[1] + kernel[1]
    line, pixel_bytes = 4 * pairs * wide, 4 * pairs
    at_once = min(rows, max(1, BAND_BYTES // (line * stride[0])))
    band = np.empty(((at_once - 1) * stride[0] + kernel[0], wide, 2 * pairs), np.int16)
    taps = np.empty(kernel[0] * kernel[1], np.int64)
    for tap in range(len(taps)):
        taps[tap] = tap // kernel[1] * line + tap % kernel[1] * pixel_bytes
    offsets = np.empty(at_once * columns, np.int64)
    for pixel in range(len(offsets)):
        offsets[pixel] = pixel // columns * stride[0] * line + pixel % columns * stride[1] * pixel_bytes
    return at_once, band, taps, offsets


@compiled
def _fill(band, image, lines, first, left):
    """``lines`` of ``image`` [H, W, C] from its row ``first`` on, zeros around it; ``left`` columns of them."""
    height, width, channels = image.shape
    for line in range(lines):
        row = band[line]
        row[:] = 0
        source = first + line
        if 0 <= source < height:
            for x in range(max(0, left), min(len(row), width + left)):
                target, pixel = row[x], image[source, x - left]
                for c in range(channels):
                    target[c] = pixel[c]


@compiled
def convolve(codes, weights, kernel, stride, corner, first, last, sums):
    """Output rows ``first`` to ``last`` of all samples': codes int8 or int16 [B, H, W, C] -> ``sums`` int32 [B, H', W', O].

    ``weights`` int16 [ceil(O / OUTPUTS), taps, pairs, OUTPUTS, 2]; ``corner``: rows and columns of padding above and left.
    """
    _, rows, columns, outputs = sums.shape
    at_once, band, taps, offsets = _plan(rows, columns, weights.shape[2], kernel, stride)
    row = first
    while row < last:
        sample, top = row // rows, row % rows
        count = min(at_once, last - row, rows - top)
        _fill(band, codes[sample], (count - 1) * stride[0] + kernel[0], top * stride[0] - corner[0], corner[1])
        flat = sums[sample].reshape(rows * columns, outputs)[top * columns : (top + count) * columns]
        _multiply(band.ctypes.data, offsets[: count * columns], taps, weights.shape[2], weights, outputs, flat)
        row += count


@compiled
def requantize_rows(acc, bias, multiplier, shift, low, high, out):
    """Accumulators ``acc`` [B, P, O], exact integers as float32 or int32, plus ``bias`` int32 [1 or B, O], times ``multiplier``
    int32 [1 or B, 1 or O], over 2**shift, half up, clipped to [low, high] -> ``out`` int8 or int16 [B, P, O or more]."""
    batch, pixels, channels = acc.shape
    half = (np.int64(1) << shift) >> 1
    factors = np.empty(channels, np.int32)
    offsets = np.empty(channels, np.int64)  # the bias, multiplied too: products of two int32 take one instruction
    for b in range(batch):
        if b == 0 or multiplier.shape[0] > 1 or bias.shape[0] > 1:
            row = bias[b if bias.shape[0] > 1 else 0]
            of_gates = multiplier[b if multiplier.shape[0] > 1 else 0]
            for c in range(channels):
                factors[c] = of_gates[c if multiplier.shape[1] > 1 else 0]
                offsets[c] = np.int64(row[c]) * np.int64(factors[c]) + half
        for p in range(pixels):
            source = acc[b, p]
            target = out[b, p]
            for c in range(channels):
                v = (np.int64(np.int32(source[c])) * np.int64(factors[c]) + offsets[c]) >> shift
                target[c] = min(max(v, low), high)


@compiled
def convolve_to_codes(
    codes, weights, kernel, stride, corner, size, first, last, bias, multiplier, shift, low, high, out
):
    """The same, requantized as :func:`requantize_rows` does while the sums are in the cache; ``size``: (H', W', O)."""
    rows, columns, outputs = size
    at_once, band, taps, offsets = _plan(rows, columns, weights.shape[2], kernel, stride)
    sums = np.empty((at_once * columns, outputs), np.int32)
    row = first
    while row < last:
        sample, top = row // rows, row % rows
        count = min(at_once, last - row, rows - top)
        _fill(band, codes[sample], (count - 1) * stride[0] + kernel[0], top * stride[0] - corner[0], corner[1])
        part = sums[: count * columns]
        _multiply(band.ctypes.data, offsets[: count * columns], taps, weights.shape[2], weights, outputs, part)
        of_bias = bias[sample : sample + 1] if bias.shape[0] > 1 else bias
        of_gates = multiplier[sample : sample + 1] if multiplier.shape[0] > 1 else multiplier
        target = out[sample][top * columns : (top + count) * columns]
        requantize_rows(
            part.reshape(1, *part.shape), of_bias, of_gates, shift, low, high, target.reshape(1, *target.shape)
        )
        row += count


@compiled
def multiply_matrices(left, right, first, last, sums):
    """Matrices ``first`` to ``last``: left int8 or int16 [N, M, K] times right [N, K, O] -> ``sums`` int32 [N, M, O]."""
    _, height, depth = left.shape
    outputs = right.shape[2]
    pairs, blocks = (depth + 1) // 2, (outputs + OUTPUTS - 1) // OUTPUTS
    rows = np.zeros((height, 2 * pairs), np.int16)
    weights = np.zeros((blocks, 1, pairs, OUTPUTS, 2), np.int16)
    offsets = np.arange(height) * (4 * pairs)
    taps = np.zeros(1, np.int64)
    for index in range(first, last):
        for m in range(height):
            for k in range(depth):
                rows[m, k] = left[index, m, k]
        for k in range(depth):
            for o in range(outputs):
                weights[o // OUTPUTS, 0, k // 2, o % OUTPUTS, k % 2] = right[index, k, o]
        _multiply(rows.ctypes.data, offsets, taps, pairs, weights, outputs, sums[index])


def pack(weight: np.ndarray) -> np.ndarray:
    """int8 [O, kh, kw, C] -> int16 [ceil(O / OUTPUTS), kh * kw, ceil(C / 2), OUTPUTS, 2], zeros where there is none."""
    outputs, height, width, channels = weight.shape
    blocks, pairs = -(-outputs // OUTPUTS), -(-channels // 2)
    padded = np.zeros((blocks * OUTPUTS, height * width, 2 * pairs), np.int16)
    padded[:outputs, :, :channels] = weight.reshape(outputs, height * width, channels)
    return np.ascontiguousarray(padded.reshape(blocks, OUTPUTS, -1, pairs, 2).transpose(0, 2, 3, 1, 4))
