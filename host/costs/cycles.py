"""The cycle and traffic model: what each descriptor costs, loop by loop as in ``hls/kernels``.

The C simulation counts the iterations of every loop and every beat of memory traffic; this model predicts the same counts
from a descriptor, the configuration and the digits of the operands (:mod:`.counting`), and the tests hold the two equal.
``cycles`` puts the loops together as the kernels overlap them (dataflow). Figures made with it are *emulated* cycles of a
design that has not been built: loops are taken to start an iteration every cycle, every port to move a beat every cycle, and
DRAM to reach its peak bandwidth. Loops that only move bytes on chip (``turn_rows``, ``transpose_words``, ``realign_beats`` of
kept operands) are not counted on either side: they are taken to hide behind the transfers that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...hls.contract.references import Reference
from ...hls.contract.spatial import Chains, chains_of
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import COUNTER_NAMES, COUNTERS, DEFO, DESCRIPTOR, SCALARS, START_CYCLES, Flag, Opcode
from ...hls.machine.plan import Plan
from .counting import Encoded
from .product_cycles import COLUMNS, PACKED, ROWS, Counts, Product, ProductModel
from .traffic import Array, beats, dram_beats, merged_beats
from .vector_cycles import norm_parts, vector_counts


def convolution_product(d: Mapping[str, int], scalars: np.void) -> Product:
    """A CONVOLUTION descriptor as the controller runs it (``Steps`` in kernels/steps.hpp)."""
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
        keep_input=bool(scalars["keep_state"]) and not flags & Flag.SHARES_OPERAND,
        layout=PACKED,
        weights=np.array([d["weights"]]),
        weight_pitch=0,
        accumulators=np.array([d["state_accumulators"]]),
        accumulator_pixel=d["output_channels"],
        accumulator_channel=1,
        add_accumulators=scalars["reference"] == Reference.PREVIOUS_STEP,
        keep_accumulators=bool(scalars["keep_state"]),
        output=np.array([d["output"]]),
        output_pitch=d["output_pitch"],
        output_bytes=1 if flags & Flag.CODE_OUTPUT else 2,
        bias=d["vector0"],
        bias_stride=d["sample_stride"] if flags & Flag.CONDITIONAL else 0,
        multipliers=d["vector1"],
        multiplier_stride=d["sample_stride"] if flags & Flag.GATED else 0,
        chains=convolution_chains(d) if scalars["reference"] == Reference.NEIGHBOUR else None,
    )


def convolution_chains(d: Mapping[str, int]) -> Chains:
    """Of a CONVOLUTION descriptor with spatial differences."""
    kernel, stride = (d["kernel_height"], d["kernel_width"]), (d["stride_height"], d["stride_width"])
    padding = (d["pad_top"], d["pad_bottom"], d["pad_left"], d["pad_right"])
    return chains_of(kernel, stride, padding, d["width"], d["output_width"])


def attention_products(d: Mapping[str, int], scalars: np.void) -> list[Product]:
    """The one or two products of a SCORES or MIX descriptor (``Steps`` in kernels/steps.hpp): the written one first."""
    difference, keeps = scalars["reference"] == Reference.PREVIOUS_STEP, bool(scalars["keep_state"])
    scores, heads = d["opcode"] == Opcode.SCORES, d["groups"]
    both = difference and not Flag(d["flags"]) & Flag.CONSTANT_OTHER
    window, head = (index.ravel() for index in np.indices((d["batch"] * d["windows"], heads)))  # windows of all samples
    step = _token_pixels(d)
    if scores:
        rows, inner, columns = d["output_width"], d["channels"] // heads, d["output_channels"]
        left = _first_pixel(d, window, rows) * d["input_pitch"] + head * inner
        left_pitch, left_kept = step * d["input_pitch"], window * rows * d["channels"] + head * inner
        left_kept_pitch, tokens, width = d["channels"], columns, inner
    else:
        rows, inner, columns = d["width"], d["channels"], d["output_channels"] // heads
        row = (window * heads + head) * rows
        left, left_kept, left_kept_pitch, tokens, width = row * d["input_pitch"], row * inner, inner, inner, columns
        left_pitch = d["input_pitch"]
    right = _first_pixel(d, window, tokens) * d["other_pitch"] + head * width
    right_pitch, right_kept = step * d["other_pitch"], (window * tokens * heads + head) * width
    right_kept_pitch = width * heads
    left_new, left_old = _kept(d, scalars, "state_input", left_kept)
    right_new, right_old = _kept(d, scalars, "state_other", right_kept)
    code_output = bool(Flag(d["flags"]) & Flag.CODE_OUTPUT)
    output_bytes = 1 if code_output else 2
    if scores:
        output, output_pitch = d["output"] + 2 * (window * heads + head) * rows * d["output_pitch"], d["output_pitch"]
    else:
        output = d["output"] + (_first_pixel(d, window, rows) * d["output_pitch"] + head * columns) * output_bytes
        output_pitch = step * d["output_pitch"]
    accumulators = d["state_accumulators"] + 4 * (window * heads + head) * rows * columns
    first = Product(
        _plan(d, "", Flag.RESIDENT, segment=1),
        1, rows, 1, inner, rows, 1, columns, (1, 1), (1, 1), 0,
        input=d["input"] + left, input_pitch=left_pitch, kept=left_new, previous=left_old, kept_pitch=left_kept_pitch,
        difference=difference, keep_input=keeps,
        layout=ROWS if scores else COLUMNS,
        weights=right_old if both else d["other"] + right,
        weight_pitch=right_kept_pitch if both else right_pitch,
        accumulators=accumulators, accumulator_pixel=columns, accumulator_channel=1, add_accumulators=difference,
        keep_accumulators=keeps,
        output=output, output_pitch=output_pitch, output_bytes=output_bytes,
    )  # fmt: skip
    if not both:
        return [first]
    second = Product(
        _plan(d, "other_", Flag.OTHER_RESIDENT, segment=1),
        1, columns, 1, inner, columns, 1, rows, (1, 1), (1, 1), 0,
        input=d["other"] + right, input_pitch=right_pitch, kept=right_new, previous=right_old, kept_pitch=right_kept_pitch,
        difference=True, keep_input=keeps,
        layout=ROWS, weights=d["input"] + left, weight_pitch=left_pitch,
        accumulators=accumulators, accumulator_pixel=1, accumulator_channel=columns, add_accumulators=True,
        keep_accumulators=True,
        output=output, output_pitch=0, output_bytes=output_bytes,
        gathered=not scores, finish=False,
    )  # fmt: skip
    return [first, second]


def _first_pixel(d: Mapping[str, int], window: Array, tokens: int) -> Array:
    """Of the tokens of each window, of all samples, the first one's pixel (``first_pixel`` of kernels/steps.hpp)."""
    if not Flag(d["flags"]) & Flag.INTERLEAVED:
        return window * tokens
    return window // d["windows"] * (tokens * d["windows"]) + window % d["windows"]


