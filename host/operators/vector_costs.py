"""Beats and cycles of the vector unit's operators that go over their pixels once: the loops of ``kernels/vector``."""

from __future__ import annotations

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.machine.config import HardwareConfig
from ...hls.machine.forms import Image
from ...hls.machine.isa import Flag
from ..counting.product_cycles import Counts
from ..counting.traffic import Array, beats, merged_beats


def row_beats(first: int, pitch: int, length: int, rows: int, bus: int) -> Array:
    """Beats, and those filled in part, of ``rows`` runs of ``length`` bytes, ``pitch`` bytes apart."""
    offsets = first + np.arange(rows) * pitch
    return np.array([beats(offsets, length, bus).sum(), merged_beats(offsets, length, bus).sum()])


def vectors_of(config: HardwareConfig, form: Image) -> int:
    """Vectors of all pixels of the operand."""
    return form.batch * form.input_pixels * ceil_divide(form.channels, config.vector_width)


def streamed(config: HardwareConfig, form: Image, vector_cycles: int, input_beats: int | None = None) -> Counts:
    """Counters of an operator that reads its operand once (or ``input_beats``), works ``vector_cycles`` and writes its result,
    all at the same time."""
    bus, channels, size = config.bus_bytes, form.channels, 1 if form.has(Flag.CODE_INPUT) else 2
    pixels, results = form.batch * form.input_pixels, form.batch * form.output_pixels
    if input_beats is None:
        input_beats = int(row_beats(form.input, form.input_pitch * size, channels * size, pixels, bus)[0])
    width = form.output_bytes
    written = row_beats(form.output, form.output_pitch * width, channels * width, results, bus)
    if form.has(Flag.FINE):
        written += row_beats(form.output + channels, form.output_pitch, channels, results, bus)
    counts = {"input_beats": input_beats, "output_beats": int(written[0]), "merged_beats": int(written[1])}
    cycles = max(input_beats, vector_cycles, counts["output_beats"])
    return counts | {"vector_cycles": vector_cycles, "cycles": cycles}
