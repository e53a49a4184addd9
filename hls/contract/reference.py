"""The reference: every operator in plain NumPy int64, slow and obviously right. This module *is* the specification.

Arrays are int64 and batched: codes and values [B, H, W, C], logits and probabilities [B, heads, queries, keys].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from . import tables as lut
from .arithmetic import (
    ACCUMULATOR_RANGE,
    CODE_RANGE,
    VALUE_RANGE,
    quantize_in_two_parts,
    requantize,
    round_shift,
    saturate,
)
from .graph import (
    CODE,
    GELU,
    Add,
    AveragePool,
    Concat,
    Convolution,
    Graph,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    ReLU,
    SiLU,
    Softmax,
    Tables,
    Upsample,
)
from .references import Reference
from .spatial import chains_of, with_neighbours

LIMITS = {CODE: CODE_RANGE, "value": VALUE_RANGE}


def convolve(
    codes: np.ndarray, weight: np.ndarray, stride: tuple[int, int], padding: tuple[int, int, int, int]
) -> np.ndarray:
    """Accumulators of a convolution: codes [B, H, W, I] (or differences), weight [O, kh, kw, I] -> [B, H', W', O]."""
    top, bottom, left, right = padding
    padded = np.pad(np.asarray(codes, np.int64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, kernel_height, kernel_width, _ = weight.shape
    rows = (padded.shape[1] - kernel_height) // stride[0] + 1
    columns = (padded.shape[2] - kernel_width) // stride[1] + 1
    accumulators = np.zeros((len(codes), rows, columns, len(weight)), np.int64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            tap = padded[:, ky : ky + rows * stride[0] : stride[0], kx : kx + columns * stride[1] : stride[1]]
            accumulators += tap @ weight[:, ky, kx].T.astype(np.int64)
    return accumulators


def attention_scores(
    q: np.ndarray, k: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False
) -> np.ndarray:
    """Q [B, H, W, C] times K transposed, per window and head -> [B, windows * heads, queries, keys]."""
    return split_heads(q, heads, windows, interleaved) @ split_heads(k, heads, windows, interleaved).swapaxes(2, 3)


def attention_mix(p: np.ndarray, v: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """P [B, windows * heads, queries, keys] times V [B, H, W, C] -> [B, windows * queries, C]."""
    mixed = np.asarray(p, np.int64) @ split_heads(v, heads, windows, interleaved)
    return join_heads(mixed, heads, windows, interleaved)


def split_heads(x: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """[B, H, W, C] -> [B, windows * heads, tokens of a window, C / heads]."""
    batch, channels = len(x), x.shape[3]
    tokens = x.shape[1] * x.shape[2] // windows
    x = np.asarray(x, np.int64).reshape(batch, *((tokens, windows) if interleaved else (windows, tokens)), heads, -1)
    x = x.swapaxes(1, 2) if interleaved else x
    return x.transpose(0, 1, 3, 2, 4).reshape(batch, windows * heads, tokens, channels // heads)


def join_heads(x: np.ndarray, heads: int, windows: int = 1, interleaved: bool = False) -> np.ndarray:
    """The inverse: [B, windows * heads, tokens, depth] -> [B, windows * tokens, heads * depth]."""
    batch, _, tokens, depth = x.shape
    x = x.reshape(batch, windows, heads, tokens, depth).transpose(0, 1, 3, 2, 4)
    x = x.swapaxes(1, 2) if interleaved else x
    return x.reshape(batch, windows * tokens, heads * depth)


def multiply(x: np.ndarray, y: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Product of values, times ``multiplier / 2**shift``, rounded once."""
    product = np.asarray(x, np.int64) * np.asarray(y, np.int64)
    return requantize(product, multiplier, shift, VALUE_RANGE)


def interpolate(table: np.ndarray, position: np.ndarray, step_bits: int) -> np.ndarray:
    """Linear interpolation of ``table`` at ``position / 2**step_bits``; ``position`` is below the last knot."""
    index, rest = position >> step_bits, position & ((1 << step_bits) - 1)
    low = table.astype(np.int64)[index]
    high = table.astype(np.int64)[index + 1]
    return low + round_shift((high - low) * rest, step_bits)


def silu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * sigmoid(x)`` for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.SILU_DEFICIT)


