"""How a linear operator is cut into tiles that fit an accelerator's buffers: see the loop nest of ``kernels/linear.hpp``.

Output channels come in tiles of ``oc_tile``, ``pass_tiles`` of them in a *pass*; output rows in *blocks*, one per core in a
*round*; input channels in *chunks*. Where all chunks of a pass fit the weight banks the pass is *resident*: its weights are
fetched once for all rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..contract.arithmetic import ceil_divide
from ..contract.formats import SUM_BYTES, WEIGHT_BITS
from .config import HardwareConfig

LARGEST_KERNEL = 32  # taps: a pixel's segments wait in their lane's queue till all of its taps are counted
QUEUES = {"taps": 2, "segments": LARGEST_KERNEL, "tokens": 4, "totals": 8}
"""Depths of a lane's queues (``kernels/compute.hpp``): the smallest ones, but for a power of two, that cost no cycles
(scripts/prove-hardware compares others). Deeper ones buy nothing, for the lanes meet at the end of every output pixel."""
EXPECTED_DIGITS = 0.6  # per operand element, to weigh computing against fetching; any value gives a correct plan


class CannotPlan(ValueError):
    """Raised for a layer that no tiling fits into the buffers; the message has the numbers."""


@dataclass(frozen=True)
class ProductShape:
    """The shape of one linear operator on one instance. ``dense``: operand pixels follow each other without gaps.

    ``staged``: the weights are codes of another operand, transposed on their way into the banks.
    """

    samples: int
    height: int
    width: int
    channels: int
    output_height: int
    output_width: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride_height: int = 1
    dense: bool = False
    staged: bool = False
    gathered: bool = False  # the operand is read in columns
    extra_columns: int = 0  # that spatial differences encode beyond the operand's width
    weight_bits: int = WEIGHT_BITS

    @property
    def taps(self) -> int:
        """The pixels of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def input_rows(self, output_rows: int) -> int:
        """The most input rows that ``output_rows`` see."""
        return min((output_rows - 1) * self.stride_height + self.kernel[0], self.height)

    def positions(self, block_rows: int) -> int:
        """The most encoded input pixels that ``block_rows`` output rows see."""
        return self.input_rows(block_rows) * (self.width + self.extra_columns)


@dataclass(frozen=True)
class Plan:
    """How an operator is cut: rows of a block, channels of a chunk, tiles of a pass, operand pixels of a run; whether passes are
    resident."""

    block_rows: int
    chunk_channels: int
    pass_tiles: int
    segment_pixels: int
    resident: bool


def plan_product(config: HardwareConfig, shape: ProductShape, name: str = "layer") -> Plan:
    """The plan of least estimated time. CannotPlan where not even one output row and one lane's channels fit, and for kernels
    larger than LARGEST_KERNEL."""
    if shape.taps > LARGEST_KERNEL:
        height, width = shape.kernel
        raise CannotPlan(f"{name}: found a kernel of {height} x {width}, expected at most {LARGEST_KERNEL} taps")
    plans = list(_plans(config, shape))
    if not plans:
        raise CannotPlan(
            f"{name}: one output row needs {shape.positions(1)} positions and {shape.output_width} sums, but a "
            f"core of {config.board} has {config.positions} and {config.accumulator_depth} (and {config.digit_depth} digits); "
            "use a configuration with larger buffers"
        )
    return min(plans, key=lambda plan: (estimated_cycles(config, shape, plan), -plan.block_rows, -plan.pass_tiles))


def _plans(config: HardwareConfig, shape: ProductShape) -> Iterator[Plan]:
    tiles = ceil_divide(shape.outputs, config.oc_tile)
    for block_rows in range(1, shape.output_height + 1):
        positions = shape.positions(block_rows)
        if positions > config.positions or block_rows * shape.output_width > config.accumulator_depth:
            return
        words = min(
            config.digit_depth // positions,
            ceil_divide(shape.channels, config.lanes),
            _most_words(config, shape, block_rows),
        )
        if words < 1:
            return
        chunk = min(words * config.lanes, shape.channels)
        segment = shape.width if shape.dense and chunk == shape.channels else 1
        most_tiles = min(tiles, config.accumulator_depth // (block_rows * shape.output_width))
        for pass_tiles in range(1, most_tiles + 1):
            all_words = shape.taps * ceil_divide(shape.channels, config.lanes)
            if pass_tiles * all_words <= config.weight_depth:
                yield Plan(block_rows, chunk, pass_tiles, segment, True)
            elif pass_tiles * shape.taps * words <= config.weight_depth:
                yield Plan(block_rows, chunk, pass_tiles, segment, False)


def _most_words(config: HardwareConfig, shape: ProductShape, block_rows: int) -> int:
    """The most words of channels that a chunk may have for the other buffers: weight banks, transposition of either operand."""
    most = config.weight_depth // shape.taps
    if shape.staged:
        most = min(most, config.staging_depth // config.lanes)
    if shape.gathered:  # a block's rows, of whole beats, are turned round in a buffer
        most = min(most, config.gather_bytes // (config.bus_bytes * block_rows) * config.bus_bytes // config.lanes)
    return most


def estimated_cycles(config: HardwareConfig, shape: ProductShape, plan: Plan) -> float:
    """A rough time, for choosing between plans only: the exact one needs the digits (``host/costs/cycles.py``)."""
    passes = ceil_divide(ceil_divide(shape.outputs, config.oc_tile), plan.pass_tiles)
    chunks = ceil_divide(shape.channels, plan.chunk_channels)
    groups = ceil_divide(shape.samples, config.sample_groups)
    samples = min(shape.samples, config.sample_groups)
    rounds = ceil_divide(samples * ceil_divide(shape.output_height, plan.block_rows), config.cores)
    words = ceil_divide(plan.chunk_channels, config.lanes)
    positions = shape.positions(plan.block_rows)
    pixels = plan.block_rows * shape.output_width
    images = max(
        config.cores * plan.block_rows / shape.output_height, 1
    )  # of a round, whose cores share the rows they read
    read = images * shape.input_rows(config.cores * plan.block_rows) * shape.width * plan.chunk_channels
    encode = max(positions * words, read / config.bus_bytes)
    compute = plan.pass_tiles * pixels * shape.taps * max(words * EXPECTED_DIGITS, 1)
    finish = config.cores * plan.pass_tiles * pixels * config.oc_tile * SUM_BYTES / config.bus_bytes / chunks
    of_lane = ceil_divide(config.oc_tile * shape.weight_bits, 8 * config.bus_bytes)  # beats
    weights = plan.pass_tiles * shape.taps * words * config.lanes * of_lane
    phases, fill = rounds * chunks, config.fill_cycles
    if plan.resident:  # two buffers of sums take turns
        phase = max(encode, compute, finish, (compute + fill + finish) / 2)
        return groups * passes * (phases * phase + encode + fill + finish + chunks * weights)
    return groups * passes * phases * (encode + compute + fill + finish + weights)
