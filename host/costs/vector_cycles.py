"""Costs of the vector unit's operators, which no digits change: the loops of ``kernels/vector.hpp`` (see :mod:`.cycles`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode
from .product_cycles import Counts
from .traffic import Array, beats, merged_beats


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
    if opcode in (Opcode.ADD, Opcode.MULTIPLY):
        read += _row_beats(d["other"], d["other_pitch"] * 2, channels * 2, pixels, bus)
    counts = {"input_beats": int(read[0]), "output_beats": int(written[0]), "merged_beats": int(written[1])}
    if opcode == Opcode.UPSAMPLE:
        counts["vector_cycles"] = outputs * ceil_divide(channels * code_bytes, bus)
    elif opcode == Opcode.AVERAGE_POOL:
        counts["vector_cycles"] = outputs * vectors * (d["stride_height"] ** 2 + 1)
        counts["input_beats"] = _window_beats(config, d)
    else:
        counts["vector_cycles"] = pixels * vectors * (2 if opcode == Opcode.SOFTMAX else 1)
    counts["cycles"] = max(counts["input_beats"], counts["vector_cycles"], counts["output_beats"])
    return counts


def _row_beats(first: int, pitch: int, length: int, rows: int, bus: int) -> Array:
    """Beats, and those filled in part, of ``rows`` runs ``pitch`` bytes apart."""
    offsets = first + np.arange(rows) * pitch
    return np.array([beats(offsets, length, bus).sum(), merged_beats(offsets, length, bus).sum()])


def _window_beats(config: HardwareConfig, d: Mapping[str, int]) -> int:
    """Of an AVERAGE_POOL: windows read their pixels; rows and columns that fill no window are not read."""
    factor = d["stride_height"]
    image = np.arange(d["batch"] * d["height"] * d["width"]).reshape(d["batch"], d["height"], d["width"])
    used = image[:, : d["output_height"] * factor, : d["output_width"] * factor]
    return int(beats(d["input"] + 2 * used * d["input_pitch"], 2 * d["channels"], config.bus_bytes).sum())


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


def norm_parts(config: HardwareConfig, d: Mapping[str, int], groups: int) -> list[Counts]:
    channels = d["channels"] // groups
    return [norm_counts(config, d, part * channels, channels) for part in range(groups)]