def _token_pixels(d: Mapping[str, int]) -> int:
    """From one token of a window to the next."""
    return d["windows"] if Flag(d["flags"]) & Flag.INTERLEAVED else 1


def keep_other_counts(config: HardwareConfig, d: Mapping[str, int], scalars: np.void) -> Counts:
    """An attention product without a second half copies its right operand into STATE (a step of its own in kernels/steps.hpp)."""
    scores, heads, bus = d["opcode"] == Opcode.SCORES, d["groups"], config.bus_bytes
    tokens = d["output_channels"] if scores else d["channels"]
    width = d["channels"] // heads if scores else d["output_channels"] // heads
    window, token, head = np.indices((d["batch"] * d["windows"], tokens, heads))
    pixel = _first_pixel(d, window, tokens) + token * _token_pixels(d)
    read = beats(d["other"] + pixel * d["other_pitch"] + head * width, width, bus).sum(axis=1)  # [windows, heads]
    kept, _ = _kept(d, scalars, "state_other", ((window * tokens + token) * heads + head) * width)
    written = beats(kept, width, bus).sum(axis=1)
    return {
        "cycles": int(np.maximum(read, written).sum()),
        "input_beats": int(read.sum()),
        "kept_beats": int(written.sum()),
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


class CycleModel:
    """The model of a program: fills the counter records of its steps. What no digits change is kept from step to step."""

    def __init__(self, config: HardwareConfig, descriptors: np.ndarray):
        self.config = config
        self.descriptors = [{name: int(record[name]) for name in DESCRIPTOR.names or ()} for record in descriptors]
        descriptor_offsets = np.arange(len(descriptors)) * DESCRIPTOR.itemsize
        scalar_offsets = descriptors["scalars"].astype(np.int64)
        fetch = beats(descriptor_offsets, DESCRIPTOR.itemsize, config.bus_bytes)
        self.entry = np.where(descriptors["opcode"] <= Opcode.MIX, DEFO.itemsize // config.bus_bytes, 0)
        self.fetch = fetch + beats(scalar_offsets, SCALARS.itemsize, config.bus_bytes)
        self._norm_parts = {  # of each GROUP_NORM that follows the convolution before it group by group
            index + 1: norm_parts(config, self.descriptors[index + 1], d["channel_groups"])
            for index, d in enumerate(self.descriptors)
            if d["channel_groups"] > 1
        }
        self._models: dict[tuple[int, ...], list[ProductModel]] = {}
        self._vector: dict[int, Counts] = {}

    def fill(self, scalars: np.ndarray, encoded: list[list[Encoded]], records: np.ndarray) -> Array:
        """``encoded[i]``: the digits of operation i's operands, none for one of the vector unit.

        Returns the cycles int64 [operations] that the step would take if operators that refer to no previous step kept nothing.
        """
        self._fill(scalars, encoded, records)
        keeping = (scalars["reference"] != Reference.PREVIOUS_STEP) & (scalars["keep_state"] != 0)
        if not np.any(keeping):
            return records["cycles"].astype(np.int64)
        lean_scalars, lean = scalars.copy(), np.zeros_like(records)
        lean_scalars["keep_state"][keeping] = 0
        self._fill(lean_scalars, encoded, lean)
        return lean["cycles"].astype(np.int64)

    def _fill(
        self,
        scalars: np.ndarray,
        encoded: list[list[Encoded]],
        records: np.ndarray,
        dense: Mapping[int, list[ProductModel]] | None = None,
    ) -> None:
        rows: list[list[int]] = []
        for index, d in enumerate(self.descriptors):
            if scalars[index]["skip"]:
                counts: Counts = {}
            elif encoded[index]:
                models = dense[index] if dense else self._product_models(index, d, scalars[index])
                counts = self._linear(index, d, scalars[index], models, encoded[index])
            else:
                counts = self._vector_counts(index, d)
            rows.append([counts.get(name, 0) for name in COUNTER_NAMES])
        for name, column in zip(COUNTER_NAMES, np.array(rows, np.int64).T, strict=True):
            records[name] = column
        fetch = self.fetch + np.where(scalars["skip"], 0, self.entry)
        records["parameter_beats"] += fetch.astype(np.uint64)
        records["cycles"] = self._total_cycles(records, fetch)

    def dense(self, sign_mask: bool = False) -> np.ndarray:
        """Counter records of a step on a dense array with the same multipliers, buffers and ports: no digits, no history.

        ``sign_mask``: of a step on Cambricon-D (ISCA 2024). Its array is dense too, of narrow multipliers with a few wide ones
        for outliers, which are taken never to hold it up. Convolutions get differences and pass them on through approximate
        non-linear functions, which need the signs of the last step's values; these cost nothing here. The values themselves are
        brought up to date near its memory; a Zynq has nothing there, so accumulators are read and written. Attention products
        take the codes themselves. It is not exact, and only its costs are modelled.
        """
        records, scalars = np.zeros(len(self.descriptors), COUNTERS), np.zeros(len(self.descriptors), SCALARS)
        dense: dict[int, list[ProductModel]] = {}
        for index, d in enumerate(self.descriptors):
            if d["opcode"] > Opcode.MIX:
                continue
            models = self._product_models(index, d, scalars[index])
            if sign_mask and d["opcode"] == Opcode.CONVOLUTION:
                product = replace(models[0].product, add_accumulators=True, keep_accumulators=True)
                models = [ProductModel(self.config, product, max(d["channel_groups"], 1))]
            dense[index] = models
        encoded = [[model.dense() for model in dense.get(index, [])] for index in range(len(records))]
        self._fill(scalars, encoded, records, dense)
        return records

    def _product_models(self, index: int, d: Mapping[str, int], scalars: np.void) -> list[ProductModel]:
        key = (index, *(int(scalars[name]) for name in ("reference", "keep_state", "parity")))
        if key not in self._models:
            attention = d["opcode"] != Opcode.CONVOLUTION
            products = attention_products(d, scalars) if attention else [convolution_product(d, scalars)]
            groups = max(d["channel_groups"], 1)
            self._models[key] = [ProductModel(self.config, product, groups) for product in products]
        return self._models[key]

    def _total_cycles(self, records: np.ndarray, fetch: Array) -> Array:
        """With the fetching of descriptors and DRAM's bandwidth, which operations that overlap share."""
        cycles = records["cycles"].astype(np.int64) + fetch
        traffic = dram_beats(records)
        last = np.zeros_like(cycles)
        for index, d in enumerate(self.descriptors):
            if d["channel_groups"] > 1:
                last[index] = self._norm_parts[index + 1][-1]["cycles"]
                cycles[index] += fetch[index + 1] + last[index]
                traffic[index] += traffic[index + 1]
                cycles[index + 1] = traffic[index + 1] = 0
        total = np.maximum(cycles, self._dram_cycles(traffic)) - last + START_CYCLES
        total[1:] += last[:-1]
        for index, d in enumerate(self.descriptors):
            if d["flags"] & Flag.PAIRED:  # the second one's cycles are those that it adds
                own = (records["cycles"][pair := slice(index, index + 2)]).astype(np.int64)
                both = np.array([own.max() + fetch[pair].sum()])
                whole = np.maximum(both, self._dram_cycles(traffic[pair].sum(keepdims=True)))[0] + START_CYCLES
                total[index + 1] = whole - total[index]
        return total

    def _dram_cycles(self, traffic: Array) -> Array:
        """That DRAM needs at least for beats of all ports."""
        return -(-(traffic * self.config.bus_bytes * 1000) // self.config.dram_bytes_per_kilocycle)

    def _vector_counts(self, index: int, d: Mapping[str, int]) -> Counts:
        if index not in self._vector:
            parts = self._norm_parts.get(index) or [vector_counts(self.config, d)]
            self._vector[index] = {name: sum(part[name] for part in parts) for name in parts[0]}
        return self._vector[index]

    def _overlap(self, index: int, convolution: list[int]) -> int:
        """Cycles of a convolution in channel groups, each normalized while the next one is computed (``Controller::overlap``)."""
        norm = [part["cycles"] for part in self._norm_parts[index + 1]]
        return sum(max(pair) for pair in zip(convolution, [0, *norm[:-1]], strict=True))

    def _linear(
        self, index: int, d: Mapping[str, int], scalars: np.void, models: list[ProductModel], encoded: list[Encoded]
    ) -> Counts:
        counted = [model.count(part) for model, part in zip(models, encoded, strict=True)]
        if d["channel_groups"] > 1:
            counted[0]["cycles"] = self._overlap(index, models[0].group_cycles)
        keeps_other = d["opcode"] != Opcode.CONVOLUTION and not Flag(d["flags"]) & Flag.CONSTANT_OTHER
        if keeps_other and scalars["keep_state"] and len(counted) == 1:
            counted.append(keep_other_counts(self.config, d, scalars))
        if len(counted) == 1:
            return counted[0]
        return {name: sum(counts.get(name, 0) for counts in counted) for name in COUNTER_NAMES}
