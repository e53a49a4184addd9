"""What the descriptors of a program must be, so that the accelerator touches nothing but its regions and always ends.

Checked once per program, before it runs, by every device without a board (and so for every client of one that is served): fields
against each other, against the configuration's buffers, and every byte that may be touched against the regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..common.limits import (
    FURTHEST_PART,
    LARGEST_DIMENSION,
    LARGEST_SUM,
    MOST_DESCRIPTORS,
    MOST_NORM_PIXELS,
    MOST_PIXELS,
    MOST_PIXELS_OF_ALL,
    MOST_PRODUCTS,
    MOST_PRODUCTS_OF_ALL,
)
from ..contract.arithmetic import ceil_divide
from ..contract.operators.norm import LARGEST_NORM
from ..contract.tables import SILU_FRACTION_BITS
from .accesses import Sizes, is_aligned, is_inside, times
from .config import HardwareConfig
from .isa import COUNTERS, DESCRIPTOR, SCALARS, Flag, Opcode, Region
from .plan import LARGEST_KERNEL
from .refusal import Refusal, Rules

ACTIVATES = Flag.SILU | Flag.GELU | Flag.RELU
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
    Opcode.GROUP_NORM: ACTIVATES | RESULT | Flag.CONDITIONAL,
    Opcode.LAYER_NORM: ACTIVATES | RESULT | Flag.CONDITIONAL,
    Opcode.ADD: RESULT,
    Opcode.MULTIPLY: RESULT,
    Opcode.ACTIVATE: ACTIVATES | RESULT,
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
    per_output = np.where(s.is_convolution, s.taps, 1) * np.where(s.is_scores, s["channels"] // s.groups, s["channels"])
    products = np.where(s.is_linear, times(s["batch"], s.output_pixels, s["output_channels"], per_output), 0)
    rules.require(products <= MOST_PRODUCTS, f"at most {MOST_PRODUCTS} products")
    rules.require(np.cumsum(np.minimum(products, MOST_PRODUCTS + 1)) <= MOST_PRODUCTS_OF_ALL,
                  f"a program of at most {MOST_PRODUCTS_OF_ALL} products")  # fmt: skip


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
    """Lead and extra columns, as of :func:`..contract.spatial.chains_of`."""
    stride, left = np.maximum(s["stride_width"], 1), s["pad_left"]
    pads = s["pad_top"] + s["pad_bottom"] + left + s["pad_right"]
    single = (s.taps == 1) & (s["stride_height"] == 1) & (stride == 1) & (pads == 0)
    seen = (s["output_width"] - 1) * stride - left + s["kernel_width"]
    extra = np.minimum(np.maximum(seen - s["width"], 0), stride)
    lead = np.maximum((s["kernel_width"] - 1 - left) // stride, 0)
    return np.where(single, 0, lead), np.where(single, 0, extra)


def _check_attention(rules: Rules, s: Sizes) -> None:
    here, heads = s.is_attention, s.groups
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
    even = (s["groups"] > 0) & (s["channels"] % s.groups == 0)
    rules.require(~s.is_norm | even, "groups that share the channels evenly")
    per_pixel = s.opcode == Opcode.LAYER_NORM
    rules.require(~per_pixel | (s["groups"] == 1), "one group")
    image = np.where(per_pixel, 1, s.input_pixels)
    members = times(image, s["channels"] // s.groups)
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
    one, never = np.ones_like(s.opcode), np.zeros_like(s.is_linear)
    convolution = _Planned(
        prefix="",
        here=s.is_convolution,
        rows=s["output_height"],
        width=s["output_width"],
        input_rows=s["height"],
        encoded_width=s["width"] + s["extra_columns"],
        kernel_height=np.maximum(s["kernel_height"], 1),
        stride=np.maximum(s["stride_height"], 1),
        taps=s.taps,
        channels=s["channels"],
        outputs=s["output_channels"],
        staged=never,
        gathered=never,
    )
    columns = np.where(s.is_scores, s["output_channels"], s["output_channels"] // s.groups)
    first = _Planned(
        prefix="",
        here=s.is_attention,
        rows=s.queries,
        width=one,
        input_rows=s.queries,
        encoded_width=one,
        kernel_height=one,
        stride=one,
        taps=one,
        channels=np.where(s.is_scores, s["channels"] // s.groups, s["channels"]),
        outputs=columns,
        staged=s.is_scores,
        gathered=never,
    )
    second = replace(
        first, prefix="other_", rows=columns, input_rows=columns, outputs=s.queries, staged=~never, gathered=s.is_mix
    )
    for planned in (convolution, first, second):
        _check_plan(rules, s, config, planned)


@dataclass(frozen=True)
class _Planned:
    """What the plan in the fields that begin with ``prefix`` is of, where it is ``here``; arrays [n], bool or int64.

    ``rows`` x ``width`` results of ``outputs`` channels, by windows of ``kernel_height`` rows and ``taps`` taps, ``stride`` rows
    apart, over ``input_rows`` x ``encoded_width`` operands of ``channels``; ``staged``, ``gathered``: through which buffers.
    """

    prefix: str
    here: np.ndarray
    rows: np.ndarray
    width: np.ndarray
    input_rows: np.ndarray
    encoded_width: np.ndarray
    kernel_height: np.ndarray
    stride: np.ndarray
    taps: np.ndarray
    channels: np.ndarray
    outputs: np.ndarray
    staged: np.ndarray
    gathered: np.ndarray


def _check_plan(rules: Rules, s: Sizes, config: HardwareConfig, p: _Planned) -> None:
    block, chunk, tiles = s[f"{p.prefix}block_rows"], s[f"{p.prefix}chunk_channels"], s[f"{p.prefix}pass_tiles"]
    resident = s.has(Flag.OTHER_RESIDENT if p.prefix else Flag.RESIDENT)
    lanes, bus = config.lanes, config.bus_bytes
    whole = (block >= 1) & (block <= p.rows) & (tiles >= 1) & (tiles <= ceil_divide(p.outputs, config.oc_tile))
    whole &= (chunk >= 1) & (chunk <= p.channels) & ((chunk % lanes == 0) | (chunk == p.channels))
    rules.require(~p.here | whole, f"{p.prefix}blocks, chunks and passes of the operator")
    words, all_words = ceil_divide(chunk, lanes), ceil_divide(p.channels, lanes)
    positions = times(np.minimum((block - 1) * p.stride + p.kernel_height, p.input_rows), p.encoded_width)
    legal = (positions <= config.positions) & (times(positions, words) <= config.digit_depth)
    legal &= times(block, p.width, tiles) <= config.accumulator_depth
    legal &= times(tiles, p.taps, np.where(resident, all_words, words)) <= config.weight_depth
    legal &= ~p.staged | (words * lanes <= config.staging_depth)
    legal &= ~p.gathered | (ceil_divide(chunk, bus) * block <= config.gather_bytes // bus)
    rules.require(~p.here | legal, f"{p.prefix}blocks, chunks and passes that fit the buffers")


# ----------------------------------------------------------------------------------------------------- memory


def _check_memory(rules: Rules, s: Sizes, config: HardwareConfig, sizes: Mapping[Region, int]) -> None:
    tensors = s.tensors()
    for access in tensors:
        pitch = s[f"{access.name}_pitch"]
        channels = s.other_channels if access.name == "other" else s["output_channels" if access.writes else "channels"]
        rules.require(
            ~access.used | ((pitch >= channels) & (pitch <= LARGEST_DIMENSION)),
            f"{access.name}_pitch fits the channels",  # those of a concatenation are an operand's too: 16 bits
        )
    for access in (*tensors, *s.vectors()):
        rules.require(~access.used | is_inside(access, sizes), f"{access.name} inside {access.region.name}")
        rules.require(~access.used | is_aligned(access), f"{access.name} is aligned")
    for operand in tensors[:2]:
        rules.require(~operand.meets(tensors[2]), f"{operand.name} and output do not overlap")
    tiles, words = ceil_divide(s["output_channels"], config.oc_tile), ceil_divide(s["channels"], config.lanes)
    packed = np.where(s.is_convolution, times(tiles, s.taps, words, config.lanes * config.oc_tile), 0)
    size = sizes[Region.WEIGHTS]
    rules.require((s["weights"] % config.bus_bytes == 0) | ~s.is_convolution, "weights that begin with a beat")
    rules.require(~s.is_convolution | (s["weights"] + packed <= size), "weights inside WEIGHTS")
    once = np.where(s.first_parts() == np.arange(len(packed)), packed, 0)
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


def _check_parts(rules: Rules, s: Sizes, descriptors: np.ndarray) -> None:
    """Descriptors of one layer are parts of a batch: the same but for their samples, which follow each other in memory; and no
    descriptor between them uses what they write, or writes what they use."""
    first, index = s.first_parts(), np.arange(len(descriptors))
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
    rules.require(samples <= LARGEST_DIMENSION, f"at most {LARGEST_DIMENSION} samples of all parts")
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