def gelu(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """``x * Phi(x)`` (the exact GELU) for x and result in steps of ``2**-fraction_bits`` (at most 11)."""
    return _gate(x, fraction_bits, lut.GELU_DEFICIT)


def relu(x: np.ndarray, fraction_bits: int = 0) -> np.ndarray:
    """``max(x, 0)``, in whatever steps."""
    return np.maximum(np.asarray(x, np.int64), 0)


def _gate(x: np.ndarray, fraction_bits: int, table: np.ndarray) -> np.ndarray:
    """``max(x, 0) - deficit(|x|)``, the deficit even in x and 0 from 16 on."""
    x = np.asarray(x, np.int64)
    argument = np.abs(x) << (lut.SILU_FRACTION_BITS - fraction_bits)
    inside = argument < 1 << 15
    deficit = interpolate(table, np.where(inside, argument, 0), lut.SILU_STEP_BITS)
    deficit = round_shift(deficit, lut.SILU_ENTRY_BITS - fraction_bits)
    return np.maximum(x, 0) - np.where(inside, deficit, 0)


def reciprocal_square_root(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, e) with ``1 / sqrt(v) ~ R * 2**-23 * 2**-e`` for int64 v >= 1; R in [2**22, 2**23]."""
    v = np.asarray(v, np.int64)
    half_exponent = np.zeros_like(v)
    for bits in (32, 16, 8, 4, 2):  # half_exponent = floor(log2(v) / 2)
        half_exponent += np.where(v >> (2 * half_exponent) >= np.int64(1) << bits, bits // 2, 0)
    exponent = 2 * half_exponent
    scale = lut.RSQRT_MANTISSA_BITS
    mantissa = np.where(exponent >= scale, v >> np.maximum(exponent - scale, 0), v << np.maximum(scale - exponent, 0))
    return interpolate(lut.RECIPROCAL_SQUARE_ROOT, mantissa - (1 << scale), lut.RSQRT_STEP_BITS), half_exponent


MEAN_BITS = 12
RECIPROCAL_BITS = 42
SLOPE_BITS = 20
LARGEST_SLOPE = (1 << 35) - 1
NARROW_NORM = 1 << 16  # values in a group, up to which sums of products fit 63 bits
LARGEST_NORM = (1 << 17) - 1


def group_norm(
    x: np.ndarray, groups: int, gain: np.ndarray, offset: np.ndarray, gain_bits: int, epsilon: int
) -> np.ndarray:
    """Group normalization of values x [B, H, W, C].

    With N values in a group, sum S and sum of squares Q: ``V = N * Q - S**2 + epsilon`` (``epsilon`` is N**2 times that
    of the float layer in input steps squared) and the slope ``a = N * gain / sqrt(V)`` per channel in output per input
    steps; the result is ``a * (x - S / N) + offset``, rounded once. ``gain`` int32 [B, C] or [C], below 2**21, counts
    output steps per standard deviation in ``2**-gain_bits``; ``offset`` int64 counts output steps in ``2**-20``. N is at most
    2**17 - 1.

    The slope has 20 fraction bits and saturates at 2**15, where an input step is worth the whole output range. Within one
    step of the float result while ``a`` is at most 2**11; beyond, the rounding of the mean (2**-13 steps) shows.
    """
    x = np.asarray(x, np.int64)
    batch, height, width, channels = x.shape
    count = height * width * channels // groups
    members = x.reshape(batch, height * width, groups, channels // groups)
    total = members.sum(axis=(1, 3))
    squares = (members * members).sum(axis=(1, 3))
    root, half_exponent = norm_root(count, total, squares, epsilon)
    reciprocal = (1 << RECIPROCAL_BITS) // count
    mean = round_shift(total * reciprocal, RECIPROCAL_BITS - MEAN_BITS)

    group_of_channel = np.repeat(np.arange(groups), channels // groups)
    shift = lut.RSQRT_ENTRY_BITS + half_exponent + gain_bits - SLOPE_BITS
    slope = round_shift(count * root[:, group_of_channel] * gain.astype(np.int64), shift[:, group_of_channel])
    slope = saturate(slope, (-LARGEST_SLOPE, LARGEST_SLOPE))
    intercept = offset.astype(np.int64) - round_shift(mean[:, group_of_channel] * slope, MEAN_BITS)
    y = round_shift(x * slope[:, None, None] + intercept[:, None, None], SLOPE_BITS)
    return saturate(y, VALUE_RANGE)


def norm_root(count: int, total: np.ndarray, squares: np.ndarray, epsilon: int) -> tuple[np.ndarray, np.ndarray]:
    """:func:`reciprocal_square_root` of ``V = count * squares - total**2 + epsilon``.

    From more than 2**16 values on V may have 64 bits; then it is that of V / 4, cut, whose half exponent is one less.
    """
    spread = squares.astype(np.uint64) * np.uint64(count) - (total * total).astype(
        np.uint64
    )  # below 2**64, never negative
    if count <= NARROW_NORM:
        return reciprocal_square_root(spread.astype(np.int64) + epsilon)
    quarter = (spread >> np.uint64(2)).astype(np.int64) + ((epsilon + 3) >> 2)
    root, half_exponent = reciprocal_square_root(quarter)
    return root, half_exponent + 1


def layer_norm(x: np.ndarray, gain: np.ndarray, offset: np.ndarray, gain_bits: int, epsilon: int) -> np.ndarray:
    """:func:`group_norm` of every pixel's channels alone: x [B, H, W, C], gain and offset [B, C]."""
    batch, height, width, channels = x.shape
    pixels = height * width
    rows = group_norm(
        x.reshape(batch * pixels, 1, 1, channels),
        1,
        gain.repeat(pixels, axis=0),
        offset.repeat(pixels, axis=0),
        gain_bits,
        epsilon,
    )
    return rows.reshape(x.shape)


ROW_RECIPROCAL_BITS, ROW_BITS = 37, 31
SHARE_BITS = 5  # of the fractions of a softmax's codes before they are rounded


def softmax(x: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Softmax of logits x over the last axis, before it is divided by its sum: codes 0..127, a row's largest one 127.

    ``multiplier / 2**shift`` turns a logit step into a power of two in steps of 2**-12. A code says what share of the row's
    largest probability it is, so that flat rows have as many levels as peaked ones: with one scale for all rows of a tensor,
    which the peaked ones choose, the codes of flat rows are 0 or 1. Rows are divided by their sums after the product with V
    (as in FlashAttention, Dao et al. 2022): see :func:`row_multipliers`. Codes stop at 127 so that an 8-bit signed weight
    port takes them.

    Codes are rounded by ordered dithering (Bayer 1973), each key by a threshold of its own that never changes: see
    :func:`rounding_thresholds`. Small shares are many: were all below half a code 0, their sum would be missing. A code is
    less than one from the exact share.
    """
    x = np.asarray(x, np.int64)
    shares = softmax_shares(x.max(axis=-1, keepdims=True) - x, multiplier, shift)
    return (shares + rounding_thresholds(x.shape[-1])) >> SHARE_BITS


def softmax_shares(distance: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Of logits ``distance`` below their row's largest one: 127 times the share of its probability, in 32nds, cut."""
    exponent = round_shift(distance * int(multiplier), shift)
    whole, fraction = exponent >> lut.EXP_FRACTION_BITS, exponent & ((1 << lut.EXP_FRACTION_BITS) - 1)
    entry = interpolate(lut.EXP2_NEGATIVE, fraction, lut.EXP_STEP_BITS)
    return (entry * CODE_RANGE[1]) >> (lut.EXP_ENTRY_BITS - SHARE_BITS + np.minimum(whole, 31))


def rounding_thresholds(keys: int) -> np.ndarray:
    """What is added to a key's share before it is cut, int64 [keys], in 32nds of a code: 1, 17, 9, 25, ... 31, and again.

    Of 16 keys that follow each other every odd number of 32nds is one's; those of any few are spread evenly.
    """
    position = np.arange(keys) % 16
    bits = [(position >> bit & 1) << (SHARE_BITS - 1 - bit) for bit in range(SHARE_BITS - 1)]
    return np.sum(bits, axis=0) + 1


def row_multipliers(p: np.ndarray, multiplier: int) -> np.ndarray:
    """What each row of codes p [..., keys] of a softmax is requantized with after the product with V: [..., 1].

    The product's result is a weighted mean: accumulators divided by the sum of the row's codes. One integer division per row
    gives ``2**37 / sum``, and ``multiplier`` times that, in 2**-31, takes the multiplier's place; its relative error is below
    ``sum / 2**36``, at most 2**-17 of 4,096 keys. No sum is below 127, the row's largest code: one that is counts as 127.
    """
    total = np.maximum(np.asarray(p, np.int64).sum(axis=-1, keepdims=True), CODE_RANGE[1])
    return round_shift(int(multiplier) * ((1 << ROW_RECIPROCAL_BITS) // total), ROW_BITS)


def average_pool(x: np.ndarray, size: int, multiplier: int, shift: int) -> np.ndarray:
    """Windowed sums of values, times ``multiplier / 2**shift``; rows and columns that fill no window are dropped."""
    x = np.asarray(x, np.int64)
    batch, height, width, channels = x.shape
    x = x[:, : height // size * size, : width // size * size]
    total = x.reshape(batch, height // size, size, width // size, size, channels).sum(axis=(2, 4))
    return requantize(total, multiplier, shift, VALUE_RANGE)


@dataclass
class History:
    """What temporal differences keep between steps: operand codes and accumulators of every linear node."""

    operands: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    accumulators: dict[str, np.ndarray] = field(default_factory=dict)


class Interpreter:
    """Runs an integer graph step by step. One instance holds the history of one batch."""

    def __init__(self, graph: Graph, tables: Tables):
        self.graph = graph
        self.tables = tables
        self.history = History()

    def reset(self) -> None:
        """Forget the history: the next step has no previous one."""
        self.history = History()

    def step(
        self,
        codes: np.ndarray,
        step: int,
        labels: np.ndarray | None = None,
        references: Mapping[str, Reference] | Reference = Reference.ZERO,
        context: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """One denoising step: input codes int8 [B, H, W, C] -> every tensor of the graph, by name.

        ``labels`` int [B] (default: zeros) selects rows of conditional tables. ``references`` says, per linear node (default:
        zero) or for all, what its operand is subtracted from. ValueError for a previous step that a node has not run.
        ``context``: codes of the graph's second input, if it has one.
        """
        labels = np.zeros(len(codes), np.int64) if labels is None else np.asarray(labels)
        tensors = {self.graph.input: np.asarray(codes, np.int64)}
        if self.graph.context is not None:
            tensors[self.graph.context] = np.asarray(context, np.int64)
        for name in self.graph.constants:
            value = np.asarray(self.tables[f"{name}.value"], np.int64)
            tensors[name] = np.broadcast_to(value, (len(codes), *value.shape))
        for node in self.graph.nodes:
            chosen = references if isinstance(references, Reference) else references.get(node.name, Reference.ZERO)
            operands = tuple(tensors[name] for name in node.inputs)
            tensors[node.name] = self._run(node, operands, step, labels, chosen)
        return tensors

    def _run(
        self, node: Node, operands: tuple[np.ndarray, ...], step: int, labels: np.ndarray, chosen: Reference
    ) -> np.ndarray:
        group = self.graph.group_of_step[step]

        def table(name: str) -> np.ndarray:
            return self.tables[f"{node.name}.{name}"]

        def row(name: str, conditional: bool = False) -> np.ndarray:
            return table(name)[step][labels] if conditional else table(name)[group]

        def scalar(name: str) -> int:
            return int(table(name)[group])

        x = operands[0]
        if isinstance(node, (Convolution, MatMul)):
            accumulators = self._accumulate(node, operands, chosen)
            if isinstance(node, Convolution):
                bias = row("bias", node.conditional).astype(np.int64)
                accumulators = accumulators + (bias[:, None, None] if node.conditional else bias)
            low, high = LIMITS[self.graph.tensors[node.name].kind]
            limits = (0 if isinstance(node, Convolution) and node.relu else low, high)
            multiplier = row("multiplier", isinstance(node, Convolution) and node.gated)
            if isinstance(node, MatMul) and not node.scores:
                multiplier = self._mix_multipliers(node, x, int(multiplier))
            elif multiplier.ndim == 2:  # per sample
                multiplier = multiplier[:, None, None]
            return requantize(accumulators, multiplier, row("shift"), limits)
        if isinstance(node, Quantize) and node.fine:
            return quantize_in_two_parts(x, scalar("multiplier"), scalar("shift"))
        if isinstance(node, Quantize):
            return requantize(x, row("multiplier"), row("shift"), CODE_RANGE)
        if isinstance(node, Add):
            weights = row("multiplier").astype(np.int64)
            total = sum(operand * weight for operand, weight in zip(operands, weights, strict=True))
            return saturate(round_shift(np.asarray(total), row("shift")), VALUE_RANGE)
        if isinstance(node, Multiply):
            return multiply(operands[0], operands[1], scalar("multiplier"), scalar("shift"))
        if isinstance(node, (GroupNorm, LayerNorm)):
            gain, offset = row("gain", node.conditional), row("offset", node.conditional)
            gain, offset = np.broadcast_to(gain, (len(x), x.shape[3])), np.broadcast_to(offset, (len(x), x.shape[3]))
            if isinstance(node, LayerNorm):
                return layer_norm(x, gain, offset, scalar("gain_bits"), scalar("epsilon"))
            return group_norm(x, node.groups, gain, offset, scalar("gain_bits"), scalar("epsilon"))
        if isinstance(node, SiLU):
            return silu(x, node.fraction_bits)
        if isinstance(node, GELU):
            return gelu(x, node.fraction_bits)
        if isinstance(node, ReLU):
            return relu(x)
        if isinstance(node, Softmax):
            return softmax(x, scalar("multiplier"), scalar("shift"))
        if isinstance(node, Upsample):
            rows, columns, _ = self.graph.tensors[node.name].shape
            return x.repeat(node.factor, axis=1)[:, :rows].repeat(node.factor, axis=2)[:, :, :columns]
        if isinstance(node, AveragePool):
            return average_pool(x, node.size, scalar("multiplier"), scalar("shift"))
        if isinstance(node, Concat):
            return np.concatenate(operands, axis=3)
        raise ValueError(f"{node.name}: the reference has no operator {type(node).__name__}")

    def _mix_multipliers(self, node: MatMul, p: np.ndarray, multiplier: int) -> np.ndarray:
        """Of every result [B, height, width, C] of ``node``: that of its query's row."""
        depth = self.graph.tensors[node.name].shape[2] // node.heads
        rows = np.repeat(row_multipliers(p, multiplier), depth, axis=3)
        return join_heads(rows, node.heads, node.windows, node.interleaved).reshape(len(p), *node.image, -1)

    def _accumulate(self, node: Node, operands: tuple[np.ndarray, ...], chosen: Reference) -> np.ndarray:
        """``acc = acc_ref + W . (q - q_ref)`` (DESIGN section 2)."""
        if chosen == Reference.PREVIOUS_STEP:
            accumulators = self._accumulate_differences(node, operands)
        elif chosen == Reference.NEIGHBOUR:
            accumulators = self._accumulate_in_chains(node, operands)
        elif chosen == Reference.ZERO:
            accumulators = self._multiply(node, operands)
        else:
            raise ValueError(f"{node.name}: found reference {chosen!r}, expected what Defo has decided for")
        if np.any(accumulators != saturate(accumulators, ACCUMULATOR_RANGE)):
            raise OverflowError(f"{node.name}: an accumulator left int32; quantize the model again")
        self.history.operands[node.name] = operands
        self.history.accumulators[node.name] = accumulators
        return accumulators

    def _accumulate_differences(self, node: Node, operands: tuple[np.ndarray, ...]) -> np.ndarray:
        previous = self.history.operands.get(node.name)
        if previous is None:
            raise ValueError(
                f"{node.name}: there is no previous step to refer to; run a step with another reference first"
            )
        accumulators = self.history.accumulators[node.name]
        if isinstance(node, Convolution):
            return accumulators + self._multiply(node, (operands[0] - previous[0],))
        # two sub-operations: dA . B_prev + A . dB
        accumulators = accumulators + self._multiply(node, (operands[0] - previous[0], previous[1]))
        return accumulators + self._multiply(node, (operands[0], operands[1] - previous[1]))

    def _accumulate_in_chains(self, node: Node, operands: tuple[np.ndarray, ...]) -> np.ndarray:
        """Every output pixel of a row from the one before it, every token from the one before it (:mod:`.spatial`)."""
        if isinstance(node, MatMul):
            windows = (node.heads, node.windows, node.interleaved)
            rows = split_heads(operands[0], *windows) if node.scores else operands[0]
            columns = split_heads(operands[1], *windows)
            differences = np.diff(rows, axis=2, prepend=0)  # [B, windows * heads, queries, ...]
            sums = (differences @ (columns.swapaxes(2, 3) if node.scores else columns)).cumsum(axis=2)
            return sums if node.scores else join_heads(sums, *windows).reshape(len(sums), *node.image, -1)
        assert isinstance(node, Convolution)
        (codes,), weight = operands, self.tables[f"{node.name}.weight"]
        top, bottom, left, right = node.padding
        chains = chains_of(
            node.kernel, node.stride, node.padding, codes.shape[2], self.graph.tensors[node.name].shape[1]
        )
        wide, before = with_neighbours(codes, dataclasses.replace(chains, whole_block=False), 1)
        lead = chains.lead_columns * node.stride[1]
        sums = convolve(wide - before, weight, node.stride, (top, bottom, left + lead, right)).cumsum(axis=2)
        return sums[:, :, chains.lead_columns :][:, :, : self.graph.tensors[node.name].shape[1]]

    def _multiply(self, node: Node, operands: tuple[np.ndarray, ...]) -> np.ndarray:
        if isinstance(node, Convolution):
            return convolve(operands[0], self.tables[f"{node.name}.weight"], node.stride, node.padding)
        assert isinstance(node, MatMul)
        windows = (node.heads, node.windows, node.interleaved)
        if node.scores:
            return attention_scores(operands[0], operands[1], *windows)
        mixed = attention_mix(operands[0], operands[1], *windows)
        return mixed.reshape(len(mixed), *node.image, -1)
