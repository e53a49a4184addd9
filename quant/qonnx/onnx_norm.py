"""The contract's normalization of one sample, as an ONNX graph on int64 (:func:`...hls.contract.operators.norm.group_norm`)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...hls.contract import operators
from ...hls.contract import tables as lut
from ...hls.contract.arithmetic import MAX_SHIFT, VALUE_RANGE
from .onnx_builder import NodeBuilder

HALF_EXPONENTS = np.arange(32)  # of int64


def norm_graph(
    name: str,
    shape: tuple[int, int, int],
    over_pixels: bool,
    gain: np.ndarray,
    offset: np.ndarray,
    gain_bits: int,
    epsilon: int,
) -> onnx.GraphProto:
    """Values int64 [pixels, groups, channels of a group] -> the same, normalized per group, and per pixel unless
    ``over_pixels``. ``gain`` and ``offset``: int64 [groups, channels of a group]. OverflowError for too large groups."""
    return _Norm(f"{name}/norm").graph(shape, over_pixels, gain, offset, gain_bits, epsilon)


class _Norm(NodeBuilder):
    def graph(
        self,
        shape: tuple[int, int, int],
        over_pixels: bool,
        gain: np.ndarray,
        offset: np.ndarray,
        gain_bits: int,
        epsilon: int,
    ) -> onnx.GraphProto:
        count = shape[2] * (shape[0] if over_pixels else 1)
        if count > operators.norm.NARROW_NORM:
            most = operators.norm.NARROW_NORM
            raise OverflowError(f"a norm group of {count} values needs uint64 products; up to {most} have a form")
        axes, members = self.constant([0, 2] if over_pixels else [2]), f"{self.scope}/members"
        total = self.op("ReduceSum", members, axes, keepdims=1)
        squares = self.op("ReduceSum", self.op("Mul", members, members), axes, keepdims=1)
        spread = self.op("Sub", self.op("Mul", squares, self.constant(count)), self.op("Mul", total, total))
        root, half_exponent = self.root(self.op("Add", spread, self.constant(epsilon)))
        mean = self.op("Mul", total, self.constant((1 << operators.norm.RECIPROCAL_BITS) // count))
        mean = self.round_shift(mean, operators.norm.RECIPROCAL_BITS - operators.norm.MEAN_BITS)
        fixed = lut.RSQRT_ENTRY_BITS + gain_bits - operators.norm.SLOPE_BITS
        shifts = np.minimum(fixed + HALF_EXPONENTS, MAX_SHIFT)  # by the largest every slope is 0, as by more
        scaled = self.op("Mul", root, self.constant(count * gain))
        rounded = self.op("Add", scaled, self.power_of_two(shifts - 1, half_exponent))
        limit = operators.norm.LARGEST_SLOPE
        slope = self.clip(self.floor_divide(rounded, self.power_of_two(shifts, half_exponent)), (-limit, limit))
        moved = self.round_shift(self.op("Mul", mean, slope), operators.norm.MEAN_BITS)
        line = self.op("Add", self.op("Mul", members, slope), self.op("Sub", self.constant(offset), moved))
        result = self.clip(self.round_shift(line, operators.norm.SLOPE_BITS), VALUE_RANGE)
        given, found = (helper.make_tensor_value_info(each, TensorProto.INT64, shape) for each in (members, result))
        return helper.make_graph(self.nodes, self.scope, [given], [found], list(self.initializers.values()))

    def root(self, v: str) -> tuple[str, str]:
        """:func:`operators.norm.reciprocal_square_root`."""
        scale, step_bits = lut.RSQRT_MANTISSA_BITS, lut.RSQRT_STEP_BITS
        reached = self.op("GreaterOrEqual", v, self.constant(np.int64(1) << 2 * HALF_EXPONENTS[1:]))
        exponent = self.op("ReduceSum", self.cast(reached, TensorProto.INT64), self.constant([2]), keepdims=1)
        wide = self.op("Mul", v, self.power_of_two(np.maximum(scale - 2 * HALF_EXPONENTS, 0), exponent))
        mantissa = self.op("Div", wide, self.power_of_two(np.maximum(2 * HALF_EXPONENTS - scale, 0), exponent))
        step = self.constant(1 << step_bits)
        index = self.op("Sub", self.op("Div", mantissa, step), self.constant(1 << scale - step_bits))
        knots = lut.RECIPROCAL_SQUARE_ROOT.astype(np.int64)
        starts = (knots[:-1] << step_bits) + (1 << step_bits - 1)  # and half, to round
        rise = self.op("Mul", self.lookup(np.diff(knots), index), self.op("Mod", mantissa, step))
        return self.op("Div", self.op("Add", self.lookup(starts, index), rise), step), exponent

    def power_of_two(self, exponents: np.ndarray, index: str) -> str:
        """``2**exponents[index]``."""
        return self.lookup(np.int64(1) << exponents, index)
