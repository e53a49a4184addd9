"""The one definition of what host and accelerator exchange: registers, descriptors, scalars, counter records.

Everything is little-endian. Offsets in descriptors are bytes from the base of a memory region, whose address the host
writes to registers, so a program can be placed anywhere. The C++ header and the manual (``hls/isa.md``) are generated from the
lists below.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np


class Opcode(IntEnum):
    """What a descriptor runs. A vector operation may carry a fused activation and a fused quantizer, in this order."""

    CONVOLUTION = 1
    SCORES = 2
    MIX = 3
    GROUP_NORM = 4
    ADD = 5
    ACTIVATE = 6  # activation and/or quantizer on a value
    SOFTMAX = 7
    AVERAGE_POOL = 8
    UPSAMPLE = 9
    LAYER_NORM = 10
    MULTIPLY = 11  # of two values, element by element


class Flag(IntFlag):
    """Modifiers of a descriptor."""

    QUANTIZE = 2
    CODE_OUTPUT = 4
    CODE_INPUT = 8
    CONDITIONAL = 16
    FINE = 32
    RESIDENT = 64
    OTHER_RESIDENT = 128
    RELU = 512
    CONSTANT_OTHER = 1024
    FOLLOWS = 2048
    SHARES_OPERAND = 4096
    PAIRED = 8192
    GATED = 16384
    INTERLEAVED = 32768


FLAG_MEANINGS = {
    Flag.QUANTIZE: "fused quantizer: the output is a code",
    Flag.CODE_OUTPUT: "output elements are int8, else int16",
    Flag.CODE_INPUT: "input elements are int8, else int16",
    Flag.CONDITIONAL: "bias, or gain and offset, are per sample",
    Flag.FINE: "the fused quantizer appends residue codes: twice the operand's channels",
    Flag.RESIDENT: "all weights of a pass fit the weight banks together: see plan.py",
    Flag.OTHER_RESIDENT: "the same in an attention product's second sub-operation",
    Flag.RELU: "fused ReLU",
    Flag.CONSTANT_OTHER: "the second operand is the same in every step: only the first one's differences count",
    Flag.FOLLOWS: "takes the reference that its leader takes, another descriptor before it: see host/program/static_facts.py",
    Flag.SHARES_OPERAND: "another convolution keeps the operand for this one",
    Flag.PAIRED: "of the linear unit's work: the next descriptor, the vector unit's, runs at the same time",
    Flag.GATED: "the multipliers are per sample",
    Flag.INTERLEAVED: "token t of window i is pixel t * windows + i, else i * tokens + t",
}


class Region(IntEnum):
    """Memory regions, each with base address registers."""

    PROGRAM = 0
    WEIGHTS = 1
    PARAMETERS = 2
    ACTIVATIONS = 3
    STATE = 4
    COUNTERS = 5


REGION_MEANINGS = {
    Region.PROGRAM: "descriptors, in the order in which they run",
    Region.WEIGHTS: "weights of convolutions, packed for the weight banks",
    Region.PARAMETERS: "a record of scalars for every descriptor, then biases, multipliers, gains and offsets",
    Region.ACTIVATIONS: "operands and results",
    Region.STATE: "operands and accumulators that linear operations keep for the next step",
    Region.COUNTERS: "a counter record for every descriptor, each followed by an entry of Defo's table",
}


@dataclass(frozen=True)
class Field:
    """One field of a record: NumPy type string and meaning."""

    name: str
    type: str
    meaning: str


DESCRIPTOR_FIELDS = (
    Field("opcode", "<u2", "what to run"),
    Field("flags", "<u2", "modifiers"),
    Field("batch", "<u2", "samples"),
    Field("windows", "<u2", "of SCORES and MIX: sets of tokens that attend to themselves alone"),
    Field("input", "<u4", "ACTIVATIONS: first operand"),
    Field("other", "<u4", "ACTIVATIONS: second operand of ADD, MULTIPLY, SCORES, MIX"),
    Field("output", "<u4", "ACTIVATIONS: result"),
    Field("input_pitch", "<u4", "elements from one pixel of the first operand to the next"),
    Field("other_pitch", "<u4", "the same of the second operand"),
    Field("output_pitch", "<u4", "the same of the result"),
    Field("height", "<u2", "of the first operand (windows x heads of MIX)"),
    Field("width", "<u2", "of the first operand (queries of MIX)"),
    Field("channels", "<u2", "of the first operand (keys of MIX and SOFTMAX)"),
    Field("output_height", "<u2", "of the result (windows x heads of SCORES)"),
    Field("output_width", "<u2", "of the result (queries of SCORES)"),
    Field("output_channels", "<u2", "of the result (keys of SCORES)"),
    Field("kernel_height", "u1", "taps; of operations that an activation may follow its number, 0 for none"),
    Field("kernel_width", "u1", "taps"),
    Field("stride_height", "u1", "input pixels per output pixel; factor of UPSAMPLE, window of AVERAGE_POOL"),
    Field("stride_width", "u1", "input pixels per output pixel"),
    Field("pad_top", "u1", "rows of code 0"),
    Field("pad_bottom", "u1", "rows of code 0"),
    Field("pad_left", "u1", "columns of code 0"),
    Field("pad_right", "u1", "columns of code 0"),
    Field("groups", "<u2", "of GROUP_NORM; heads of SCORES and MIX"),
    Field("activation_bits", "u1", "fraction bits of operand and result of a fused activation that a table gives"),
    Field("weight_bits", "u1", "of CONVOLUTION: how wide its weights are, as many in a byte as fit"),
    Field("block_rows", "<u2", "output rows of a core's block: see plan.py"),
    Field("chunk_channels", "<u2", "operand channels that are encoded together"),
    Field("pass_tiles", "<u2", "tiles of output channels whose weights are on chip together"),
    Field("segment_pixels", "<u2", "operand pixels that are read in one run"),
    Field(
        "weights", "<u4", "WEIGHTS: int8 [tile, chunk, tap, word, lane, output channel of the tile], zeros where none"
    ),
    Field("scalars", "<u4", "PARAMETERS: the node's scalar record"),
    Field("vector0", "<u4", "PARAMETERS: int32 bias, or int32 gain; per sample where CONDITIONAL"),
    Field(
        "vector1",
        "<u4",
        "PARAMETERS: int32 multiplier per output channel (per sample where GATED), or int64 offset (where CONDITIONAL)",
    ),
    Field("sample_stride", "<u4", "bytes between the conditional parameters of two samples"),
    Field("state_input", "<u4", "STATE: first operands of the two last steps, of even and of odd ones"),
    Field("state_input_span", "<u4", "bytes from the even to the odd one"),
    Field("state_other", "<u4", "STATE: the same of the second operand"),
    Field("state_other_span", "<u4", "bytes from the even to the odd one"),
    Field("state_accumulators", "<u4", "STATE: int32 accumulators of the previous step"),
    Field("node", "<u4", "index of the descriptor, which is that of its counter record"),
    Field(
        "channel_groups",
        "<u2",
        "parts of a convolution that overlap with the parts of the GROUP_NORM after it; 0: no overlap",
    ),
    Field("other_block_rows", "<u2", "plan of an attention product's second sub-operation"),
    Field("other_chunk_channels", "<u2", "the same"),
    Field("other_pass_tiles", "<u2", "the same"),
    Field("lead_columns", "<u2", "windows left of the first one that spatial differences begin with: see spatial.py"),
    Field("extra_columns", "<u2", "operand columns right of the image that spatial differences see"),
    Field(
        "leader", "<u4", "index of the descriptor whose entry of Defo's table this one shares; its own without FOLLOWS"
    ),
    Field("layer", "<u4", "number of the operation in a step: parts of a batch have the same"),
)

SCALAR_FIELDS = (
    Field("reference", "<i4", "of a linear operator in this step: see contract/references.py"),
    Field("shift", "<i4", "of the requantizer, the sum, the pool or softmax's exponent"),
    Field("multiplier0", "<i4", "of the requantizer, of ADD's first operand, the pool or softmax's exponent"),
    Field("multiplier1", "<i4", "of ADD's second operand, and of MULTIPLY"),
    Field("gain_bits", "<i4", "of GROUP_NORM"),
    Field("quantize_multiplier", "<i4", "of the fused quantizer"),
    Field("quantize_shift", "<i4", "of the fused quantizer"),
    Field(
        "keep_state",
        "<i4",
        "whether a linear operator stores operands and accumulators for the next step; without, STATE has neither after it",
    ),
    Field("parity", "<i4", "of the step: which of the two kept operands is written; the other one is read"),
    Field("skip", "<i4", "whether there is nothing to do: the result of a step before is still there, and the same"),
    Field("rescaled", "<i4", "whether scales differ from those of the previous step"),
    Field("reserved", "<i4", "zero"),
    Field("epsilon", "<i8", "of GROUP_NORM"),
    Field("reserved_wide", "<i8", "zero"),
)

COUNTER_FIELDS = (
    Field(
        "cycles",
        "<u8",
        "of the descriptor, all units overlapped as they are in the kernels; of the second one of a pair what it adds",
    ),
    Field("compute_cycles", "<u8", "iterations of the multipliers' loop, of all cores"),
    Field("tap_cycles", "<u8", "iterations of the loop over kernel taps, of all cores"),
    Field("encode_cycles", "<u8", "iterations of the encoders, of all cores"),
    Field("vector_cycles", "<u8", "iterations of the vector unit"),
    Field("weight_beats", "<u8", "read: weights, and an attention product's second operand"),
    Field("input_beats", "<u8", "read: operands"),
    Field("previous_beats", "<u8", "read: operands of the previous step"),
    Field(
        "accumulator_read_beats",
        "<u8",
        "read: accumulators of the previous step or of an attention product's other half",
    ),
    Field("parameter_beats", "<u8", "read: descriptor, scalars, biases, multipliers, gains, offsets"),
    Field("merged_beats", "<u8", "read: beats of which only a part is written"),
    Field("output_beats", "<u8", "written: results"),
    Field("kept_beats", "<u8", "written: operands for the next step"),
    Field("accumulator_write_beats", "<u8", "written: accumulators"),
    Field("elements", "<u8", "operand elements encoded, again where a block or a pass needs them again"),
    Field("zeros", "<u8", "encoded elements that are zero"),
    Field("narrow", "<u8", "non-zero encoded elements that fit 4 bits"),
    Field("digits", "<u8", "digits of the encoded elements"),
    Field("products", "<u8", "digit x weight products, of unused output channels of a tile too"),
    Field("dense_products", "<u8", "8x8 products of a dense array with the same tiles, padding included"),
)
DEFO_FIELDS = (  # of all operators that follow one leader, in its entry; 0 cycles: none yet
    Field("original_cycles", "<u4", "of the last run for which reference zero was asked, if nothing had been kept"),
    Field("keeping_cycles", "<u4", "of the same run, as it was"),
    Field("difference_cycles", "<u4", "of the last run for which the previous step was asked"),
    Field("rescaled_cycles", "<u4", "of the last run with differences to a step of other scales"),
    Field("spatial_cycles", "<u4", "of the last run for which the neighbour was asked, if nothing had been kept"),
    Field("reference", "<u4", "of the last run: see contract/references.py"),
    Field("kept", "<u4", "whether the last run kept its operands"),
    Field("reserved", "<u4", "zero"),
)
START_CYCLES = 64  # of a descriptor, to fill the pipelines: an estimate
READ_BEATS = (
    "weight_beats",
    "input_beats",
    "previous_beats",
    "accumulator_read_beats",
    "parameter_beats",
    "merged_beats",
)
WRITTEN_BEATS = ("output_beats", "kept_beats", "accumulator_write_beats")


def _record(fields: tuple[Field, ...]) -> np.dtype:
    return np.dtype([(field.name, field.type) for field in fields])


DESCRIPTOR = _record(DESCRIPTOR_FIELDS)
SCALARS = _record(SCALAR_FIELDS)
DEFO = _record(DEFO_FIELDS)
COUNTERS = _record(COUNTER_FIELDS + DEFO_FIELDS)  # a linear operator's entry of Defo's table follows its counts
COUNTER_NAMES = tuple(field.name for field in COUNTER_FIELDS)


@dataclass(frozen=True)
class Pointer:
    """A pointer argument of the top function: the base of a region, on one of the memory ports.

    ``affine``, ``values``: parameters and activations of the vector unit; ``sums``: kept accumulators.
    """

    name: str
    region: Region
    port: int
    written: bool = False


POINTERS = (
    Pointer("program", Region.PROGRAM, 0),
    Pointer("weights", Region.WEIGHTS, 0),
    Pointer("parameters", Region.PARAMETERS, 0),
    Pointer("affine", Region.PARAMETERS, 0),
    Pointer("activations", Region.ACTIVATIONS, 1),
    Pointer("activations_out", Region.ACTIVATIONS, 1, written=True),
    Pointer("values", Region.ACTIVATIONS, 0),
    Pointer("values_out", Region.ACTIVATIONS, 0, written=True),
    Pointer("state", Region.STATE, 2),
    Pointer("state_out", Region.STATE, 2, written=True),
    Pointer("sums", Region.STATE, 3),
    Pointer("sums_out", Region.STATE, 3, written=True),
    Pointer("counters", Region.COUNTERS, 0, written=True),
)

PORTS = 1 + max(pointer.port for pointer in POINTERS)

CONTROL = 0x00
START, DONE, IDLE = 1, 2, 4  # bits of CONTROL
CONFIG_HASH = 0x10
DESCRIPTOR_COUNT = 0x20
ERROR = 0x28
PROGRESS = 0x30
BASE_ADDRESS = 0x40  # 64-bit base of pointer i at BASE_ADDRESS + 12 * i, as HLS lays out 64-bit arguments
REGISTER_MEANINGS = {
    "control": "bit 0 starts, bit 1 says done, bit 2 idle (ap_ctrl_hs of Vitis HLS)",
    "config_hash": "read-only: first 32 bits of the hardware configuration's hash",
    "descriptor_count": "descriptors of the program",
    "error": "read-only: 0, or 1 + index of the descriptor that was refused",
    "progress": "read-only: 1 + index of the descriptor that runs, or ran last",
}


def base_registers(region: Region) -> list[int]:
    """Offsets of the low words of a region's base address, one for each pointer to it; each high word follows."""
    return [BASE_ADDRESS + 12 * index for index, pointer in enumerate(POINTERS) if pointer.region == region]


def registers() -> dict[str, int]:
    """Offsets of the top function's arguments."""
    bases = {pointer.name: BASE_ADDRESS + 12 * index for index, pointer in enumerate(POINTERS)}
    return {
        "config_hash": CONFIG_HASH,
        "descriptor_count": DESCRIPTOR_COUNT,
        "error": ERROR,
        "progress": PROGRESS,
        **bases,
    }
