"""Which bytes the descriptors of a program touch, all descriptors at once: int64 arrays that never overflow.

A tensor is a strided set of bytes: ``rows`` runs of ``width`` bytes, ``pitch`` bytes apart. What descriptors say is not trusted
here: every product saturates far above any region's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .isa import Flag, Opcode, Region

ARRAYS = ("used", "start", "pitch", "width", "rows", "sample_bytes", "alignment")  # of an access
HUGE = 1 << 56  # what is at least as large is this large: a sum of some of them still fits int64


def times(*factors: np.ndarray | int) -> np.ndarray:
    """The product of numbers from 0 to HUGE, at most HUGE."""
    result = np.asarray(factors[0], np.int64)
    for factor in factors[1:]:
        small = result.astype(np.float64) * factor < HUGE
        with np.errstate(over="ignore"):
            result = np.where(small, result * factor, HUGE)
    return result


@dataclass(frozen=True)
class Access:
    """Of each descriptor where ``used``: runs of bytes in a region that it reads or, if ``writes``, writes. Arrays [n]."""

    name: str
    region: Region
    used: np.ndarray
    start: np.ndarray
    pitch: np.ndarray
    width: np.ndarray
    rows: np.ndarray
    sample_bytes: np.ndarray  # from one sample to the next
    alignment: np.ndarray
    writes: bool = False

    @property
    def end(self) -> np.ndarray:
        """The byte behind the last one."""
        return self.start + times(np.maximum(self.rows - 1, 0), self.pitch) + self.width

    def at(self, index: np.ndarray | slice) -> Access:
        """Of some descriptors."""
        return replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})

    def meets(self, other: Access) -> np.ndarray:
        """bool [n]: whether any byte is in both. Runs of one pitch may lie between each other, as parts of a concatenation do."""
        if self.region != other.region:
            return np.zeros(len(self.used), bool)
        pitch = np.maximum(self.pitch, 1)
        between = (self.pitch == other.pitch) & ((other.start - self.start) % pitch >= self.width)
        between &= (self.start - other.start) % pitch >= other.width
        apart = (self.end <= other.start) | (other.end <= self.start) | between
        return self.used & other.used & ~apart


class Sizes:
    """What follows from a program's descriptors, each an array [n]: bool of what they are, int64 of what they count.

    ``groups`` (a norm's, or attention's heads) divide, and are 1 where the field is 0; other fields may be 0.
    """

    def __init__(self, descriptors: np.ndarray):
        self.fields = {name: descriptors[name].astype(np.int64) for name in descriptors.dtype.names or ()}
        f = self.fields
        self.opcode, self.flags = f["opcode"], f["flags"]
        self.is_convolution = self.opcode == Opcode.CONVOLUTION
        self.is_scores, self.is_mix = self.opcode == Opcode.SCORES, self.opcode == Opcode.MIX
        self.is_attention = self.is_scores | self.is_mix
        self.is_linear = self.is_convolution | self.is_attention
        self.is_norm = self.among(Opcode.GROUP_NORM, Opcode.LAYER_NORM)
        self.is_pair = self.among(Opcode.ADD, Opcode.MULTIPLY)
        self.groups, self.windows = np.maximum(f["groups"], 1), f["windows"]
        self.queries = np.where(self.is_scores, f["output_width"], f["width"])
        self.keys = np.where(self.is_scores, f["output_channels"], f["channels"])
        self.depth = np.where(self.is_scores, f["channels"], f["output_channels"])  # of all heads
        self.input_pixels = times(f["height"], f["width"])
        self.output_pixels = times(f["output_height"], f["output_width"])
        self.other_pixels = np.where(self.is_attention, times(self.windows, self.keys), self.input_pixels)
        self.other_channels = np.where(self.is_attention, self.depth, f["channels"])
        self.taps = f["kernel_height"] * f["kernel_width"]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.fields[name]

    def among(self, *opcodes: Opcode) -> np.ndarray:
        return np.isin(self.opcode, opcodes)

    def has(self, flag: Flag) -> np.ndarray:
        return self.flags & flag != 0

    def first_parts(self) -> np.ndarray:
        """Index of the first part of each descriptor's operation."""
        _, first, inverse = np.unique(self["layer"], return_index=True, return_inverse=True)
        return np.asarray(first[inverse.reshape(-1)])

    # ------------------------------------------------------------------------------------------------- accesses

    def tensors(self) -> tuple[Access, ...]:
        """Operands and result, in ACTIVATIONS."""
        everywhere = np.ones(len(self.opcode), bool)
        element = {name: np.where(self.has(flag), 1, 2) for name, flag in
                   (("input", Flag.CODE_INPUT), ("output", Flag.CODE_OUTPUT))}  # fmt: skip
        element["other"] = np.where(self.is_attention, 1, 2)
        return (
            self._tensor("input", everywhere, self.input_pixels, self["channels"], element["input"]),
            self._tensor("other", self.is_attention | self.is_pair, self.other_pixels, self.other_channels, element["other"]),
            self._tensor("output", everywhere, self.output_pixels, self["output_channels"], element["output"], True),
        )  # fmt: skip

    def _tensor(
        self, name: str, used: np.ndarray, pixels: np.ndarray, channels: np.ndarray, element: np.ndarray,
        writes: bool = False,
    ) -> Access:  # fmt: skip
        pitch = self[f"{name}_pitch"] * element
        rows = times(self["batch"], pixels)
        of_sample = np.where(used, times(pixels, pitch), 0)
        return Access(
            name, Region.ACTIVATIONS, used, self[name], pitch, channels * element, rows, of_sample, element, writes
        )

    def vectors(self) -> tuple[Access, ...]:
        """Biases and multipliers, or gains and offsets, in PARAMETERS."""
        conditional = self.has(Flag.CONDITIONAL)
        gated = np.where(self.is_convolution, self.has(Flag.GATED), conditional)
        channels = np.where(self.is_convolution, self["output_channels"], self["channels"])
        used = self.is_convolution | self.is_norm
        size = np.where(self.is_norm, 8, 4)
        return (
            self._vector("vector0", used, conditional, 4 * channels, np.full_like(size, 4)),
            self._vector("vector1", used, gated, size * channels, size),
        )

    def _vector(
        self, name: str, used: np.ndarray, conditional: np.ndarray, width: np.ndarray, alignment: np.ndarray
    ) -> Access:
        stride = np.where(used & conditional, self["sample_stride"], 0)
        rows = np.where(conditional, self["batch"], 1)
        alignment = np.where(conditional, 8, alignment)  # of the stride too
        return Access(name, Region.PARAMETERS, used, self[name], stride, width, rows, stride, alignment)

    def state(self) -> tuple[Access, ...]:
        """Operands of even and of odd steps, and accumulators, in STATE: where linear operators keep anything."""
        first = np.where(
            self.is_convolution, times(self.input_pixels, self["channels"]), times(self.windows, self.queries)
        )
        first = np.where(self.is_scores, times(first, self["channels"]), first)
        first = np.where(self.is_mix, times(first, self.groups, self.keys), first)
        second = times(self.other_pixels, self.depth)
        sums = times(self.output_pixels, self["output_channels"])
        changing = self.is_attention & ~self.has(Flag.CONSTANT_OTHER)
        return (
            *self._kept("state_input", self.is_linear, first),
            *self._kept("state_other", changing, second),
            self._state("state_accumulators", self.is_linear, self["state_accumulators"], times(sums, 4), 4),
        )

    def _kept(self, name: str, used: np.ndarray, of_sample: np.ndarray) -> tuple[Access, Access]:
        even, odd = self[name], self[name] + self[f"{name}_span"]
        return self._state(name, used, even, of_sample), self._state(f"{name} of odd steps", used, odd, of_sample)

    def _state(
        self, name: str, used: np.ndarray, start: np.ndarray, of_sample: np.ndarray, alignment: int = 1
    ) -> Access:
        nothing = np.zeros_like(start)
        width = times(of_sample, self["batch"])
        return Access(
            name, Region.STATE, used, start, nothing, width, nothing + 1, of_sample, nothing + alignment, writes=True
        )


def is_inside(access: Access, sizes: Mapping[Region, int]) -> np.ndarray:
    """bool [n]: whether every byte is in the region, of ``sizes`` bytes."""
    return access.end <= sizes[access.region]


def is_aligned(access: Access) -> np.ndarray:
    """bool [n]: whether every element is where its type may be."""
    return (access.start % access.alignment == 0) & ((access.region != Region.PARAMETERS) | (access.pitch % 8 == 0))
