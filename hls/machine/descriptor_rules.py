"""What the descriptors of a program must be, so that the accelerator touches nothing but its regions and always ends.

Checked once per program, before it runs, by every device without a board (and so for every client of one that is served): fields
against each other, against the configuration's buffers, and every byte that may be touched against the regions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..common.limits import (
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
from ..contract.formats import VALUE_BYTES, WEIGHT_WIDTHS
from ..contract.operators.activation import BY_NUMBER
from ..contract.operators.norm import LARGEST_NORM
from ..contract.tables import ACTIVATION_FRACTION_BITS
from .accesses import Sizes, is_aligned, is_inside, times
from .config import HardwareConfig
from .isa import COUNTERS, DESCRIPTOR, SCALARS, Flag, Opcode, Region
from .order_rules import check_neighbours, check_parts, check_sharing
from .packing import row_bytes
from .plan import LARGEST_KERNEL
from .plan_rules import check_plans
from .refusal import Refusal, Rules

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
    Opcode.GROUP_NORM: RESULT | Flag.CONDITIONAL,
    Opcode.LAYER_NORM: RESULT | Flag.CONDITIONAL,
    Opcode.ADD: RESULT,
    Opcode.MULTIPLY: RESULT,
    Opcode.ACTIVATE: RESULT,
    Opcode.SOFTMAX: Flag.CODE_OUTPUT,
    Opcode.AVERAGE_POOL: Flag(0),
    Opcode.UPSAMPLE: Flag.CODE_INPUT | Flag.CODE_OUTPUT,
}


def check_descriptors(config: HardwareConfig, descriptors: np.ndarray, sizes: Mapping[Region, int]) -> Refusal | None:
    """The first of ``descriptors`` (records [n] of the ISA) that a program of these region ``sizes`` in bytes may not have.

    What its parameter block must be besides: :mod:`.scalar_rules`.
    """
    rules, s = Rules(), Sizes(descriptors)
    _check_table(rules, s, sizes)
    _check_flags(rules, s)
    _check_shapes(rules, s, config)
    check_plans(rules, s, config)
    _check_memory(rules, s, config, sizes)
    check_neighbours(rules, s, config)
    check_parts(rules, s, descriptors)
    check_sharing(rules, s)
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
    bits = s["weight_bits"]
    rules.require(
        np.where(s.is_convolution, np.isin(bits, WEIGHT_WIDTHS), bits == 0),
        f"weights of {' or '.join(map(str, WEIGHT_WIDTHS))} bits",
    )
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
    rules.require(~s.is_finished | (quantizes == s.has(Flag.CODE_OUTPUT)), "codes come from a quantizer")
    rules.require(quantizes | ~s.has(Flag.FINE), "residue codes come from a quantizer")
    activation, bits = s.finished["activation"], s.finished["activation_bits"]
    rules.require(
        np.isin(activation, [0, *BY_NUMBER]) & ((activation == 0) | ~s.is_pair), "an activation that is known"
    )
    rules.require((s.opcode != Opcode.ACTIVATE) | (activation > 0) | quantizes, "an activation or a quantizer")
    rules.require(
        (activation == 0) | (bits <= ACTIVATION_FRACTION_BITS), f"at most {ACTIVATION_FRACTION_BITS} fraction bits"
    )
    moves = s.opcode == Opcode.UPSAMPLE
    rules.require(~moves | (s.has(Flag.CODE_INPUT) == s.has(Flag.CODE_OUTPUT)), "upsampling keeps the type")


# ----------------------------------------------------------------------------------------------------- shapes


def _check_shapes(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    dimensions = ("batch", "height", "width", "channels", "output_height", "output_width", "output_channels")
    for name in dimensions:
        rules.require(s[name] > 0, f"{name} is at least 1")
    pixels = times(s["batch"], np.maximum(np.maximum(s.input_pixels, s.output_pixels), s.other_pixels))
    rules.require(pixels <= MOST_PIXELS, f"at most {MOST_PIXELS} pixels")
    of_all = np.cumsum(np.minimum(pixels, MOST_PIXELS + 1))
    rules.require(of_all <= MOST_PIXELS_OF_ALL, f"a program of at most {MOST_PIXELS_OF_ALL} pixels")
    _check_convolutions(rules, s)
    _check_attention(rules, s)
    _check_vector_shapes(rules, s, config)
    _check_products(rules, s)


def _check_products(rules: Rules, s: Sizes) -> None:
    per_output = np.where(s.is_convolution, s.taps * s["channels"], s.inner)
    products = np.where(s.is_linear, times(s["batch"], s.output_pixels, s["output_channels"], per_output), 0)
    rules.require(products <= MOST_PRODUCTS, f"at most {MOST_PRODUCTS} products")
    of_all = np.cumsum(np.minimum(products, MOST_PRODUCTS + 1))
    rules.require(of_all <= MOST_PRODUCTS_OF_ALL, f"a program of at most {MOST_PRODUCTS_OF_ALL} products")


def _check_convolutions(rules: Rules, s: Sizes) -> None:
    here, c = s.is_convolution, s.convolution
    for axis, low, high in (("height", "pad_top", "pad_bottom"), ("width", "pad_left", "pad_right")):
        kernel, stride = c[f"kernel_{axis}"], c[f"stride_{axis}"]
        rules.require(~here | ((kernel > 0) & (stride > 0)), f"kernel and stride of the {axis} are at least 1")
        outside = c[axis] + c[low] + c[high] - kernel
        windows = outside // np.maximum(stride, 1) + 1
        rules.require(~here | (c[f"output_{axis}"] == windows), f"as many output pixels as windows fit the {axis}")
        rules.require(~here | (outside >= 0), f"the kernel fits the {axis}")
    rules.require(~here | (s.taps <= LARGEST_KERNEL), f"at most {LARGEST_KERNEL} taps")
    rules.require(~here | (s.taps * c["channels"] <= LARGEST_SUM), "sums that fit 32 bits")
    lead, extra = _chains(s)
    rules.require(~here | ((c["lead_columns"] == lead) & (c["extra_columns"] == extra)), "the columns of its chains")
    segment = c["segment_pixels"]
    dense = (c["input_pitch"] == c["channels"]) & (c["chunk_channels"] == c["channels"])
    divides = (segment == 1) | ((segment == c["width"]) & dense)
    rules.require(~here | divides, "operands are read pixel by pixel, or dense rows whole")


def _chains(s: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Lead and extra columns, as of :func:`..contract.spatial.chains_of`."""
    c = s.convolution
    stride, left = np.maximum(c["stride_width"], 1), c["pad_left"]
    pads = c["pad_top"] + c["pad_bottom"] + left + c["pad_right"]
    single = (s.taps == 1) & (c["stride_height"] == 1) & (stride == 1) & (pads == 0)
    seen = (c["output_width"] - 1) * stride - left + c["kernel_width"]
    extra = np.minimum(np.maximum(seen - c["width"], 0), stride)
    lead = np.maximum((c["kernel_width"] - 1 - left) // stride, 0)
    return np.where(single, 0, lead), np.where(single, 0, extra)


def _check_attention(rules: Rules, s: Sizes) -> None:
    here, a = s.is_attention, s.attention
    rules.require(~here | ((a["heads"] > 0) & (a["windows"] > 0)), "at least one head and one window")
    rules.require(~here | (s.depth % s.heads == 0), "channels that the heads share evenly")
    whole = a["instances"] == s.windows * s.heads
    whole &= times(a["image_height"], a["image_width"]) == times(s.windows, s.queries)
    rules.require(~s.is_scores | whole, "logits of all windows, heads and queries")
    rules.require(~s.is_mix | whole, "weights of all windows, heads and queries")


def _check_vector_shapes(rules: Rules, s: Sizes, config: HardwareConfig) -> None:
    same_image = (s["output_height"] == s["height"]) & (s["output_width"] == s["width"])
    channels = s["channels"] * np.where(s.has(Flag.FINE), 2, 1)
    plain = ~s.is_linear & ~s.among(Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    rules.require(~plain | (same_image & (s["output_channels"] == channels)), "a result of the operand's shape")
    keeps_rows = s.is_norm | s.among(Opcode.SOFTMAX, Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    rules.require(~keeps_rows | (VALUE_BYTES * s["channels"] <= config.row_bytes), "rows that fit the row buffer")
    groups = s.norm["groups"]
    even = (groups > 0) & (s["channels"] % s.norm_groups == 0)
    rules.require(~s.is_norm | even, "groups that share the channels evenly")
    per_pixel = s.opcode == Opcode.LAYER_NORM
    rules.require(~per_pixel | (groups == 1), "one group")
    image = np.where(per_pixel, 1, s.input_pixels)
    members = times(image, s["channels"] // s.norm_groups)
    rules.require(~s.is_norm | ((members <= LARGEST_NORM) & (image <= MOST_NORM_PIXELS)), "groups whose sums fit")
    scales = s.among(Opcode.AVERAGE_POOL, Opcode.UPSAMPLE)
    factor = s.pool["window"] + s.upsample["factor"]
    across = s.pool["window_width"] + s.upsample["factor_width"]
    rules.require(~scales | ((factor > 0) & (across == factor)), "one factor, at least 1")
    rules.require(~scales | (s["output_channels"] == s["channels"]), "as many channels")
    for axis in ("height", "width"):
        pooled = s[f"output_{axis}"] == s[axis] // np.maximum(factor, 1)
        rules.require((s.opcode != Opcode.AVERAGE_POOL) | pooled, f"whole windows of the {axis}")
        repeated = (s[f"output_{axis}"] > (s[axis] - 1) * factor) & (s[f"output_{axis}"] <= s[axis] * factor)
        rules.require((s.opcode != Opcode.UPSAMPLE) | repeated, f"the {axis} times the factor, the last pixel in part")


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
    of_lane = np.zeros_like(s.opcode)
    for bits in WEIGHT_WIDTHS:
        of_lane[s["weight_bits"] == bits] = row_bytes(config, bits)
    packed = np.where(s.is_convolution, times(tiles, s.taps, words, config.lanes * of_lane), 0)
    size = sizes[Region.WEIGHTS]
    rules.require((s["weights"] % config.bus_bytes == 0) | ~s.is_convolution, "weights that begin with a beat")
    rules.require(~s.is_convolution | (s["weights"] + packed <= size), "weights inside WEIGHTS")
    once = np.where(s.first_parts() == np.arange(len(packed)), packed, 0)
    rules.require(np.cumsum(np.minimum(once, size + 1)) <= size, "weights of its own")
