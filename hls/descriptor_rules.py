"""What the descriptors of a program must be, so that the accelerator touches nothing but its regions and always ends.

Checked once per program, before it runs, by every device without a board (and so for every client of one that is served): fields
against each other, against the configuration's buffers, and every byte that may be touched against the regions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .accesses import Sizes, is_aligned, is_inside, times
from .config import HardwareConfig
from .isa import COUNTERS, DESCRIPTOR, SCALARS, Flag, Opcode, Region
from .plan import LARGEST_KERNEL
from .reference import LARGEST_NORM
from .refusal import Refusal, Rules
from .table_rules import MOST_NORM_PIXELS
from .tables import SILU_FRACTION_BITS

MOST_DESCRIPTORS = 1 << 14
MOST_PIXELS = 1 << 24  # of an operation: of all samples, windows and heads
MOST_PIXELS_OF_ALL = 1 << 28  # of a program
LARGEST_PITCH = (1 << 16) - 1  # elements: a concatenation is an operand too, whose channels have 16 bits
FURTHEST_PART = 1 << 8  # descriptors from the first part of an operation to the others
LARGEST_SUM = (1 << 17) - 1  # products of two codes whose sum always fits 32 bits

ACTIVATIONS = Flag.SILU | Flag.GELU | Flag.RELU
RESULT = Flag.QUANTIZE | Flag.FINE | Flag.CODE_OUTPUT
LINEAR = Flag.CODE_INPUT | Flag.RESIDENT | Flag.FOLLOWS | Flag.PAIRED
ATTENTION = LINEAR | Flag.OTHER_RESIDENT | Flag.CONSTANT_OTHER | Flag.INTERLEAVED
REQUIRED_FLAGS = {
    Opcode.CONVOLUTION: Flag.CODE_INPUT,
    Opcode.SCORES: Flag.CODE_INPUT,
    Opcode.MIX: Flag.CODE_INPUT,
    Opcode.SOFTMAX: Flag.CODE_OUTPUT,
}
LEGAL_FLAGS = {
    Opcode.CONVOLUTION: LINEAR | Flag.CODE_OUTPUT | Flag.CONDITIONAL | Flag.GATED | Flag.RELU | Flag.SHARES_OPERAND,
    Opcode.SCORES: ATTENTION,
    Opcode.MIX: ATTENTION | Flag.CODE_OUTPUT,
    Opcode.GROUP_NORM: ACTIVATIONS | RESULT | Flag.CONDITIONAL,
    Opcode.LAYER_NORM: ACTIVATIONS | RESULT | Flag.CONDITIONAL,
    Opcode.ADD: RESULT,
    Opcode.MULTIPLY: RESULT,
    Opcode.ACTIVATE: ACTIVATIONS | RESULT,
    Opcode.SOFTMAX: Flag.CODE_OUTPUT,
    Opcode.AVERAGE_POOL: Flag(0),
    Opcode.UPSAMPLE: Flag.CODE_INPUT | Flag.CODE_OUTPUT,
}
FOLLOWING = ("input", "other", "output", "state_input", "state_other", "state_accumulators", "vector0", "vector1")
OF_PARTS = {*FOLLOWING, "batch", "flags", "node", "leader", "scalars"}  # may differ between the parts of a batch
PART_FLAGS = Flag.FOLLOWS | Flag.PAIRED


def check_descriptors(config: HardwareConfig, descriptors: np.ndarray, sizes: Mapping[Region, int]) -> Refusal | None:
    """The first of ``descriptors`` (records [n] of the ISA) that a program of these region ``sizes`` in bytes may not have.

    What its parameter block must be besides: :mod:`.scalar_rules`.
    """
    rules, s = Rules(), Sizes(descriptors)
    _check_table(rules, s, sizes)
    _check_flags(rules, s)
    _check_shapes(rules, s, config)
    _check_plans(rules, s, config)
    _check_memory(rules, s, config, sizes)
    _check_neighbours(rules, s, config)
    _check_parts(rules, s, descriptors)
    return rules.refusal


def check_count(count: int, sizes: Mapping[Region, int]) -> Refusal | None:
    """The first of ``count`` descriptors that is in no region, or whose scalars or counters are not."""
    records = {Region.PROGRAM: DESCRIPTOR, Region.PARAMETERS: SCALARS, Region.COUNTERS: COUNTERS}
    for region, record in records.items():
        if count > sizes[region] // record.itemsize:
            return Refusal(sizes[region] // record.itemsize, f"{region.name} has room for all records")
    return None if count <= MOST_DESCRIPTORS else Refusal(MOST_DESCRIPTORS, f"at most {MOST_DESCRIPTORS} descriptors")


def _check_table(rules: Rules, s: Sizes, sizes: Mapping[Region, int]) -> None:
    """Opcodes, and how descriptors name each other."""
    index, leader = np.arange(len(s.opcode)), s["leader"]
    rules.require(np.isin(s.opcode, list(Opcode)), "a known opcode")
    rules.require(s["reserved_"] == 0, "reserved bits are zero")
    rules.require(s["node"] == index, "the node is the descriptor's index")
    rules.require(s["scalars"] == index * SCALARS.itemsize, "the scalars are those of the descriptor's index")
    follows = s.has(Flag.FOLLOWS)
    before = np.minimum(leader, index)
    rules.require((leader == before) & (follows == (leader != index)), "the leader is itself, or one before it")
    leads = s.is_linear[before] & ~follows[before]
    rules.require(~follows | leads, "the leader is linear and follows no other")


def _check_flags(rules: Rules, s: Sizes) -> None:
    required, legal = np.zeros_like(s.flags), np.zeros_like(s.flags)
    for opcode, flags in LEGAL_FLAGS.items():
        required[s.opcode == opcode], legal[s.opcode == opcode] = REQUIRED_FLAGS.get(opcode, 0), flags
    rules.require((s.flags & ~legal == 0) & (s.flags & required == required), "the flags are the operation's")
    quantizes = s.has(Flag.QUANTIZE)
    finished = s.is_norm | s.is_pair | (s.opcode == Opcode.ACTIVATE)
    rules.require(~finished | (quantizes == s.has(Flag.CODE_OUTPUT)), "codes come from a quantizer")
    rules.require(quantizes | ~s.has(Flag.FINE), "residue codes come from a quantizer")
    activations = np.sum([s.has(flag) for flag in (Flag.SILU, Flag.GELU, Flag.RELU)], axis=0)
    rules.require(activations <= 1, "one activation")
    rules.require((s.opcode != Opcode.ACTIVATE) | (activations + quantizes > 0), "an activation or a quantizer")
    tabled = s.has(Flag.SILU | Flag.GELU)
    rules.require(~tabled | (s["activation_bits"] <= SILU_FRACTION_BITS), f"at most {SILU_FRACTION_BITS} fraction bits")
    moves = s.opcode == Opcode.UPSAMPLE
    rules.require(~moves | (s.has(Flag.CODE_INPUT) == s.has(Flag.CODE_OUTPUT)), "upsampling keeps the type")


# ----------------------------------------------------------------------------------------------------- shapes


def _check_shapes(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    dimensions = ("batch", "height", "width", "channels", "output_height", "output_width", "output_channels")
    for name in dimensions:
        rules.require(s[name] > 0, f"{name} is at least 1")
    pixels = times(s["batch"], np.maximum(np.maximum(s.input_pixels, s.output_pixels), s.other_pixels))
    rules.require(pixels <= MOST_PIXELS, f"at most {MOST_PIXELS} pixels")
    rules.require(np.cumsum(np.minimum(pixels, MOST_PIXELS + 1)) <= MOST_PIXELS_OF_ALL,
                  f"a program of at most {MOST_PIXELS_OF_ALL} pixels")  # fmt: skip
    _check_convolutions(rules, s)
    _check_attention(rules, s)
    _check_vector_shapes(rules, s, config)


def _check_convolutions(rules: Rules, s: Sizes) -> None:
    here = s.is_convolution
    for axis, low, high, size in (
        ("height", "pad_top", "pad_bottom", "height"),
        ("width", "pad_left", "pad_right", "width"),
    ):
        kernel, stride = s[f"kernel_{axis}"], s[f"stride_{axis}"]
        rules.require(~here | ((kernel > 0) & (stride > 0)), f"kernel and stride of the {axis} are at least 1")
        outside = s[size] + s[low] + s[high] - kernel
        rules.require(~here | (s[f"output_{axis}"] == outside // np.maximum(stride, 1) + 1),
                      f"as many output pixels as windows fit the {axis}")  # fmt: skip
        rules.require(~here | (outside >= 0), f"the kernel fits the {axis}")
    rules.require(~here | (s.taps <= LARGEST_KERNEL), f"at most {LARGEST_KERNEL} taps")
    rules.require(~here | (s.taps * s["channels"] <= LARGEST_SUM), "sums that fit 32 bits")
    lead, extra = _chains(s)
    rules.require(~here | ((s["lead_columns"] == lead) & (s["extra_columns"] == extra)), "the columns of its chains")
    divides = (s["segment_pixels"] == 1) | (
        (s["segment_pixels"] == s["width"])
        & (s["input_pitch"] == s["channels"])
        & (s["chunk_channels"] == s["channels"])
    )
    rules.require(~here | divides, "operands are read pixel by pixel, or dense rows whole")


def _chains(s: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Lead and extra columns, as of :func:`.spatial.chains_of`."""
    stride, left = np.maximum(s["stride_width"], 1), s["pad_left"]
    pads = s["pad_top"] + s["pad_bottom"] + left + s["pad_right"]
    single = (s.taps == 1) & (s["stride_height"] == 1) & (stride == 1) & (pads == 0)
    seen = (s["output_width"] - 1) * stride - left + s["kernel_width"]
    extra = np.minimum(np.maximum(seen - s["width"], 0), stride)
    lead = np.maximum((s["kernel_width"] - 1 - left) // stride, 0)
    return np.where(single, 0, lead), np.where(single, 0, extra)


def _check_attention(rules: Rules, s: Sizes) -> None:
    here, heads = s.is_attention, s.heads
    rules.require(~here | ((s["groups"] > 0) & (s["windows"] > 0)), "at least one head and one window")
    rules.require(~here | (s.depth % heads == 0), "channels that the heads share evenly")
    instances, tokens = s.windows * heads, times(s.windows, s.queries)
    scores = (s["output_height"] == instances) & (s.input_pixels == tokens)
    rules.require(~s.is_scores | scores, "logits of all windows, heads and queries")
    mixed = (s["height"] == instances) & (s.output_pixels == tokens)
    rules.require(~s.is_mix | mixed, "weights of all windows, heads and queries")


def _check_vector_shapes(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    same_image = (s["output_height"] == s["height"]) & (s["output_width"] == s["width"])
    channels = s["channels"] * np.where(s.has(Flag.FINE), 2, 1)
    plain = ~s.is_linear & ~s.among(Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    rules.require(~plain | (same_image & (s["output_channels"] == channels)), "a result of the operand's shape")
    keeps_rows = s.is_norm | s.among(Opcode.SOFTMAX, Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    rules.require(~keeps_rows | (2 * s["channels"] <= config.row_bytes), "rows that fit the row buffer")
    groups = s.heads
    rules.require(
        ~s.is_norm | ((s["groups"] > 0) & (s["channels"] % groups == 0)), "groups that share the channels evenly"
    )
    per_pixel = s.opcode == Opcode.LAYER_NORM
    rules.require(~per_pixel | (s["groups"] == 1), "one group")
    image = np.where(per_pixel, 1, s.input_pixels)
    members = times(image, s["channels"] // groups)
    rules.require(~s.is_norm | ((members <= LARGEST_NORM) & (image <= MOST_NORM_PIXELS)), "groups whose sums fit")
    factor = s["stride_height"]
    scales = s.among(Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    rules.require(~scales | ((factor > 0) & (s["stride_width"] == factor)), "one factor, at least 1")
    rules.require(~scales | (s["output_channels"] == s["channels"]), "as many channels")
    for axis in ("height", "width"):
        pooled = s[f"output_{axis}"] == s[axis] // np.maximum(factor, 1)
        rules.require((s.opcode != Opcode.AVERAGE_POOL) | pooled, f"whole windows of the {axis}")
        repeated = (s[f"output_{axis}"] > (s[axis] - 1) * factor) & (s[f"output_{axis}"] <= s[axis] * factor)
        rules.require((s.opcode != Opcode.UPSAMPLE) | repeated, f"the {axis} times the factor, the last pixel in part")


# ----------------------------------------------------------------------------------------------------- plans


def _check_plans(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    """That blocks, chunks and passes fit the buffers: the limits of :mod:`.plan`."""
    one = np.ones_like(s.opcode)
    kernel_height, stride = np.maximum(s["kernel_height"], 1), np.maximum(s["stride_height"], 1)
    _check_plan(rules, s, config, "", s.is_convolution, s["output_height"], s["output_width"], s["height"],
                s["width"] + s["extra_columns"], kernel_height, stride, s.taps, s["channels"], s["output_channels"],
                staged=one == 0, gathered=one == 0)  # fmt: skip
    inner = np.where(s.is_scores, s["channels"] // s.heads, s["channels"])
    columns = np.where(s.is_scores, s["output_channels"], s["output_channels"] // s.heads)
    for prefix, rows, outputs, staged, gathered in (
        ("", s.queries, columns, s.is_scores, one == 0),
        ("other_", columns, s.queries, one == 1, s.is_mix),
    ):
        _check_plan(rules, s, config, prefix, s.is_attention, rows, one, rows, one, one, one, one, inner, outputs,
                    staged, gathered)  # fmt: skip


def _check_plan(
    rules: Rules, s: Sizes, config: HardwareConfig, prefix: str, here: np.ndarray, rows: np.ndarray, width: np.ndarray,
    input_rows: np.ndarray, encoded_width: np.ndarray, kernel_height: np.ndarray, stride: np.ndarray, taps: np.ndarray,
    channels: np.ndarray, outputs: np.ndarray, staged: np.ndarray, gathered: np.ndarray,
) -> None:  # fmt: skip
    block, chunk, tiles = s[f"{prefix}block_rows"], s[f"{prefix}chunk_channels"], s[f"{prefix}pass_tiles"]
    resident = s.has(Flag.OTHER_RESIDENT if prefix else Flag.RESIDENT)
    lanes, bus = config.lanes, config.bus_bytes
    whole = (block >= 1) & (block <= rows) & (tiles >= 1) & (tiles <= -(-outputs // config.oc_tile))
    whole &= (chunk >= 1) & (chunk <= channels) & ((chunk % lanes == 0) | (chunk == channels))
    rules.require(~here | whole, f"{prefix}blocks, chunks and passes of the operator")
    words, all_words = -(-chunk // lanes), -(-channels // lanes)
    positions = times(np.minimum((block - 1) * stride + kernel_height, input_rows), encoded_width)
    legal = (positions <= config.positions) & (times(positions, words) <= config.digit_depth)
    legal &= times(block, width, tiles) <= config.accumulator_depth
    legal &= times(tiles, taps, np.where(resident, all_words, words)) <= config.weight_depth
    legal &= ~staged | (words * lanes <= config.staging_depth)
    legal &= ~gathered | (-(-chunk // bus) * block <= config.gather_bytes // bus)
    rules.require(~here | legal, f"{prefix}blocks, chunks and passes that fit the buffers")


# ----------------------------------------------------------------------------------------------------- memory


def _check_memory(rules: Rules, s: Sizes, config: HardwareConfig, sizes: Mapping[Region, int]) -> None:
    tensors = s.tensors()
    for access in tensors:
        pitch = s[f"{access.name}_pitch"]
        channels = s.other_channels if access.name == "other" else s["output_channels" if access.writes else "channels"]
        rules.require(
            ~access.used | ((pitch >= channels) & (pitch <= LARGEST_PITCH)), f"{access.name}_pitch fits the channels"
        )
    for access in (*tensors, *s.vectors()):
        rules.require(~access.used | is_inside(access, sizes), f"{access.name} inside {access.region.name}")
        rules.require(~access.used | is_aligned(access), f"{access.name} is aligned")
    for operand in tensors[:2]:
        rules.require(~operand.meets(tensors[2]), f"{operand.name} and output do not overlap")
    tiles, words = -(-s["output_channels"] // config.oc_tile), -(-s["channels"] // config.lanes)
    packed = np.where(s.is_convolution, times(tiles, s.taps, words, config.lanes * config.oc_tile), 0)
    size = sizes[Region.WEIGHTS]
    rules.require((s["weights"] % config.bus_bytes == 0) | ~s.is_convolution, "weights that begin with a beat")
    rules.require(~s.is_convolution | (s["weights"] + packed <= size), "weights inside WEIGHTS")
    once = np.where(_first_parts(s) == np.arange(len(packed)), packed, 0)
    rules.require(np.cumsum(np.minimum(once, size + 1)) <= size, "weights of its own")


# ----------------------------------------------------------------------------------------------------- at the same time


def _check_neighbours(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    """Descriptors that run at the same time: channel groups of a convolution and the GROUP_NORM after it, and pairs."""
    parts, paired = s["channel_groups"], s.has(Flag.PAIRED)
    overlapped = parts > 0
    rules.require(
        ~overlapped | (s.is_convolution & (parts > 1) & (parts <= config.channel_groups)), "legal channel groups"
    )
    last = np.arange(len(parts)) == len(parts) - 1
    rules.require(~(overlapped | paired) | ~last, "a descriptor to run at the same time")
    rules.require(~overlapped | ~paired, "channel groups or a pair")
    if len(parts) < 2:
        return

    def extended(legal: np.ndarray) -> np.ndarray:
        return np.append(legal, True)

    here, after = slice(None, -1), slice(1, None)
    rules.require(extended(~paired[here] | ~s.is_linear[after]), "a pair of a linear and a vector operation")
    input_here, other_here, output_here = (access.at(here) for access in s.tensors())
    input_after, other_after, output_after = (access.at(after) for access in s.tensors())
    reads = [one.meets(output_after) for one in (input_here, other_here)]
    clash = np.logical_or.reduce(reads + [output_here.meets(one) for one in (input_after, other_after, output_after)])
    rules.require(extended(~paired[here] | ~clash), "pairs that share no result")
    same = (s["output"][here] == s["input"][after]) & (s["output_pitch"][here] == s["input_pitch"][after])
    for output, operand in (
        ("batch", "batch"),
        ("output_height", "height"),
        ("output_width", "width"),
        ("output_channels", "channels"),
    ):
        same &= s[output][here] == s[operand][after]
    same &= (s.opcode[after] == Opcode.GROUP_NORM) & ~s.has(Flag.CODE_OUTPUT)[here]
    rules.require(extended(~overlapped[here] | same), "channel groups of the GROUP_NORM's operand")
    groups = np.maximum(parts, 1)[here]
    even = (s["output_channels"][here] % (groups * config.oc_tile) == 0) & (s["groups"][after] % groups == 0)
    rules.require(extended(~overlapped[here] | even), "whole tiles and norm groups in a channel group")
    rules.require(
        extended(~overlapped[here] | ~(reads[0] | output_here.meets(output_after))),
        "channel groups that keep the operand",
    )


# ----------------------------------------------------------------------------------------------------- parts of a batch


def _first_parts(s: Sizes) -> np.ndarray:
    """Index of the first part of each descriptor's operation."""
    _, first, inverse = np.unique(s["layer"], return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]


def _check_parts(rules: Rules, s: Sizes, descriptors: np.ndarray) -> None:
    """Descriptors of one layer are parts of a batch: the same but for their samples, which follow each other in memory; and no
    descriptor between them uses what they write, or writes what they use."""
    first, index = _first_parts(s), np.arange(len(descriptors))
    later = np.flatnonzero(first != index)
    if not later.size:
        return
    order = np.argsort(s["layer"], kind="stable")
    before = np.empty_like(order)
    before[order[1:]] = order[:-1]
    before[order[:1]] = 0
    legal = np.ones(len(index), bool)
    legal[later] = _is_continued(s, descriptors, before[later], later)
    rules.require(legal, "parts of a batch that follow each other")
    samples = np.zeros(len(index), np.int64)
    np.add.at(samples, first, s["batch"])
    rules.require(samples < 1 << 16, "at most 65535 samples of all parts")
    near = index - first <= FURTHEST_PART
    rules.require(near, f"parts of a batch at most {FURTHEST_PART} descriptors apart")
    _check_order(rules, s, np.where(near, first, index))


def _is_continued(s: Sizes, descriptors: np.ndarray, before: np.ndarray, here: np.ndarray) -> np.ndarray:
    same = np.ones(len(here), bool)
    for name in set(descriptors.dtype.names or ()) - OF_PARTS:
        same &= s[name][before] == s[name][here]
    same &= (s.flags[before] ^ s.flags[here]) & ~int(PART_FLAGS) == 0
    steps = dict.fromkeys(FOLLOWING, np.zeros_like(s.opcode))
    for access in (*s.tensors(), *s.vectors(), *s.state()):
        steps[access.name] = np.where(
            access.used | (access.region == Region.STATE) & s.is_linear, access.sample_bytes, 0
        )
    steps["state_other"] = np.where(s.is_attention, steps["state_other"], 0)
    for name in FOLLOWING:
        same &= s[name][here] == s[name][before] + times(s["batch"][before], steps[name][before])
    return same


def _check_order(rules: Rules, s: Sizes, first: np.ndarray) -> None:
    """A later part may run when the first one does: nothing between them that runs after the first part meets it."""
    accesses = s.tensors()
    count, legal = len(first), np.ones(len(first), bool)
    for distance in range(1, int((np.arange(count) - first).max()) + 1):
        here = np.arange(distance, count)
        between = here - distance
        swapped = (first[here] < between) & (first[between] > first[here])
        here, between = here[swapped], between[swapped]
        for one in accesses:
            for other in accesses:
                if one.writes or other.writes:
                    legal[here] &= ~one.at(here).meets(other.at(between))
    rules.require(legal, "parts of a batch that other descriptors between them leave alone")
