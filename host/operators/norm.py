"""Group and layer normalization on the host."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from ...hls.contract import operators
from ...hls.contract.arithmetic import ceil_divide
from ...hls.contract.operators import GroupNorm, LayerNorm
from ...hls.contract.operators.norm import Norm
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from ..counting.traffic import beats, merged_beats
from .execution import FinishedExecution
from .operator import INT64, Operator, SampleView, Table, Vector
from .places import Places

N = TypeVar("N", bound=Norm)


class NormExecution(FinishedExecution[forms.Norm]):
    """GROUP_NORM or LAYER_NORM, with fused activation and quantizer."""

    def run(self, scalars: np.void) -> list[Encoded]:
        form = self.form
        conditional, groups = form.has(Flag.CONDITIONAL), form.groups
        gain = self.vector(form.gain, np.int32, form.channels, conditional)
        offset = self.vector(form.offset, np.int64, form.channels, conditional)
        source, target = self.input.buffer, self.output.buffer
        if form.per_pixel:
            samples, pixels, _ = source.shape
            source, target = (buffer.reshape(samples * pixels, 1, -1) for buffer in (source, target))
            groups = 1
            if conditional:
                gain, offset = gain.repeat(pixels, axis=0), offset.repeat(pixels, axis=0)
        vector.group_norm(
            source,
            form.channels,
            groups,
            gain=gain,
            offset=offset,
            gain_bits=int(scalars["gain_bits"]),
            epsilon=int(scalars["epsilon"]),
            activation=self.activation,
            quantizer=self.quantizer(scalars),
            out=target,
            team=self.means.team,
        )
        return []


class NormOperator(Operator[N, forms.Norm]):
    """Common to both."""

    form = forms.Norm
    execution = NormExecution
    passes = 2
    keeps_row = takes_activation = takes_quantizer = True

    def flags(self, node: N, constant: frozenset[str]) -> Flag:
        return Flag.CONDITIONAL if node.conditional else Flag(0)

    def groups(self, node: N) -> int:
        """Into how many groups a pixel's channels are cut."""
        return 1

    def fields(self, node: N, places: Places) -> dict[str, int]:
        return {
            "groups": self.groups(node),
            "gain": places.vector(f"{node.name}.gain", node.conditional),
            "offset": places.vector(f"{node.name}.offset", node.conditional),
        }

    def vectors(self, node: N) -> tuple[Vector, ...]:
        return Vector("gain", node.conditional), Vector("offset", node.conditional, INT64)

    def scalars(self, node: N, table: Table) -> dict[str, np.ndarray]:
        return {name: table(node, name) for name in ("gain_bits", "epsilon")}

    def counts(self, config: HardwareConfig, form: forms.Norm) -> Counts:
        return norm_counts(config, form, 0, form.channels)


class GroupNormOperator(NormOperator[GroupNorm]):
    """Over all pixels of a sample."""

    opcodes = (Opcode.GROUP_NORM,)

    def opcode(self, node: GroupNorm) -> Opcode:
        return Opcode.GROUP_NORM

    def groups(self, node: GroupNorm) -> int:
        return node.groups

    def channel_groups(self, node: GroupNorm) -> int:
        return node.groups

    def sample(self, view: SampleView, node: GroupNorm) -> tuple[np.ndarray, np.ndarray]:
        """One group of channels."""
        (x,) = view.inputs
        size = x.shape[2] // node.groups
        first = size * int(view.random.integers(node.groups))
        channels = slice(first, first + size)
        gain, offset = (view.table(node, name, node.conditional)[channels] for name in ("gain", "offset"))
        numbers = [int(view.table(node, name)) for name in ("gain_bits", "epsilon")]
        normalized = operators.norm.group_norm(x[None, :, :, channels], 1, gain[None], offset[None], *numbers)
        return view.result[..., channels].astype(np.int64), view.follow(normalized)[0, ..., :size]


class LayerNormOperator(NormOperator[LayerNorm]):
    """Over each pixel alone."""

    opcodes = (Opcode.LAYER_NORM,)

    def opcode(self, node: LayerNorm) -> Opcode:
        return Opcode.LAYER_NORM


def norm_counts(config: HardwareConfig, form: forms.Norm, first: int, channels: int) -> Counts:
    """Counters of channels ``first`` ...: per sample sum over its pixels, solve for slope and intercept, apply. In a LAYER_NORM
    every pixel is a sample of its own."""
    bus = config.bus_bytes
    samples, image = form.batch, form.input_pixels
    groups = form.groups * channels // form.channels
    runs = first + np.arange(0, channels, config.vector_width)
    lengths = np.minimum(first + channels - runs, config.vector_width)
    stride = np.arange(samples if form.has(Flag.CONDITIONAL) else 1)[:, None] * form.sample_stride
    parameters = sum(
        int(beats(start + stride + size * runs, size * lengths, bus).sum())
        for start, size in ((form.gain, 4), (form.offset, 8))
    )
    if form.per_pixel:
        samples, image = samples * image, 1
    pixels = np.arange(samples * image).reshape(samples, image)
    size = form.output_bytes
    output = form.output + (pixels * form.output_pitch + first) * size
    written = [(output, channels * size)]
    if form.has(Flag.FINE):
        written.append((output + form.channels, channels))
    reads = beats(form.input + 2 * (pixels * form.input_pitch + first), 2 * channels, bus).sum(axis=1)
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


def norm_parts(config: HardwareConfig, form: forms.Norm, groups: int) -> list[Counts]:
    """Counters of each of ``groups`` parts of the channels."""
    channels = form.channels // groups
    return [norm_counts(config, form, part * channels, channels) for part in range(groups)]


OPERATORS = {GroupNorm: GroupNormOperator(), LayerNorm: LayerNormOperator()}
