"""The cycle and traffic model: what each descriptor costs, loop by loop as in ``hls/kernels``.

The C simulation counts the iterations of every loop and every beat of memory traffic; this model predicts the same counts
from a descriptor, the configuration and the digits of the operands (:mod:`.counting`), and the tests hold the two equal.
``cycles`` puts the loops together as the kernels overlap them (dataflow). Figures made with it are *emulated* cycles of a
design that has not been built: loops are taken to start an iteration every cycle, every port to move a beat every cycle, and
DRAM to reach its peak bandwidth.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..hls.config import HardwareConfig
from ..hls.isa import (
    COUNTER_NAMES,
    DESCRIPTOR,
    READ_BEATS,
    SCALARS,
    START_CYCLES,
    WRITTEN_BEATS,
    Flag,
    Opcode,
    Reference,
)
from ..hls.plan import Plan, ceil_divide
from .counting import Encoded

PACKED, ROWS, COLUMNS = "packed", "rows", "columns"
Array = np.ndarray
Counts = dict[str, int]


def beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Beats of runs of ``length`` bytes from byte ``offset`` on."""
    length = np.asarray(length)
    return np.where(length > 0, (offset + length - 1) // bus - offset // bus + 1, 0)


def merged_beats(offset: Array, length: Array | int, bus: int) -> Array:
    """Those of them that the run fills only in part."""
    whole = np.maximum((offset + length) // bus - -(-offset // bus), 0)
    return beats(offset, length, bus) - whole


@dataclass(frozen=True)
class Product:
    """A linear operator as the kernels run it (``Product`` of ``linear.hpp``), for all its ``instances`` at once.

    A convolution is one instance with many samples, an attention product one instance per sample and head. Addresses are
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
    keep_accumulators: bool
    output: Array
    output_pitch: int
    output_bytes: int
    gathered: bool = False
    finish: bool = True
    bias: int | None = None
    bias_stride: int = 0
    multipliers: int | None = None

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
        """Of each block: first input row to keep, and the input rows [low, high) that its windows see."""
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
        self.taps = p.block_rows * p.output_width * p.kernel[0] * p.kernel[1]  # [blocks]
        self.encode_words = ((self.high - self.low) * p.width)[:, None] * self.words  # [blocks, chunks]
        read = self._operand_runs(p.input, p.input_pitch)
        state = self._operand_runs(p.kept if p.keep_input else p.previous, p.kept_pitch)
        self.input = self._of_blocks(read, self.low, beats)
        self.previous = self._of_blocks(self._operand_runs(p.previous, p.kept_pitch), self.low, beats) * p.difference
        self.kept = self._of_blocks(state, self.kept_from, beats) * p.keep_input
        self.kept_merged = int(self._of_blocks(state, self.kept_from, merged_beats).sum()) * p.keep_input
        self.weights = self._weight_beats()  # [I, tiles, chunks]
        accumulators = self._accumulator_runs()
        exchanged = self._sum_runs(accumulators, beats)  # [I, S, blocks, tiles]
        self.accumulator_reads = exchanged * p.difference
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
            words = p.kernel[0] * p.kernel[1] * self.words * config.lanes * config.oc_tile // config.bus_bytes
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
            total += beats(p.multipliers + channels, 4 * self.tile_outputs, bus)
        return total

    # ------------------------------------------------------------------------------------------------- counts

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
            "elements": int((self.high - self.low).sum()) * p.width * p.channels * images * passes,
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
        """The nest of ``Linear::run``: weight sets are loaded while the one before is used; stages of phases overlap."""
        p = self.product
        blocks = np.maximum(block_cycles, self.taps[:, None])
        timeline = _Timeline(p.instances)
        for group, passes in stages:
            slowest = self._rounds(blocks[:, group]).max(axis=2).reshape(p.instances, -1)  # [I, phases]
            for tiles, encode, finish, loads in passes:
                compute = slowest * tiles
                if p.plan.resident:
                    timeline.add(loads.sum(axis=1), _overlapped(encode, compute, finish))
                else:
                    phases = encode + compute + finish
                    for phase in range(phases.shape[1]):
                        timeline.add(loads[:, phase % p.chunks], phases[:, phase])
        return int(timeline.end.sum())

    @functools.cached_property
    def _stages(self) -> list[list[_GroupStages]]:
        """Of each channel group."""
        return [[self._group_stages(group, passes) for group in self._groups()] for passes in self.passes]

    def _group_stages(self, group: slice, passes: list[slice]) -> _GroupStages:
        p = self.product
        words = np.broadcast_to(self.encode_words, self.input.shape)
        fetch = [self._rounds(part[:, group]).sum(axis=2) for part in (self.input, self.previous)]
        encode = np.maximum(np.maximum(*fetch), self._rounds(words[:, group]).max(axis=2))  # [I, rounds, chunks]
        keeping = np.maximum(encode, self._rounds(self.kept[:, group]).sum(axis=2))
        result = []
        for tiles in passes:
            stage = keeping if tiles.stop == self.tiles else encode
            flat = [part.reshape(p.instances, -1) for part in (stage, self._finish(group, tiles))]
            result.append((tiles.stop - tiles.start, *flat, self.weights[:, tiles].sum(axis=1)))
        return group, result

    def _finish(self, group: slice, tiles: slice) -> Array:
        """[I, rounds, chunks]: the finishing stage; only the last chunk touches memory."""
        p = self.product
        pixels = np.broadcast_to((p.block_rows * p.output_width)[None, None], self.input.shape[:3])[:, group]
        adding = self._rounds(pixels).sum(axis=2) * (tiles.stop - tiles.start)  # [I, rounds]
        last = np.broadcast_to(self.last_vectors[:, tiles].sum(axis=1), pixels.shape)
        units = [adding + self._rounds(last).sum(axis=2)]
        for traffic in (self.accumulator_reads, self.accumulator_writes, self.outputs, self.parameters):
            units.append(self._rounds(traffic[:, group][..., tiles].sum(axis=3)).sum(axis=2))
        stage = np.repeat(adding[:, :, None], p.chunks, axis=2)
        stage[:, :, -1] = np.maximum.reduce(units)
        return stage


# Of a sample group and all its passes: tiles, cycles of the encoding and finishing stages [I, phases], weight beats [I, chunks].
_GroupStages = tuple[slice, list[tuple[int, Array, Array, Array]]]


class _Timeline:
    """Per instance, the ends of the last weight load and of the last two sets (``Linear::run``)."""

    def __init__(self, instances: int) -> None:
        self.loaded, self.end, self.end_before = np.zeros((3, instances), np.int64)

    def add(self, load: Array, cycles: Array) -> None:
        self.loaded = np.maximum(self.loaded, self.end_before) + load
        self.end, self.end_before = np.maximum(self.loaded, self.end) + cycles, self.end


def _overlapped(encode: Array, compute: Array, finish: Array) -> Array:
    """[I, phases] each -> cycles [I] of three overlapping stages with two buffers between them (``Linear::advance``)."""
    if len(encode) == 1:  # plain integers are faster than arrays of one
        return np.array([_overlap(max, 0, encode[0].tolist(), compute[0].tolist(), finish[0].tolist())])
    return _overlap(np.maximum, np.zeros(len(encode), np.int64), encode.T, compute.T, finish.T)


def _overlap(most, start, encode, compute, finish):  # type: ignore[no-untyped-def]
    encoded = computed = computed_before = finished = finished_before = start
    for first, second, third in zip(encode, compute, finish, strict=True):
        encoded = most(encoded, computed_before) + first
        computed, computed_before = most(most(encoded, computed), finished_before) + second, computed
        finished, finished_before = most(computed, finished) + third, finished
    return finished


# ------------------------------------------------------------------------------------------------- descriptors


def convolution_product(d: Mapping[str, int], scalars: np.void) -> Product:
    """A CONVOLUTION descriptor as the controller runs it (``Controller::convolve``)."""
    flags = Flag(d["flags"])
    kept, previous = _kept(d, scalars, "state_input", np.zeros(1, np.int64))
    return Product(
        _plan(d, "", Flag.RESIDENT),
        samples=d["batch"],
        height=d["height"],
        width=d["width"],
        channels=d["channels"],
        output_height=d["output_height"],
        output_width=d["output_width"],
        outputs=d["output_channels"],
        kernel=(d["kernel_height"], d["kernel_width"]),
        stride=(d["stride_height"], d["stride_width"]),
        pad_top=d["pad_top"],
        input=np.array([d["input"]]),
        input_pitch=d["input_pitch"],
        kept=kept,
        previous=previous,
        kept_pitch=d["channels"],
        difference=scalars["reference"] == Reference.PREVIOUS_STEP,
        keep_input=bool(scalars["keep_state"]),
        layout=PACKED,
        weights=np.array([d["weights"]]),
        weight_pitch=0,
        accumulators=np.array([d["state_accumulators"]]),
        accumulator_pixel=d["output_channels"],
        accumulator_channel=1,
        keep_accumulators=bool(scalars["keep_state"]),
        output=np.array([d["output"]]),
        output_pitch=d["output_pitch"],
        output_bytes=1 if flags & Flag.CODE_OUTPUT else 2,
        bias=d["vector0"],
        bias_stride=d["sample_stride"] if flags & Flag.CONDITIONAL else 0,
        multipliers=d["vector1"],
    )


def attention_products(d: Mapping[str, int], scalars: np.void) -> list[Product]:
    """The one or two products of a SCORES or MIX descriptor (``Controller::attend``): the written one first."""
    difference, keeps = scalars["reference"] == Reference.PREVIOUS_STEP, bool(scalars["keep_state"])
    scores, heads = d["opcode"] == Opcode.SCORES, d["groups"]
    sample, head = (index.ravel() for index in np.indices((d["batch"], heads)))
    if scores:
        rows, inner, columns = d["output_width"], d["channels"] // heads, d["output_channels"]
        left, left_kept = sample * rows * d["input_pitch"] + head * inner, sample * rows * d["channels"] + head * inner
        left_kept_pitch, tokens, width = d["channels"], columns, inner
    else:
        rows, inner, columns = d["width"], d["channels"], d["output_channels"] // heads
        row = (sample * heads + head) * rows
        left, left_kept, left_kept_pitch, tokens, width = row * d["input_pitch"], row * inner, inner, inner, columns
    right, right_kept = sample * tokens * d["other_pitch"] + head * width, (sample * tokens * heads + head) * width
    right_kept_pitch = width * heads
    left_new, left_old = _kept(d, scalars, "state_input", left_kept)
    right_new, right_old = _kept(d, scalars, "state_other", right_kept)
    code_output = bool(Flag(d["flags"]) & Flag.CODE_OUTPUT)
    output_bytes = 1 if code_output else 2
    if scores:
        output = d["output"] + 2 * (sample * heads + head) * rows * d["output_pitch"]
    else:
        output = d["output"] + (sample * rows * d["output_pitch"] + head * columns) * output_bytes
    accumulators = d["state_accumulators"] + 4 * (sample * heads + head) * rows * columns
    first = Product(
        _plan(d, "", Flag.RESIDENT, segment=1),
        1, rows, 1, inner, rows, 1, columns, (1, 1), (1, 1), 0,
        input=d["input"] + left, input_pitch=d["input_pitch"], kept=left_new, previous=left_old, kept_pitch=left_kept_pitch,
        difference=difference, keep_input=keeps,
        layout=ROWS if scores else COLUMNS,
        weights=right_old if difference else d["other"] + right,
        weight_pitch=right_kept_pitch if difference else d["other_pitch"],
        accumulators=accumulators, accumulator_pixel=columns, accumulator_channel=1, keep_accumulators=keeps,
        output=output, output_pitch=d["output_pitch"], output_bytes=output_bytes,
    )  # fmt: skip
    if not difference:
        return [first]
    second = Product(
        _plan(d, "other_", Flag.OTHER_RESIDENT, segment=1),
        1, columns, 1, inner, columns, 1, rows, (1, 1), (1, 1), 0,
        input=d["other"] + right, input_pitch=d["other_pitch"], kept=right_new, previous=right_old, kept_pitch=right_kept_pitch,
        difference=True, keep_input=keeps,
        layout=ROWS, weights=d["input"] + left, weight_pitch=d["input_pitch"],
        accumulators=accumulators, accumulator_pixel=1, accumulator_channel=columns, keep_accumulators=True,
        output=output, output_pitch=0, output_bytes=output_bytes,
        gathered=not scores, finish=False,
    )  # fmt: skip
    return [first, second]


def keep_other_counts(config: HardwareConfig, d: Mapping[str, int], scalars: np.void) -> Counts:
    """An attention product without a second half copies its right operand into STATE (``Controller::keep_other``)."""
    scores, heads, bus = d["opcode"] == Opcode.SCORES, d["groups"], config.bus_bytes
    tokens = d["output_channels"] if scores else d["channels"]
    width = d["channels"] // heads if scores else d["output_channels"] // heads
    sample, token, head = np.indices((d["batch"], tokens, heads))
    read = beats(d["other"] + (sample * tokens + token) * d["other_pitch"] + head * width, width, bus).sum()
    kept, _ = _kept(d, scalars, "state_other", ((sample * tokens + token) * heads + head) * width)
    written = beats(kept, width, bus).sum()
    return {
        "cycles": int(read + written),
        "input_beats": int(read),
        "kept_beats": int(written),
        "merged_beats": int(merged_beats(kept, width, bus).sum()),
    }


def _kept(d: Mapping[str, int], scalars: np.void, name: str, offset: Array) -> tuple[Array, Array]:
    """Byte offsets of this step's kept operand and of the previous step's."""
    odd, even = d[name] + d[f"{name}_span"] + offset, d[name] + offset
    return (odd, even) if scalars["parity"] else (even, odd)


def _plan(d: Mapping[str, int], prefix: str, resident: Flag, segment: int | None = None) -> Plan:
    names = ("block_rows", "chunk_channels", "pass_tiles")
    block_rows, chunk_channels, pass_tiles = (d[prefix + name] for name in names)
    segment_pixels = d["segment_pixels"] if segment is None else segment
    return Plan(block_rows, chunk_channels, pass_tiles, segment_pixels, bool(Flag(d["flags"]) & resident))


def vector_counts(config: HardwareConfig, d: Mapping[str, int]) -> Counts:
    """Counters of an operator of the vector unit, which no digits change."""
    opcode, bus = Opcode(d["opcode"]), config.bus_bytes
    if opcode in (Opcode.GROUP_NORM, Opcode.LAYER_NORM):
        return norm_counts(config, d, 0, d["channels"])
    pixels, channels = d["batch"] * d["height"] * d["width"], d["channels"]
    outputs = d["batch"] * d["output_height"] * d["output_width"]
    vectors = ceil_divide(channels, config.vector_width)
    flags = Flag(d["flags"])
    code_bytes = 1 if flags & Flag.CODE_INPUT else 2
    result_bytes = 1 if flags & Flag.CODE_OUTPUT else 2
    read = _row_beats(d["input"], d["input_pitch"] * code_bytes, channels * code_bytes, pixels, bus)
    written = _row_beats(d["output"], d["output_pitch"] * result_bytes, channels * result_bytes, outputs, bus)
    if flags & Flag.FINE:
        written += _row_beats(d["output"] + channels, d["output_pitch"], channels, outputs, bus)
    if opcode == Opcode.ADD:
        read += _row_beats(d["other"], d["other_pitch"] * 2, channels * 2, pixels, bus)
    counts = {"input_beats": int(read[0]), "output_beats": int(written[0]), "merged_beats": int(written[1])}
    if opcode in (Opcode.ADD, Opcode.ACTIVATE, Opcode.SOFTMAX):
        counts["vector_cycles"] = pixels * vectors * (3 if opcode == Opcode.SOFTMAX else 1)
        counts["cycles"] = max(counts["input_beats"], counts["vector_cycles"], counts["output_beats"])
    elif opcode == Opcode.UPSAMPLE:
        counts["vector_cycles"] = outputs * ceil_divide(channels * code_bytes, bus)
        counts["cycles"] = counts["input_beats"] + max(counts["vector_cycles"], counts["output_beats"])
    elif opcode == Opcode.AVERAGE_POOL:
        counts |= _pool_counts(config, d, outputs, vectors, counts["output_beats"])
    return counts


def _row_beats(first: int, pitch: int, length: int, rows: int, bus: int) -> Array:
    """Beats, and those filled in part, of ``rows`` runs ``pitch`` bytes apart."""
    offsets = first + np.arange(rows) * pitch
    return np.array([beats(offsets, length, bus).sum(), merged_beats(offsets, length, bus).sum()])


def _pool_counts(config: HardwareConfig, d: Mapping[str, int], outputs: int, vectors: int, written: int) -> Counts:
    """Windows read their pixels; rows and columns that fill no window are not read."""
    factor = d["stride_height"]
    image = np.arange(d["batch"] * d["height"] * d["width"]).reshape(d["batch"], d["height"], d["width"])
    used = image[:, : d["output_height"] * factor, : d["output_width"] * factor]
    read = int(beats(d["input"] + 2 * used * d["input_pitch"], 2 * d["channels"], config.bus_bytes).sum())
    adding, dividing = outputs * factor * factor * vectors, outputs * vectors
    return {"input_beats": read, "vector_cycles": adding + dividing, "cycles": max(read, adding) + dividing + written}


def norm_counts(config: HardwareConfig, d: Mapping[str, int], first: int, channels: int) -> Counts:
    """Channels ``first`` ... of a GROUP_NORM: per sample sum over its pixels, solve for slope and intercept, apply.

    In a LAYER_NORM every pixel is a sample of its own.
    """
    bus, flags = config.bus_bytes, Flag(d["flags"])
    samples, image = d["batch"], d["height"] * d["width"]
    groups = d["groups"] * channels // d["channels"]
    runs = first + np.arange(0, channels, config.vector_width)
    lengths = np.minimum(first + channels - runs, config.vector_width)
    stride = np.arange(samples if flags & Flag.CONDITIONAL else 1)[:, None] * d["sample_stride"]
    parameters = sum(
        int(beats(d[name] + stride + size * runs, size * lengths, bus).sum())
        for name, size in (("vector0", 4), ("vector1", 8))
    )
    if d["opcode"] == Opcode.LAYER_NORM:
        samples, image = samples * image, 1
    pixels = np.arange(samples * image).reshape(samples, image)
    size = 1 if flags & Flag.CODE_OUTPUT else 2
    output = d["output"] + (pixels * d["output_pitch"] + first) * size
    written = [(output, channels * size)] + ([(output + d["channels"], channels)] if flags & Flag.FINE else [])
    reads = beats(d["input"] + 2 * (pixels * d["input_pitch"] + first), 2 * channels, bus).sum(axis=1)
    writes = np.sum([beats(*run, bus).sum(axis=1) for run in written], axis=0)
    vectors = image * ceil_divide(channels, config.vector_width)
    solving = 2 * groups * ceil_divide(channels // groups, config.vector_width)
    applying = np.maximum(np.maximum(reads, vectors), writes)
    return {
        "input_beats": int(2 * reads.sum()),
        "output_beats": int(writes.sum()),
        "merged_beats": int(sum(merged_beats(*run, bus).sum() for run in written)),
        "parameter_beats": parameters,
        "vector_cycles": samples * (2 * vectors + solving),
        "cycles": int(parameters + solving * samples + (np.maximum(reads, vectors) + applying).sum()),
    }


def _norm_parts(config: HardwareConfig, d: Mapping[str, int], groups: int) -> list[Counts]:
    channels = d["channels"] // groups
    return [norm_counts(config, d, part * channels, channels) for part in range(groups)]


class CycleModel:
    """The model of a program: fills the counter records of its steps. What no digits change is kept from step to step."""

    def __init__(self, config: HardwareConfig, descriptors: np.ndarray):
        self.config = config
        self.descriptors = [{name: int(record[name]) for name in DESCRIPTOR.names or ()} for record in descriptors]
        descriptor_offsets = np.arange(len(descriptors)) * DESCRIPTOR.itemsize
        scalar_offsets = descriptors["scalars"].astype(np.int64)
        fetch = beats(descriptor_offsets, DESCRIPTOR.itemsize, config.bus_bytes)
        self.fetch = fetch + beats(scalar_offsets, SCALARS.itemsize, config.bus_bytes)
        self._norm_parts = {  # of each GROUP_NORM that follows the convolution before it group by group
            index + 1: _norm_parts(config, self.descriptors[index + 1], d["channel_groups"])
            for index, d in enumerate(self.descriptors)
            if d["channel_groups"] > 1
        }
        self._models: dict[tuple[int, ...], list[ProductModel]] = {}
        self._vector: dict[int, Counts] = {}

    def fill(self, scalars: np.ndarray, encoded: list[list[Encoded]], records: np.ndarray) -> None:
        """``encoded[i]``: the digits of operation i's operands, none for one of the vector unit."""
        rows = []
        for index, d in enumerate(self.descriptors):
            if encoded[index]:
                counts = self._linear(index, d, scalars[index], encoded[index])
            else:
                counts = self._vector_counts(index, d)
            rows.append([counts.get(name, 0) for name in COUNTER_NAMES])
        for name, column in zip(COUNTER_NAMES, np.array(rows, np.int64).T, strict=True):
            records[name] = column
        records["parameter_beats"] += self.fetch.astype(np.uint64)
        records["cycles"] = self._total_cycles(records)

    def _total_cycles(self, records: np.ndarray) -> Array:
        """With the fetching of descriptors and DRAM's bandwidth, which a convolution and the GroupNorm it overlaps with share."""
        cycles = records["cycles"].astype(np.int64) + self.fetch
        traffic = np.sum([records[name] for name in (*READ_BEATS, *WRITTEN_BEATS)], axis=0).astype(np.int64)
        last = np.zeros_like(cycles)
        for index, d in enumerate(self.descriptors):
            if d["channel_groups"] > 1:
                last[index] = self._norm_parts[index + 1][-1]["cycles"]
                cycles[index] += self.fetch[index + 1] + last[index]
                traffic[index] += traffic[index + 1]
                cycles[index + 1] = traffic[index + 1] = 0
        dram = -(-(traffic * self.config.bus_bytes * 1000) // self.config.dram_bytes_per_kilocycle)
        total = np.maximum(cycles, dram) - last + START_CYCLES
        total[1:] += last[:-1]
        return total

    def _vector_counts(self, index: int, d: Mapping[str, int]) -> Counts:
        if index not in self._vector:
            parts = self._norm_parts.get(index) or [vector_counts(self.config, d)]
            self._vector[index] = {name: sum(part[name] for part in parts) for name in parts[0]}
        return self._vector[index]

    def _overlap(self, index: int, convolution: list[int]) -> int:
        """Cycles of a convolution in channel groups, each normalized while the next one is computed (``Controller::overlap``)."""
        norm = [part["cycles"] for part in self._norm_parts[index + 1]]
        return sum(max(pair) for pair in zip(convolution, [0, *norm[:-1]], strict=True))

    def _linear(self, index: int, d: Mapping[str, int], scalars: np.void, encoded: list[Encoded]) -> Counts:
        key = (index, int(scalars["reference"]), int(scalars["keep_state"]), int(scalars["parity"]))
        attention = d["opcode"] != Opcode.CONVOLUTION
        if key not in self._models:
            products = attention_products(d, scalars) if attention else [convolution_product(d, scalars)]
            groups = max(d["channel_groups"], 1)
            self._models[key] = [ProductModel(self.config, product, groups) for product in products]
        counted = [model.count(part) for model, part in zip(self._models[key], encoded, strict=True)]
        if d["channel_groups"] > 1:
            counted[0]["cycles"] = self._overlap(index, self._models[key][0].group_cycles)
        if attention and scalars["keep_state"] and len(counted) == 1:
            counted.append(keep_other_counts(self.config, d, scalars))
        if len(counted) == 1:
            return counted[0]
        return {name: sum(counts.get(name, 0) for counts in counted) for name in COUNTER_NAMES}
