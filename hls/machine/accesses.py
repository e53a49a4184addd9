"""Which bytes the descriptors of a program touch, all descriptors at once: int64 arrays that never overflow.

A tensor is a strided set of bytes: ``rows`` runs of ``width`` bytes, ``pitch`` bytes apart. What descriptors say is not trusted
here: every product saturates far above any region's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..contract.formats import CODE_BYTES, SUM_BYTES, VALUE_BYTES
from .forms import Activate, Attention, Columns, Convolution, Finished, Form, Linear, Norm, Pair, Pool, Upsample, kinds
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
    """Runs of bytes in a region that each descriptor reads or, if ``writes``, writes, where it is ``used``. Arrays [n]."""

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
        """This access of some of the descriptors."""
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

    Fields of :data:`.isa.DESCRIPTOR` by their names there; what only one form has through its :class:`.forms.Columns`.
    ``heads`` and ``norm_groups`` divide, and are at least 1; all else may be 0.
    """

    def __init__(self, descriptors: np.ndarray):
        self.fields = {name: descriptors[name].astype(np.int64) for name in descriptors.dtype.names or ()}
        f = self.fields
        self.opcode, self.flags = f["opcode"], f["flags"]
        self.convolution, self.attention, self.norm, self.pool, self.upsample = (
            Columns(form, descriptors) for form in (Convolution, Attention, Norm, Pool, Upsample)
        )
        finished = [Columns(form, descriptors) for form in (Norm, Pair, Activate)]
        self.finished = {
            name: np.sum([columns[name] for columns in finished], axis=0) for name in ("activation", "activation_bits")
        }
        self.is_convolution, self.is_attention, self.is_norm = (
            self.is_a(kind) for kind in (Convolution, Attention, Norm)
        )
        self.is_linear, self.is_finished, self.is_pair = (self.is_a(kind) for kind in (Linear, Finished, Pair))
        self.is_scores, self.is_mix = self.opcode == Opcode.SCORES, self.opcode == Opcode.MIX
        self.norm_groups = np.maximum(self.norm["groups"], 1)
        self.taps = self.convolution["kernel_height"] * self.convolution["kernel_width"]
        self._set_attention()
        self.input_pixels = times(f["height"], f["width"])
        self.output_pixels = times(f["output_height"], f["output_width"])
        self.other_pixels = np.where(self.is_attention, times(self.windows, self.keys), self.input_pixels)
        self.other_channels = np.where(self.is_attention, self.depth, f["channels"])

    def _set_attention(self) -> None:
        """Per window and head an attention product is ``queries`` x ``inner`` times ``inner`` x ``columns``."""
        self.heads = np.maximum(self.attention["heads"], 1)
        self.windows, self.queries, self.keys, self.depth = (
            self.attention[name] for name in ("windows", "queries", "keys", "depth")
        )
        of_head = self.depth // self.heads
        self.inner = np.where(self.is_scores, of_head, self.keys)
        self.columns = np.where(self.is_scores, self.keys, of_head)

    def is_a(self, kind: type[Form]) -> np.ndarray:
        return self.among(*kinds()[kind])

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
        everywhere, two = np.ones(len(self.opcode), bool), self.is_attention | self.is_pair
        code_input, code_output = self.has(Flag.CODE_INPUT), self.has(Flag.CODE_OUTPUT)
        return (
            self._tensor("input", everywhere, self.input_pixels, self["channels"], code_input),
            self._tensor("other", two, self.other_pixels, self.other_channels, self.is_attention),
            self._tensor("output", everywhere, self.output_pixels, self["output_channels"], code_output, writes=True),
        )

    def _tensor(
        self,
        name: str,
        used: np.ndarray,
        pixels: np.ndarray,
        channels: np.ndarray,
        codes: np.ndarray,
        writes: bool = False,
    ) -> Access:
        element = np.where(codes, CODE_BYTES, VALUE_BYTES)
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
        of_window = times(self.queries, np.where(self.is_scores, self.depth, times(self.heads, self.keys)))
        of_image = times(self.input_pixels, self["channels"])
        first = np.where(self.is_convolution, of_image, times(self.windows, of_window))
        second = times(self.other_pixels, self.depth)
        sums = times(self.output_pixels, self["output_channels"])
        changing = self.is_attention & ~self.has(Flag.CONSTANT_OTHER)
        return (
            *self._kept("state_input", self.is_linear, first),
            *self._kept("state_other", changing, second),
            self._state(
                "state_accumulators", self.is_linear, self["state_accumulators"], times(sums, SUM_BYTES), SUM_BYTES
            ),
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
