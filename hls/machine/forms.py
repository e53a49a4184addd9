"""The forms of a descriptor: by which names, and in which of its fields, each kind of operation says what it needs.

A descriptor is one record for all operations (:data:`.isa.DESCRIPTOR`), so a field means different things in different ones. The
classes below are the one table of that: C++ structs, the manual (``hls/isa.md``) and the checks of :mod:`.accesses` are made from
it, and everything in Python works on a form that was decoded once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..contract.formats import CODE_BYTES, VALUE_BYTES
from ..contract.spatial import Chains
from .isa import DESCRIPTOR, Flag, Opcode
from .plan import Plan

F = TypeVar("F", bound="Form")
IN = "in"  # key of a field's metadata: the descriptor's field, or one for each opcode
MEANING = "meaning"


def field_of(stored: str | Mapping[Opcode, str], meaning: str) -> Any:
    """A number of a form that stands in the descriptor's field ``stored``, in different ones for different opcodes."""
    return dataclasses.field(default=0, metadata={IN: stored, MEANING: meaning})


@dataclass(frozen=True, kw_only=True)
class Form:
    """What every descriptor says. Addresses are bytes in a region, pitches elements from pixel to pixel."""

    opcodes: ClassVar[tuple[Opcode, ...]] = ()

    opcode: int = field_of("opcode", "what to run")
    flags: int = field_of("flags", "modifiers")
    batch: int = field_of("batch", "samples")
    node: int = field_of("node", "index of the descriptor, which is that of its counter record")
    leader: int = field_of("leader", "index of the descriptor whose entry of Defo's table this one shares")
    layer: int = field_of("layer", "number of the operation in a step: parts of a batch have the same")
    scalars: int = field_of("scalars", "PARAMETERS: the record of scalars")
    sample_stride: int = field_of("sample_stride", "PARAMETERS: bytes between the vectors of two samples")
    input: int = field_of("input", "ACTIVATIONS: first operand")
    input_pitch: int = field_of("input_pitch", "of the first operand")
    output: int = field_of("output", "ACTIVATIONS: result")
    output_pitch: int = field_of("output_pitch", "of the result")

    @classmethod
    def stored(cls, opcode: int) -> dict[str, str]:
        """In which field of the descriptor each number of the form stands."""
        return {
            field.name: places if isinstance(places := field.metadata[IN], str) else places[Opcode(opcode)]
            for field in dataclasses.fields(cls)
        }

    @classmethod
    def decode(cls: type[F], record: np.void) -> F:
        """The form that a record of the ISA with one of the form's opcodes has."""
        return cls(**{name: int(record[place]) for name, place in cls.stored(int(record["opcode"])).items()})

    def encode(self) -> np.ndarray:
        """The record of the ISA, []; fields that the form does not have are 0."""
        record = np.zeros((), DESCRIPTOR)
        for name, place in self.stored(self.opcode).items():
            record[place] = getattr(self, name)
        return record

    def has(self, flag: Flag) -> bool:
        return bool(self.flags & flag)

    @property
    def output_bytes(self) -> int:
        """Bytes of an element of the result."""
        return CODE_BYTES if self.has(Flag.CODE_OUTPUT) else VALUE_BYTES


@dataclass(frozen=True, kw_only=True)
class Image(Form):
    """An operation on images."""

    height: int = field_of("height", "of the operand")
    width: int = field_of("width", "of the operand")
    channels: int = field_of("channels", "of the operand")
    output_height: int = field_of("output_height", "of the result")
    output_width: int = field_of("output_width", "of the result")
    output_channels: int = field_of("output_channels", "of the result")

    @property
    def input_pixels(self) -> int:
        return self.height * self.width

    @property
    def output_pixels(self) -> int:
        return self.output_height * self.output_width


@dataclass(frozen=True, kw_only=True)
class Linear(Form):
    """An operation that multiplies: how it is cut (:mod:`.plan`), and what is kept from step to step."""

    block_rows: int = field_of("block_rows", "output rows of a core's block")
    chunk_channels: int = field_of("chunk_channels", "operand channels that are encoded together")
    pass_tiles: int = field_of("pass_tiles", "tiles of output channels whose weights are on chip together")
    segment_pixels: int = field_of("segment_pixels", "operand pixels that are read in one run")
    state_input: int = field_of("state_input", "STATE: first operand of even steps")
    state_input_span: int = field_of("state_input_span", "bytes from it to that of odd steps")
    state_accumulators: int = field_of("state_accumulators", "STATE: int32 accumulators of the previous step")

    @property
    def plan(self) -> Plan:
        """The plan of the product, or of an attention product's first sub-operation."""
        sizes = (self.block_rows, self.chunk_channels, self.pass_tiles, self.segment_pixels)
        return Plan(*sizes, self.has(Flag.RESIDENT))


