"""Random blocks of a core's output pixels, what `walk`, `enumerate` and `multiply` of kernels/compute.hpp make of them, and how
they are written into the RTL's memories."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

LOW, HIGH = 0, 1


@dataclass(frozen=True)
class Shape:
    """Parameters of the modules under test."""

    lanes: int
    oc_tile: int
    digit_depth: int
    positions: int
    weight_depth: int
    accumulator_depth: int


@dataclass(frozen=True)
class Block:
    """Inputs of the core by their names in compute_core.sv."""

    output_rows: int
    output_width: int
    first_sum: int
    first_row: int
    first_column: int
    rows: int
    width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    lead_columns: int
    chained_row: bool
    chained_block: bool
    words: int
    first_weight: int

    def fields(self) -> dict[str, int]:
        return {name: int(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Lists:
    """Digit lists of one core: ``counts`` [lanes, 2, positions], ``digits`` and ``words`` [lanes, 2, entries]."""

    counts: np.ndarray
    digits: np.ndarray
    words: np.ndarray


def random_block(rng: np.random.Generator, shape: Shape) -> Block:
    """One that fits the memories, padded, strided and chained in all ways."""
    while True:
        kernel_height, kernel_width = (int(size) for size in rng.integers(1, 6, 2))
        rows, width = (int(size) for size in rng.integers(1, 8, 2))
        words = int(rng.integers(1, 5))
        output_rows, output_width = (int(size) for size in rng.integers(1, 6, 2))
        fits = (
            rows * width <= shape.positions
            and rows * width * words <= shape.digit_depth
            and output_rows * output_width <= shape.accumulator_depth
            and kernel_height * kernel_width * words <= shape.weight_depth
        )
        if fits:
            break
    chained_row = bool(rng.integers(2))
    return Block(
        output_rows=output_rows,
        output_width=output_width,
        first_sum=int(rng.integers(0, shape.accumulator_depth - output_rows * output_width + 1)),
        first_row=-int(rng.integers(0, kernel_height)),
        first_column=-int(rng.integers(0, kernel_width)),
        rows=rows,
        width=width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride_height=int(rng.integers(1, 3)),
        stride_width=int(rng.integers(1, 3)),
        lead_columns=int(rng.integers(0, 3)) if chained_row else 0,
        chained_row=chained_row,
        chained_block=chained_row and bool(rng.integers(2)),
        words=words,
        first_weight=int(rng.integers(0, shape.weight_depth - kernel_height * kernel_width * words + 1)),
    )


def random_lists(rng: np.random.Generator, shape: Shape, block: Block, densest: bool) -> Lists:
    """Few or many digits; ``densest``: as many and as large ones as there can be."""
    counts = np.zeros((shape.lanes, 2, shape.positions), np.int64)
    digits = np.zeros((shape.lanes, 2, shape.digit_depth), np.int64)
    words = np.zeros_like(digits)
    often = 1.0 if densest else rng.choice([0.0, 0.1, 0.5, 0.9])
    for lane, half in np.ndindex(shape.lanes, 2):
        for position in range(block.rows * block.width):
            found = np.flatnonzero(rng.random(block.words) < often)
            counts[lane, half, position] = len(found)
            slots = slice(position * block.words, position * block.words + len(found))
            words[lane, half, slots] = found
            digits[lane, half, slots] = -16 if densest else rng.integers(-16, 16, len(found))
    return Lists(counts, digits, words)


def compute(
    shape: Shape, block: Block, lists: Lists, weights: np.ndarray
) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
    """The sums that the block stores, with their addresses, and its cycles by the cycle model. ``weights`` [lanes, depth, oc]."""
    sums, taps, cycles = [], 0, 0
    total, address = np.zeros(shape.oc_tile, np.int64), block.first_sum
    for y in range(block.output_rows):
        for x in range(-block.lead_columns, block.output_width):
            row_starts = x == -block.lead_columns
            clear = (row_starts and y == 0) if block.chained_block else row_starts if block.chained_row else True
            total = np.zeros_like(total) if clear else total
            of_lanes = np.zeros(shape.lanes, np.int64)
            for ky, kx in np.ndindex(block.kernel_height, block.kernel_width):
                taps += 1
                row = y * block.stride_height + ky + block.first_row
                column = (x + block.lead_columns) * block.stride_width + kx + block.first_column
                if not (0 <= row < block.rows and 0 <= column < block.width):
                    continue
                position, weight = (
                    row * block.width + column,
                    block.first_weight + (ky * block.kernel_width + kx) * block.words,
                )
                for lane, half in np.ndindex(shape.lanes, 2):
                    count = lists.counts[lane, half, position]
                    of_lanes[lane] += count
                    for entry in range(position * block.words, position * block.words + count):
                        digit = lists.digits[lane, half, entry] * (16 if half == HIGH else 1)
                        total = total + digit * weights[lane, weight + lists.words[lane, half, entry]]
            cycles += max(int(of_lanes.max()), 1)
            if x >= 0:
                sums.append((address, tuple(int(value) for value in total)))
                address += 1
    return sums, max(taps, cycles)


def compute_dense(
    block: Block, codes: np.ndarray, weights: np.ndarray
) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
    """The same of a dense core, for ``codes`` [slots, lanes]: every word of every tap takes a cycle, in the padding too."""
    sums = []
    for index, (y, x) in enumerate(np.ndindex(block.output_rows, block.output_width)):
        total = np.zeros(weights.shape[2], np.int64)
        for ky, kx in np.ndindex(block.kernel_height, block.kernel_width):
            row = y * block.stride_height + ky + block.first_row
            column = x * block.stride_width + kx + block.first_column
            if 0 <= row < block.rows and 0 <= column < block.width:
                slot = (row * block.width + column) * block.words
                weight = block.first_weight + (ky * block.kernel_width + kx) * block.words
                of_tap = weights[:, weight : weight + block.words].astype(np.int64)
                total = total + np.einsum("sl,lso->o", codes[slot : slot + block.words], of_tap)
        sums.append((block.first_sum + index, tuple(int(value) for value in total)))
    return sums, len(sums) * block.kernel_height * block.kernel_width * block.words


def pack(values: np.ndarray, bits: int) -> int:
    """Fields of ``bits`` bits, the first one lowest."""
    mask = (1 << bits) - 1
    return sum((int(value) & mask) << (bits * index) for index, value in enumerate(np.ravel(values)))


def unpack(word: int, bits: int, count: int) -> tuple[int, ...]:
    """Signed fields of ``bits`` bits."""
    fields = [(word >> (bits * index)) & ((1 << bits) - 1) for index in range(count)]
    return tuple(field - (1 << bits) if field >> (bits - 1) else field for field in fields)
