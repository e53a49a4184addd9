# mypy: ignore-errors
"""Compiled loops of integer products (numba): exact on every CPU, for they multiply int16 by int16 into int32.

A tile is the sums of ``PIXELS`` rows by ``OUTPUTS`` outputs, two input channels at a time: LLVM makes one instruction of the
two products and their sum (x86: ``vpmaddwd``, with VNNI ``vpdpwssd``), twice as many products a cycle as in float32. It is
built here from LLVM's vector operations, which numba has no words for; the tile's sums stay in registers.

3 x 3 convolutions of stride 1 are computed in squares: Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray 2016, section
4.1) needs 16 products for 4 pixels in place of 36. It is exact on integers: the halves in its transform of weights are doubled,
in both directions, and the 4 that this makes is shifted out of the sums.

What is made of the sums is here too: numba knows a change of this file only, and would keep what it compiled of another one's.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector_loops import compiled

PIXELS, OUTPUTS = 6, 16  # 12 of AVX2's 16 registers are sums
BAND_BYTES = 1 << 18  # of an image, that stay in the cache while all outputs pass
SQUARE_BYTES = 1 << 18  # of a band's squares and their sums, likewise
SQUARE = 16  # products of a square, for each pair of input and output channels
MOST_SUM = 1 << 29  # whose fourfold int32 holds
LARGEST_OPERAND = 255  # of differences
FEWEST_CHANNELS = 8  # that are worth the transforms

# Lavin and Gray's G, doubled, and their B and A, transposed
OF_WEIGHTS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])
OF_CODES = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
OF_SUMS = ((1, 1, 1, 0), (0, 1, -1, -1))

_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))
_SUMS, _CODES, _PRODUCTS = (
    ir.VectorType(_I32, OUTPUTS),
    ir.VectorType(_I16, 2 * OUTPUTS),
    ir.VectorType(_I32, 2 * OUTPUTS),
)
LANES = 16  # channels that a transform takes at a time


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


def _transform(matrix, kind, shift):
    """An intrinsic: ``matrix . x . matrix transposed`` >> ``shift`` of ``count`` vectors of squares x. All arguments are int64:
    addresses, and bytes from row to row and from column to column, of x and of the result."""

    @intrinsic
    def transform(typing_context, source, row, column, target, target_row, target_column, count):
        def generate(context, builder, signature, arguments):
            _build_transform(builder, matrix, kind, shift, *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return transform


def _build_transform(builder, matrix, kind, shift, source, row, column, target, target_row, target_column, count):
    entry, each, end = builder.block, builder.append_basic_block("each"), builder.append_basic_block("end")
    builder.branch(each)
    builder.position_at_end(each)
    index, offset = _carry(builder, entry, [_I64(0), _I64(0)])

    def place(base, first, i, second, j):
        rows, columns = builder.mul(first, _I64(i)), builder.mul(second, _I64(j))
        return builder.add(builder.add(base, offset), builder.add(rows, columns))

    size = range(len(matrix[0]))
    square = [[_load(builder, place(source, row, i, column, j), kind) for j in size] for i in size]
    columns = [[_signed_sum(builder, factors, [square[i][j] for i in size]) for factors in matrix] for j in size]
    for i in range(len(matrix)):
        for j, factors in enumerate(matrix):
            total = _signed_sum(builder, factors, [columns[k][i] for k in size])
            total = builder.ashr(total, ir.Constant(kind, [shift] * kind.count)) if shift else total
            address = builder.inttoptr(place(target, target_row, i, target_column, j), kind.as_pointer())
            builder.store(total, address).align = 2
    vector_bytes = kind.count * kind.element.width // 8
    following = [builder.add(index, _I64(1)), builder.add(offset, _I64(vector_bytes))]
    _carry_on((index, offset), following, each)
    builder.cbranch(builder.icmp_signed("<", following[0], count), each, end)
    builder.position_at_end(end)


def _signed_sum(builder, factors, values):
    """The sum of ``values``, each times its factor, 1, 0 or -1; one is 1."""
    first, *others = [value for factor, value in zip(factors, values, strict=True) if factor == 1]
    for value in others:
        first = builder.add(first, value)
    for factor, value in zip(factors, values, strict=True):
        first = builder.sub(first, value) if factor == -1 else first
    return first


_codes_of_square = _transform(OF_CODES, ir.VectorType(_I16, LANES), 0)
_sums_of_square = _transform(OF_SUMS, ir.VectorType(_I32, LANES // 2), 2)


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
def _is_in_squares(weights, kernel):
    return weights.shape[1] == SQUARE and kernel[0] == 3 and kernel[1] == 3


@compiled
def _plan(rows, columns, weights, kernel, stride):
    """What a band of output rows needs: how many rows it has, the image's part int16 [H, W, C], byte offsets of taps and of
    pixels or squares; squares int16 [SQUARE, squares, C] and their sums int32 [SQUARE, squares, O], empty where there are
    none."""
    pairs, outputs = weights.shape[2], weights.shape[0] * OUTPUTS
    if _is_in_squares(weights, kernel):
        across, channels = (columns + 1) // 2, (2 * pairs + LANES - 1) // LANES * LANES
        most = max(1, SQUARE_BYTES // (SQUARE * across * (2 * channels + 4 * outputs)))
        down = min((rows + 1) // 2, most)
        band = np.empty((2 * down + 2, 2 * across + 2, channels), np.int16)
        squares = np.empty((SQUARE, down * across, channels), np.int16)
        offsets = np.arange(down * across) * (2 * channels)
        return (
            2 * down,
            band,
            np.zeros(1, np.int64),
            offsets,
            squares,
            np.empty((SQUARE, down * across, outputs), np.int32),
        )
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
    return at_once, band, taps, offsets, np.empty((0, 0, 0), np.int16), np.empty((0, 0, 0), np.int32)


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
def _sum_band(image, plan, weights, kernel, stride, corner, top, count, columns, outputs, flat):
    """``count`` output rows of an ``image`` from ``top`` on -> ``flat`` int32 [count * columns, outputs]."""
    _, band, taps, offsets, squares, _ = plan
    lines = (count - 1) * stride[0] + kernel[0]
    lines += count % 2 if squares.size else 0
    _fill(band, image, lines, top * stride[0] - corner[0], corner[1])
    if squares.size:
        _sum_squares(plan, weights, count, columns, outputs, flat)
    else:
        _multiply(band.ctypes.data, offsets[: count * columns], taps, weights.shape[2], weights, outputs, flat)


@compiled
def _sum_squares(plan, weights, count, columns, outputs, flat):
    """Sum a band that is filled as :func:`_sum_band` does, in squares of two rows and two columns."""
    _, band, taps, offsets, squares, sums = plan
    _, wide, channels = band.shape
    across, down, all_outputs = wide // 2 - 1, (count + 1) // 2, sums.shape[2]
    plane, plane_of_sums = 2 * channels * squares.shape[1], 4 * all_outputs * squares.shape[1]
    for y in range(down):
        for x in range(across):
            source, target = band[2 * y, 2 * x].ctypes.data, squares[0, y * across + x].ctypes.data
            _codes_of_square(source, 2 * channels * wide, 2 * channels, target, 4 * plane, plane, channels // LANES)
    for place in range(SQUARE):
        codes, factors = squares[place].ctypes.data, weights[:, place : place + 1]
        _multiply(codes, offsets[: down * across], taps, weights.shape[2], factors, all_outputs, sums[place])
    pixels = np.empty((2, 2, all_outputs), np.int32)
    square, line, vectors = pixels.ctypes.data, 4 * all_outputs, 2 * all_outputs // LANES
    for y in range(down):
        for x in range(across):
            source = sums[0, y * across + x].ctypes.data
            _sums_of_square(source, 4 * plane_of_sums, plane_of_sums, square, 2 * line, line, vectors)
            for i in range(min(2, count - 2 * y)):
                for j in range(min(2, columns - 2 * x)):
                    target, source = flat[(2 * y + i) * columns + 2 * x + j], pixels[i, j]
                    for o in range(outputs):
                        target[o] = source[o]


@compiled
def convolve(codes, weights, kernel, stride, corner, first, last, sums):
    """Output rows ``first`` to ``last`` of all samples': codes int8 or int16 [B, H, W, C] -> ``sums`` int32 [B, H', W', O].

    ``weights`` as of :func:`pack`; ``corner``: rows and columns of padding above and left.
    """
    _, rows, columns, outputs = sums.shape
    plan = _plan(rows, columns, weights, kernel, stride)
    row = first
    while row < last:
        sample, top = row // rows, row % rows
        count = min(plan[0], last - row, rows - top)
        flat = sums[sample].reshape(rows * columns, outputs)[top * columns : (top + count) * columns]
        _sum_band(codes[sample], plan, weights, kernel, stride, corner, top, count, columns, outputs, flat)
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
    """As :func:`convolve`, but requantized, as :func:`requantize_rows` does, while the sums are in the cache; ``size``: (H', W',
    O)."""
    rows, columns, outputs = size
    plan = _plan(rows, columns, weights, kernel, stride)
    sums = np.empty((plan[0] * columns, outputs), np.int32)
    row = first
    while row < last:
        sample, top = row // rows, row % rows
        count = min(plan[0], last - row, rows - top)
        part = sums[: count * columns]
        _sum_band(codes[sample], plan, weights, kernel, stride, corner, top, count, columns, outputs, part)
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


def pack(weight: np.ndarray, stride: tuple[int, int] = (1, 1)) -> np.ndarray:
    """int8 [O, kh, kw, C] -> int16 [ceil(O / OUTPUTS), kh * kw, ceil(C / 2), OUTPUTS, 2], zeros where there is none; or, with
    SQUARE in place of kh * kw, what squares are multiplied with, where these need fewer products and their sums hold."""
    outputs, height, width, channels = weight.shape
    largest = LARGEST_OPERAND * int(np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0))
    is_square = (height, width, *stride) == (3, 3, 1, 1)
    if is_square and channels >= FEWEST_CHANNELS and largest < MOST_SUM:
        weight = np.einsum("ia,oabc,jb->oijc", OF_WEIGHTS, weight, OF_WEIGHTS)
    blocks, pairs = -(-outputs // OUTPUTS), -(-channels // 2)
    padded = np.zeros((blocks * OUTPUTS, weight[0, ..., 0].size, 2 * pairs), np.int16)
    padded[:outputs, :, :channels] = weight.reshape(outputs, -1, channels)
    return np.ascontiguousarray(padded.reshape(blocks, OUTPUTS, -1, pairs, 2).transpose(0, 2, 3, 1, 4))