@dataclass(frozen=True, kw_only=True)
class Convolution(Image, Linear):
    """CONVOLUTION: codes [B, height, width, channels] -> [B, output height, output width, output channels]."""

    opcodes = (Opcode.CONVOLUTION,)

    kernel_height: int = field_of("kernel_height", "taps")
    kernel_width: int = field_of("kernel_width", "taps")
    stride_height: int = field_of("stride_height", "input rows per output row")
    stride_width: int = field_of("stride_width", "input columns per output column")
    pad_top: int = field_of("pad_top", "rows of code 0")
    pad_bottom: int = field_of("pad_bottom", "rows of code 0")
    pad_left: int = field_of("pad_left", "columns of code 0")
    pad_right: int = field_of("pad_right", "columns of code 0")
    weights: int = field_of("weights", "WEIGHTS: [tile, chunk, tap, word, lane, output channel of the tile]")
    bias: int = field_of("vector0", "PARAMETERS: int32 [output channels], of each sample where CONDITIONAL")
    multiplier: int = field_of("vector1", "PARAMETERS: int32 [output channels], of each sample where GATED")
    lead_columns: int = field_of("lead_columns", "windows left of the first one that spatial differences begin with")
    extra_columns: int = field_of("extra_columns", "operand columns right of the image that spatial differences see")
    weight_bits: int = field_of("weight_bits", "how wide the weights are, as many in a byte as fit")
    channel_groups: int = field_of(
        "channel_groups", "parts that overlap with those of the GROUP_NORM after it; 0: none do"
    )

    @property
    def kernel(self) -> tuple[int, int]:
        return self.kernel_height, self.kernel_width

    @property
    def stride(self) -> tuple[int, int]:
        return self.stride_height, self.stride_width

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right."""
        return self.pad_top, self.pad_bottom, self.pad_left, self.pad_right

    @property
    def chains(self) -> Chains:
        """How spatial differences chain output pixels."""
        single = self.kernel == self.stride == (1, 1) and not any(self.padding)
        return Chains(self.lead_columns, self.extra_columns, single, self.stride_width)


SCORES, MIX = Opcode.SCORES, Opcode.MIX


@dataclass(frozen=True, kw_only=True)
class Attention(Linear):
    """SCORES: Q . K transposed, codes [B, tokens, depth] twice -> [B, windows * heads, queries, keys]. MIX: P . V, codes
    [B, windows * heads, queries, keys] and [B, tokens, depth] -> [B, tokens, depth]. Depth is that of all heads."""

    opcodes = (SCORES, MIX)

    windows: int = field_of("windows", "sets of tokens that attend to themselves alone")
    heads: int = field_of("groups", "that share the depth evenly")
    instances: int = field_of({SCORES: "output_height", MIX: "height"}, "windows times heads")
    queries: int = field_of({SCORES: "output_width", MIX: "width"}, "of a window")
    keys: int = field_of({SCORES: "output_channels", MIX: "channels"}, "of a window")
    depth: int = field_of({SCORES: "channels", MIX: "output_channels"}, "of all heads")
    image_height: int = field_of({SCORES: "height", MIX: "output_height"}, "of the queries' image")
    image_width: int = field_of({SCORES: "width", MIX: "output_width"}, "of the queries' image")
    other: int = field_of("other", "ACTIVATIONS: second operand, K or V")
    other_pitch: int = field_of("other_pitch", "of the second operand")
    state_other: int = field_of("state_other", "STATE: second operand of even steps")
    state_other_span: int = field_of("state_other_span", "bytes from it to that of odd steps")
    other_block_rows: int = field_of("other_block_rows", "plan of the second sub-operation")
    other_chunk_channels: int = field_of("other_chunk_channels", "the same")
    other_pass_tiles: int = field_of("other_pass_tiles", "the same")

    @property
    def is_scores(self) -> bool:
        return self.opcode == Opcode.SCORES

    @property
    def head_depth(self) -> int:
        return self.depth // self.heads

    @property
    def interleaved(self) -> bool:
        return self.has(Flag.INTERLEAVED)

    @property
    def other_plan(self) -> Plan:
        """The plan of the second sub-operation."""
        sizes = (self.other_block_rows, self.other_chunk_channels, self.other_pass_tiles)
        return Plan(*sizes, 1, self.has(Flag.OTHER_RESIDENT))

    @property
    def input_pixels(self) -> int:
        return (self.windows if self.is_scores else self.instances) * self.queries


@dataclass(frozen=True, kw_only=True)
class Finished(Image):
    """An operation of the vector unit that an activation and a quantizer may follow."""

    activation: int = field_of("kernel_height", "number of the fused activation, 0: none")
    activation_bits: int = field_of(
        "activation_bits", "fraction bits of its operand and result, where a table gives it"
    )


@dataclass(frozen=True, kw_only=True)
class Norm(Finished):
    """GROUP_NORM normalizes all pixels of a sample together, LAYER_NORM each pixel alone, in one group."""

    opcodes = (Opcode.GROUP_NORM, Opcode.LAYER_NORM)

    groups: int = field_of("groups", "that share the channels evenly")
    gain: int = field_of("vector0", "PARAMETERS: int32 [channels], of each sample where CONDITIONAL")
    offset: int = field_of("vector1", "PARAMETERS: int64 [channels], of each sample where CONDITIONAL")

    @property
    def per_pixel(self) -> bool:
        return self.opcode == Opcode.LAYER_NORM


@dataclass(frozen=True, kw_only=True)
class Pair(Finished):
    """ADD, MULTIPLY: the sum of two values, or their product, element by element. No activation follows them yet."""

    opcodes = (Opcode.ADD, Opcode.MULTIPLY)

    other: int = field_of("other", "ACTIVATIONS: second operand")
    other_pitch: int = field_of("other_pitch", "of the second operand")


@dataclass(frozen=True, kw_only=True)
class Activate(Finished):
    """ACTIVATE: an activation, a quantizer or both on a value."""

    opcodes = (Opcode.ACTIVATE,)


@dataclass(frozen=True, kw_only=True)
class Softmax(Image):
    """SOFTMAX: rows of ``channels`` logits -> codes."""

    opcodes = (Opcode.SOFTMAX,)


@dataclass(frozen=True, kw_only=True)
class Pool(Image):
    """AVERAGE_POOL: means over windows that do not overlap."""

    opcodes = (Opcode.AVERAGE_POOL,)

    window: int = field_of("stride_height", "pixels of a window, either way")
    window_width: int = field_of("stride_width", "the same")


@dataclass(frozen=True, kw_only=True)
class Upsample(Image):
    """UPSAMPLE: every pixel repeated, as far as the result goes."""

    opcodes = (Opcode.UPSAMPLE,)

    factor: int = field_of("stride_height", "copies of a pixel, either way")
    factor_width: int = field_of("stride_width", "the same")


FORMS: dict[Opcode, type[Form]] = {
    opcode: form
    for form in (Convolution, Attention, Norm, Pair, Activate, Softmax, Pool, Upsample)
    for opcode in form.opcodes
}


def kinds() -> dict[type[Form], tuple[Opcode, ...]]:
    """Every form and what it is a kind of, from :class:`Form` on, with the opcodes of each."""
    found = dict.fromkeys(kind for form in FORMS.values() for kind in form.__mro__ if issubclass(kind, Form))
    return {kind: tuple(opcode for opcode, form in FORMS.items() if issubclass(form, kind)) for kind in found}


def decode(record: np.void) -> Form:
    """The form of a record of the ISA."""
    return FORMS[Opcode(int(record["opcode"]))].decode(record)


def gather(form: type[Form], name: str, descriptors: np.ndarray) -> np.ndarray:
    """int64 [n]: a number of the form, of all ``descriptors`` that have it, else 0."""
    result = np.zeros(len(descriptors), np.int64)
    for opcode in form.opcodes:
        here = descriptors["opcode"] == opcode
        result[here] = descriptors[form.stored(opcode)[name]][here]
    return result


class Columns:
    """The numbers of one form in a table of descriptors, each int64 [n], 0 where a descriptor has another form."""

    def __init__(self, form: type[Form], descriptors: np.ndarray):
        self._form, self._descriptors = form, descriptors
        self.here = np.isin(descriptors["opcode"], form.opcodes)

    def __getitem__(self, name: str) -> np.ndarray:
        return gather(self._form, name, self._descriptors)
