"""Group and layer normalization."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.limits import LARGEST_EPSILON, LARGEST_GAIN, LARGEST_OFFSET, MOST_GAIN_BITS, MOST_NORM_PIXELS
from .. import tables as lut
from ..arithmetic import VALUE_RANGE, round_shift, saturate
from ..table_rule import INT32, INT64, TableRule
from ..tables import interpolate
from ..tensor import Shape, Size, Tensor
from .node import Node, Operands, StepTables, TableAxes

MEAN_BITS = 12
RECIPROCAL_BITS = 42
SLOPE_BITS = 20
LARGEST_SLOPE = (1 << 35) - 1
SMALL_NORM = 1 << 16  # values in a group, up to which sums of products fit 63 bits
LARGEST_NORM = (1 << 17) - 1


class Norm(Node):
    """Base of both. Tables: gain, offset, gain_bits, epsilon."""

    conditional: bool  # gain and offset are [steps, labels, channels]

    @abstractmethod
    def members(self, shape: Shape) -> tuple[int, int]:
        """Pixels, and channels, of a result of ``shape`` that are normalized together."""

    def count(self, shape: Shape) -> int:
        """Values that are normalized together; ValueError where their sums do not fit."""
        pixels, channels = self.members(shape)
        count = pixels * channels
        if count > LARGEST_NORM or pixels > MOST_NORM_PIXELS:
            raise ValueError(
                f"{self.name}: found {count} elements in a norm group, of {pixels} pixels, expected at most {LARGEST_NORM} of "
                f"{MOST_NORM_PIXELS}"
            )
        return count

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        self.count(output.shape)
        rows, of_group = axes.rows(self.conditional, output.shape[2]), (axes.groups,)
        return {
            "gain": TableRule((INT32,), rows, -LARGEST_GAIN, LARGEST_GAIN),
            "offset": TableRule((INT32, INT64), rows, -LARGEST_OFFSET, LARGEST_OFFSET),
            "gain_bits": TableRule((INT32,), of_group, 0, MOST_GAIN_BITS),
            "epsilon": TableRule((INT64,), of_group, 1, LARGEST_EPSILON),
        }

    @property
    def depends_on_step(self) -> bool:
        return self.conditional

    def affine(self, operands: Operands, tables: StepTables) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Gain and offset [B, C], bits of the gain and epsilon."""
        shape = len(operands[0]), operands[0].shape[3]
        gain, offset = (np.broadcast_to(tables.row(name, self.conditional), shape) for name in ("gain", "offset"))
        return gain, offset, tables.scalar("gain_bits"), tables.scalar("epsilon")


@dataclass(frozen=True)
class GroupNorm(Norm):
    """Group normalization. Tables: gain, offset, gain_bits, epsilon."""

    groups: Size = 1
    conditional: bool = False

    def output_shape(self, inputs: Sequence[Tensor], channels: int) -> tuple[int, int, int]:
        depth = inputs[0].shape[2]
        if depth % self.groups:
            raise ValueError(f"{self.name}: {depth} channels cannot be cut into {self.groups} groups")
        return super().output_shape(inputs, channels)

    def members(self, shape: Shape) -> tuple[int, int]:
        height, width, channels = shape
        return height * width, channels // self.groups

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return group_norm(operands[0], self.groups, *self.affine(operands, tables))


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Normalization of the channels of every pixel or token. Tables as GroupNorm."""

    conditional: bool = False

    def members(self, shape: Shape) -> tuple[int, int]:
        return 1, shape[2]

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return layer_norm(operands[0], *self.affine(operands, tables))


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
    if count <= SMALL_NORM:
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


OPERATORS = (GroupNorm, LayerNorm)
