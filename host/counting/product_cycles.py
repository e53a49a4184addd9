"""Costs of a linear operator: the loop nest of ``kernels/linear.hpp``, without running it (see :mod:`..costs.cycles`)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.contract.formats import WEIGHT_BITS
from ...hls.contract.spatial import Chains
from ...hls.machine.config import HardwareConfig
from ...hls.machine.packing import row_bytes
from ...hls.machine.plan import Plan
from .digits import Encoded
from .timeline import overlapped
from .traffic import Array, beats, merged_beats

PACKED, ROWS, COLUMNS = "packed", "rows", "columns"
Counts = dict[str, int]


@dataclass(frozen=True)
class Product:
    """A linear operator as the kernels run it (``Product`` of ``linear.hpp``), for all its ``instances`` at once.

    A convolution is one instance with many samples, an attention product one instance per sample, window and head. Addresses are
    int64 [instances]; the others are shared.
    """

    plan: Plan
    samples: int
    height: int
    width: int
    channels: int
    output_height: int
    output_width: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad_top: int
    input: Array
    input_pitch: int
    kept: Array
    previous: Array
    kept_pitch: int
    difference: bool
    keep_input: bool
    layout: str
    weights: Array
    weight_pitch: int
    accumulators: Array
    accumulator_pixel: int
    accumulator_channel: int
    add_accumulators: bool
    keep_accumulators: bool
    output: Array
    output_pitch: int
    output_bytes: int
    gathered: bool = False
    finish: bool = True
    bias: int | None = None
    bias_stride: int = 0
    multipliers: int | None = None
    multiplier_stride: int = 0
    chains: Chains | None = None  # of spatial differences
    weight_bits: int = WEIGHT_BITS

    @property
    def encoded_width(self) -> int:
        """Columns of a row that are encoded."""
        return self.width + (self.chains.extra_columns if self.chains else 0)

    @property
    def windows(self) -> int:
        """Windows of an output row that are walked."""
        return self.output_width + (self.chains.lead_columns if self.chains else 0)

    @property
    def instances(self) -> int:
        return len(self.input)

    @property
    def chunks(self) -> int:
        return ceil_divide(self.channels, self.plan.chunk_channels)

    @functools.cached_property
    def chunk_sizes(self) -> Array:
        first = np.arange(self.chunks) * self.plan.chunk_channels
        return np.minimum(self.channels - first, self.plan.chunk_channels)

    @functools.cached_property
    def block_starts(self) -> Array:
        return np.arange(0, self.output_height, self.plan.block_rows)

    @functools.cached_property
    def block_rows(self) -> Array:
        return np.minimum(self.output_height - self.block_starts, self.plan.block_rows)

    def input_rows(self) -> tuple[Array, Array, Array]:
        """For each block the first input row to keep, and the input rows [low, high) that its windows see."""
        first = self.block_starts * self.stride[0] - self.pad_top
        end = first + (self.block_rows - 1) * self.stride[0] + self.kernel[0]
        kept_from = np.where(self.block_starts == 0, 0, first - self.stride[0] + self.kernel[0])
        low = np.clip(first, 0, self.height)  # a block may lie in the padding only
        high = np.clip(end, low, self.height)
        return np.clip(kept_from, low, high), low, high


class ProductModel:
    """The costs of a product, in ``channel_groups`` runs one after the other. All that no digits change is computed once."""

    def __init__(self, config: HardwareConfig, product: Product, channel_groups: int = 1):
        self.config, self.product, self.channel_groups = config, product, channel_groups
        p = product
        self.tiles = ceil_divide(p.outputs, config.oc_tile)
        tiles_of_group = self.tiles // channel_groups
        self.passes = [  # of each channel group, slices of tiles
            [
                slice(tile, min(tile + p.plan.pass_tiles, end))
                for tile in range(end - tiles_of_group, end, p.plan.pass_tiles)
            ]
            for end in range(tiles_of_group, self.tiles + 1, tiles_of_group)
        ]
        self.all_passes = sum(map(len, self.passes))
        self.tile_outputs = np.minimum(p.outputs - np.arange(self.tiles) * config.oc_tile, config.oc_tile)
        self.words = -(-p.chunk_sizes // config.lanes)  # [chunks]
        self.kept_from, self.low, self.high = p.input_rows()
        self.taps = p.block_rows * p.windows * p.kernel[0] * p.kernel[1]  # [blocks]
        self.encode_words = ((self.high - self.low) * p.encoded_width)[:, None] * self.words  # [blocks, chunks]
        read = self._operand_runs(p.input, p.input_pitch)
        state = self._operand_runs(p.kept if p.keep_input else p.previous, p.kept_pitch)
        self.input = self._fetched(read)
        self.previous = self._fetched(self._operand_runs(p.previous, p.kept_pitch)) * p.difference
        self.kept = self._of_blocks(state, self.kept_from, beats) * p.keep_input
        self.kept_merged = int(self._of_blocks(state, self.kept_from, merged_beats).sum()) * p.keep_input
        self.weights = self._weight_beats()  # [I, tiles, chunks]
        accumulators = self._accumulator_runs()
        exchanged = self._sum_runs(accumulators, beats)  # [I, S, blocks, tiles]
        self.accumulator_reads = exchanged * p.add_accumulators
        self.accumulator_writes = exchanged * p.keep_accumulators
        self.merged = int(self._sum_runs(accumulators, merged_beats).sum()) * p.keep_accumulators + self.kept_merged
        self.outputs = np.zeros_like(exchanged)
        self.parameters = np.zeros_like(exchanged)
        self.last_vectors = np.zeros((len(p.block_rows), self.tiles), np.int64)
        if p.finish:
            results = self._output_runs()
            self.outputs = self._sum_runs(results, beats)
            self.merged += int(self._sum_runs(results, merged_beats).sum())
            self.parameters = np.broadcast_to(self._parameter_beats()[None, :, None], exchanged.shape)
            vectors = -(-self.tile_outputs // config.vector_width)
            self.last_vectors = (p.block_rows * p.output_width)[:, None] * vectors

    # ------------------------------------------------------------------------------------------------- runs

    def _operand_runs(self, base: Array, pitch: int) -> tuple[Array, Array]:
        """Offsets [I, S, H, runs of a row, chunks] and bytes of an operand's runs; gathered: [I, 1, blocks, channels, 1]."""
        p = self.product
        if p.gathered:
            offsets = base[:, None, None] + np.arange(p.channels) * pitch + p.block_starts[:, None]
            return offsets[:, None, :, :, None], p.block_rows[:, None, None]
        pixels = np.arange(p.samples * p.height * p.width).reshape(p.samples, p.height, p.width)[
            :, :, :: p.plan.segment_pixels
        ]
        offsets = (
            base[:, None, None, None, None] + pixels[..., None] * pitch + np.arange(p.chunks) * p.plan.chunk_channels
        )
        return offsets, p.chunk_sizes * p.plan.segment_pixels

    def _fetched(self, runs: tuple[Array, Array]) -> Array:
        """[I, S, blocks, chunks]: beats of each block's rows but for those that the core before it reads in the same round."""
        p = self.product
        order = np.arange(p.samples * len(p.block_starts)).reshape(p.samples, -1)
        in_group = order % (self.config.sample_groups * len(p.block_starts))
        follows = (in_group % self.config.cores > 0) & (np.arange(len(p.block_starts)) > 0)
        unread = np.clip(np.concatenate([self.low[:1], self.high[:-1]]), self.low, self.high)
        own, all_rows = self._of_blocks(runs, unread, beats), self._of_blocks(runs, self.low, beats)
        return np.where(follows[None, :, :, None], own, all_rows)

    def _of_blocks(self, runs: tuple[Array, Array], first: Array, count) -> Array:  # type: ignore[no-untyped-def]
        """[I, S, blocks, chunks]: what ``count`` says of the runs of a block's input rows from ``first`` on."""
        counted = count(*runs, self.config.bus_bytes)
        if self.product.gathered:
            starts = np.arange(0, self.product.channels, self.product.plan.chunk_channels)
            return np.add.reduceat(counted[..., 0], starts, axis=3)
        rows = counted.sum(axis=3)
        sums = np.concatenate([np.zeros_like(rows[:, :, :1]), rows.cumsum(axis=2)], axis=2)
        return sums[:, :, self.high] - sums[:, :, first]

    def _weight_beats(self) -> Array:
        p, config = self.product, self.config
        if p.layout == PACKED:
            of_lane = row_bytes(config, p.weight_bits) // config.bus_bytes
            words = p.kernel[0] * p.kernel[1] * self.words * config.lanes * of_lane
            return np.broadcast_to(words, (p.instances, self.tiles, p.chunks))
        base = p.weights[:, None, None]
        if p.layout == ROWS:
            offsets = (
                base + np.arange(p.outputs)[:, None] * p.weight_pitch + np.arange(p.chunks) * p.plan.chunk_channels
            )
            counted = beats(offsets, p.chunk_sizes, config.bus_bytes)
            return np.add.reduceat(counted, np.arange(0, p.outputs, config.oc_tile), axis=1)
        offsets = base + np.arange(self.tiles)[:, None] * config.oc_tile + np.arange(p.channels) * p.weight_pitch
        counted = beats(offsets, self.tile_outputs[:, None], config.bus_bytes)
        return np.add.reduceat(counted, np.arange(0, p.channels, p.plan.chunk_channels), axis=2)

    def _pixel_runs(self, base: Array, pixel_bytes: int, channel_bytes: int) -> tuple[Array, Array]:
        """Offsets [I, S, H', W', tiles] and bytes of runs of a tile's channels."""
        p = self.product
        pixels = np.arange(p.samples * p.output_height * p.output_width).reshape(
            p.samples, p.output_height, p.output_width
        )
        channels = np.arange(self.tiles) * self.config.oc_tile * channel_bytes
        return base[:, None, None, None, None] + pixels[
            ..., None
        ] * pixel_bytes + channels, self.tile_outputs * channel_bytes

    def _output_runs(self) -> tuple[Array, Array]:
        p = self.product
        return self._pixel_runs(p.output, p.output_pitch * p.output_bytes, p.output_bytes)

    def _accumulator_runs(self) -> tuple[Array, Array]:
        p = self.product
        if p.accumulator_channel == 1:
            return self._pixel_runs(p.accumulators, 4 * p.accumulator_pixel, 4)
        # Transposed: a run of a block's pixels per output channel, [I, 1, blocks, outputs, 1].
        offsets = p.accumulators[:, None, None] + 4 * (
            np.arange(p.outputs) * p.accumulator_channel + p.block_starts[:, None]
        )
        return offsets[:, None, :, :, None], 4 * p.block_rows[:, None, None]

    def _sum_runs(self, runs: tuple[Array, Array], count) -> Array:  # type: ignore[no-untyped-def]
        """[I, S, blocks, tiles]."""
        counted = count(*runs, self.config.bus_bytes)
        if self.product.accumulator_channel != 1:
            return np.add.reduceat(counted[..., 0], np.arange(0, self.product.outputs, self.config.oc_tile), axis=3)
        return np.add.reduceat(counted.sum(axis=3), self.product.block_starts, axis=2)

    def _parameter_beats(self) -> Array:
        """[S, tiles]: bias and multipliers of a tile, for every block."""
        p, bus = self.product, self.config.bus_bytes
        total = np.zeros((p.samples, self.tiles), np.int64)
        channels = 4 * np.arange(self.tiles) * self.config.oc_tile
        if p.bias is not None:
            total += beats(
                p.bias + np.arange(p.samples)[:, None] * p.bias_stride + channels, 4 * self.tile_outputs, bus
            )
        if p.multipliers is not None:
            of_samples = p.multipliers + np.arange(p.samples)[:, None] * p.multiplier_stride
            total += beats(of_samples + channels, 4 * self.tile_outputs, bus)
        return total

    # ------------------------------------------------------------------------------------------------- counts

    def dense(self) -> Encoded:
        """What an array would take that multiplies every code of a window, padding too: a cycle per tap and word."""
        p = self.product
        shape = (p.instances * p.samples, p.output_height, p.chunks)
        cycles = np.broadcast_to(p.output_width * p.kernel[0] * p.kernel[1] * self.words, shape)
        classes = np.zeros((p.instances * p.samples, p.height, p.chunks, 3), np.int64)
        return Encoded(classes, cycles, np.zeros(shape, np.int64))

    def count(self, encoded: Encoded) -> Counts:
        """All counters of the product, from the digits of its operand ([I * S, ...])."""
        p = self.product
        rows = encoded.cycles.reshape(p.instances, p.samples, -1, p.chunks)
        cycles = np.add.reduceat(rows, p.block_starts, axis=2)  # [I, S, blocks, chunks]
        zeros, narrow, digits = self._block_classes(encoded.classes.reshape(p.instances, p.samples, -1, p.chunks, 3))
        self.group_cycles = [self._timeline(cycles, stages) for stages in self._stages]
        return self._fixed | {
            "cycles": sum(self.group_cycles),
            "compute_cycles": int(cycles.sum()) * self.tiles,
            "zeros": zeros,
            "narrow": narrow,
            "digits": digits,
            "products": int(encoded.used.sum()) * self.tiles * self.config.oc_tile,
        }

    @functools.cached_property
    def _fixed(self) -> Counts:
        """The counters that no digits change."""
        p, config = self.product, self.config
        passes, images = self.all_passes, p.instances * p.samples
        taps, pixels = p.kernel[0] * p.kernel[1], p.output_height * p.output_width
        fetches = len(self._groups()) if p.plan.resident else self._rounds_of_all_groups()
        return {
            "tap_cycles": int(self.taps.sum()) * images * self.tiles * p.chunks,
            "encode_cycles": int(self.encode_words.sum()) * images * passes,
            "vector_cycles": images * (pixels * self.tiles * p.chunks + int(self.last_vectors.sum())),
            "weight_beats": int(self.weights.sum()) * fetches,
            "input_beats": int(self.input.sum()) * passes,
            "previous_beats": int(self.previous.sum()) * passes,
            "accumulator_read_beats": int(self.accumulator_reads.sum()),
            "parameter_beats": int(self.parameters.sum()),
            "merged_beats": self.merged,
            "output_beats": int(self.outputs.sum()),
            "kept_beats": int(self.kept.sum()),
            "accumulator_write_beats": int(self.accumulator_writes.sum()),
            "elements": int((self.high - self.low).sum()) * p.encoded_width * p.channels * images * passes,
            "dense_products": p.finish * images * pixels * taps * p.channels * self.tiles * config.oc_tile,
        }

    def _block_classes(self, rows: Array) -> list[int]:
        """Zeros, narrow ones and digits, once for every block and pass that encodes them."""
        sums = rows.sum(axis=(0, 1, 3))  # [H, 3]
        prefix = np.concatenate([np.zeros_like(sums[:1]), sums.cumsum(axis=0)])
        of_blocks = (prefix[self.high] - prefix[self.low]).sum(axis=0)
        return (of_blocks * self.all_passes).tolist()

    def _groups(self) -> list[slice]:
        size = self.config.sample_groups
        return [slice(first, min(first + size, self.product.samples)) for first in range(0, self.product.samples, size)]

    def _rounds_of_all_groups(self) -> int:
        """How often a pass that is not resident fetches each chunk."""
        blocks = len(self.product.block_starts)
        return sum(ceil_divide((group.stop - group.start) * blocks, self.config.cores) for group in self._groups())

    def _rounds(self, items: Array) -> Array:
        """[I, samples of a group, blocks, ...] -> [I, rounds, cores, ...], idle cores with zeros."""
        flat = items.reshape(len(items), -1, *items.shape[3:])
        missing = -flat.shape[1] % self.config.cores
        padded = np.concatenate([flat, np.zeros((len(flat), missing, *flat.shape[2:]), flat.dtype)], axis=1)
        return padded.reshape(len(flat), -1, self.config.cores, *flat.shape[2:])

    def _timeline(self, block_cycles: Array, stages: list[_GroupStages]) -> int:
        """The nest of ``Linear::run``: a weight set is loaded, then the stages of its phases overlap."""
        p = self.product
        blocks = np.maximum(block_cycles, self.taps[:, None])
        total = 0
        for group, passes in stages:
            slowest = self._rounds(blocks[:, group]).max(axis=2).reshape(p.instances, -1)  # [I, phases]
            for tiles, encode, finish, loads in passes:
                compute = slowest * tiles
                total += loads
                fill = self.config.fill_cycles
                apart = encode + compute + fill + finish
                total += int((overlapped(encode, compute, finish, fill) if p.plan.resident else apart).sum())
        return total

    @functools.cached_property
    def _stages(self) -> list[list[_GroupStages]]:
        """The stages of each channel group."""
        return [[self._group_stages(group, passes) for group in self._groups()] for passes in self.passes]

    def _group_stages(self, group: slice, passes: list[slice]) -> _GroupStages:
        p = self.product
        words = np.broadcast_to(self.encode_words, self.input.shape)
        fetch = [self._rounds(part[:, group]).sum(axis=2) for part in (self.input, self.previous)]
        encode = np.maximum(np.maximum(*fetch), self._rounds(words[:, group]).max(axis=2))  # [I, rounds, chunks]
        turning = np.broadcast_to(self._turned_words(), self.input.shape)[:, group]
        turned = self._rounds(turning).sum(axis=2)
        keeping = np.maximum(encode, self._rounds(self.kept[:, group]).sum(axis=2)) + turned
        result = []
        for tiles in passes:
            stage = keeping if tiles.stop == self.tiles else encode + turned
            flat = [part.reshape(p.instances, -1) for part in (stage, self._finish(group, tiles))]
            result.append((tiles.stop - tiles.start, *flat, self._load_cycles(group, tiles)))
        return group, result

    def _turned_words(self) -> Array:
        """[blocks, chunks]: words that leave when a gathered operand has been turned round."""
        p = self.product
        words = -(-p.chunk_sizes // self.config.bus_bytes) * p.gathered
        return np.outer(p.block_rows, words)

    def _load_cycles(self, group: slice, tiles: slice) -> int:
        """The cycles of all weight sets of a pass: beats, and the words that are transposed."""
        p = self.product
        transposed = self.words * (p.layout == ROWS)
        once = int((self.weights[:, tiles] + transposed).sum())
        rounds = ceil_divide((group.stop - group.start) * len(p.block_starts), self.config.cores)
        return once if p.plan.resident else once * rounds

    def _finish(self, group: slice, tiles: slice) -> Array:
        """[I, rounds, chunks]: the finishing stage; only the last chunk touches memory."""
        p = self.product
        pixels = np.broadcast_to((p.block_rows * p.output_width)[None, None], self.input.shape[:3])[:, group]
        adding = self._rounds(pixels).sum(axis=2) * (tiles.stop - tiles.start)  # [I, rounds]
        last = np.broadcast_to(self.last_vectors[:, tiles].sum(axis=1), pixels.shape)
        units = [adding, self._rounds(last).sum(axis=2)]
        for traffic in (self.accumulator_reads, self.accumulator_writes, self.outputs, self.parameters):
            units.append(self._rounds(traffic[:, group][..., tiles].sum(axis=3)).sum(axis=2))
        stage = np.repeat(adding[:, :, None], p.chunks, axis=2)
        stage[:, :, -1] = np.maximum.reduce(units)
        return stage


# Of a sample group and all its passes: tiles, cycles of the encoding and finishing stages [I, phases], cycles of all loads.
_GroupStages = tuple[slice, list[tuple[int, Array, Array, int]]]
