"""Group and layer normalization."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from ...hls.common.limits import LARGEST_EPSILON, LARGEST_GAIN
from ...hls.contract import tables as lut
from ...hls.contract.arithmetic import MAX_SHIFT, VALUE_RANGE
from ...hls.contract.graph import Graph
from ...hls.contract.layout import HEIGHT, WIDTH, image_layout
from ...hls.contract.operators import GroupNorm, LayerNorm, Node, Norm
from ...hls.contract.operators.norm import LARGEST_SLOPE, MEAN_BITS, RECIPROCAL_BITS, SLOPE_BITS, SMALL_NORM
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.lowering import Lowering
from ..builders.onnx_nodes import INT64, Body, NodeBuilder
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Traced, argument, module_path
from ..builders.translation import Handler, Translation
from ..common.unsupported import UnsupportedOperator
from .operator import ConditionedOperator, Operator

GAIN_BITS = 21  # of a GroupNorm's gain: with 2**16 elements and a 23-bit root the product fits int64
MARGIN = 1 + 1e-9  # for the rounding of quotients
HALF_EXPONENTS = np.arange(32)  # of int64
AnyNorm = TypeVar("AnyNorm", GroupNorm, LayerNorm)


def _group_norm(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    groups = argument(node, 1, "num_groups", None)
    height, width, channels = translation.builder.tensors[source.name].shape
    axes = image_layout(translation.batch, height, width, channels)
    spatial = tuple(part for axis in source.layout[2:] for part in axis)
    if source.layout[:2] != axes[:2] or {part.axis for part in spatial} - {HEIGHT, WIDTH}:
        raise ValueError(f"found axes {source.layout}, expected (batch, channel, pixels)")
    norm = GroupNorm(module_path(node), module_path(node), (source.name,), groups=groups)
    return _normalize(translation, node, source, norm)


def _layer_norm(translation: Translation, node: fx.Node) -> Traced:
    source = translation.operand(node.args[0])
    channels = translation.builder.tensors[source.name].shape[2]
    if source.layout[-1] != image_layout(1, 1, 1, channels)[1] or list(node.args[1]) != [channels]:  # type: ignore[call-overload, arg-type]
        raise ValueError(f"found axes {source.layout} normalized over {node.args[1]}, expected all {channels} channels")
    norm = LayerNorm(module_path(node), module_path(node), (source.name,))
    return _normalize(translation, node, source, norm)


def _normalize(translation: Translation, node: fx.Node, source: Traced, norm: Norm) -> Traced:
    """PyTorch's two norms have their affine and epsilon as arguments from the third one on."""
    parameters, channels = translation.builder.parameters, translation.builder.tensors[source.name].shape[2]
    name = translation.builder.add(norm, VALUE)
    gain, offset = (
        translation.constant(argument(node, position, key, None)) for position, key in ((2, "weight"), (3, "bias"))
    )
    parameters[f"{name}.gain"] = torch.ones(channels) if gain is None else gain
    parameters[f"{name}.offset"] = torch.zeros(channels) if offset is None else offset
    parameters[f"{name}.epsilon"] = torch.tensor(argument(node, 4, "eps", 1e-5), dtype=torch.float64)
    return Traced(name, source.layout)


class NormOperator(ConditionedOperator[AnyNorm]):
    """Parameters: gain and offset [C] or [steps, labels, C], epsilon."""

    scaled = ("gain", "offset")
    over_pixels: ClassVar[bool]
    """Whether all pixels of a sample are normalized together."""

    @abstractmethod
    def normal(self, node: AnyNorm, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``x`` [B, C, H, W] with mean 0 and deviation 1, per sample and group."""

    @abstractmethod
    def groups(self, node: AnyNorm) -> int:
        """How many groups of channels are normalized, each alone."""

    def conditioned(self, node: AnyNorm, operations: Sequence[str]) -> AnyNorm:
        return dataclasses.replace(node, conditional=True)

    def folded(
        self,
        node: AnyNorm,
        parameters: Mapping[str, torch.Tensor],
        terms: Sequence[tuple[str, torch.Tensor]],
        shape: tuple[int, ...],
    ) -> dict[str, torch.Tensor]:
        gain, offset = (parameters[f"{node.name}.{key}"].expand(shape) for key in ("gain", "offset"))
        for operation, value in terms:
            if operation == "multiply":
                gain, offset = gain * value, offset * value
            else:
                offset = offset + value
        return {f"{node.name}.gain": gain, f"{node.name}.offset": offset}

    def row_bytes(self, node: AnyNorm) -> int:
        """An int32 gain and an int64 offset; some offsets fit half of that."""
        return 12 * node.conditional

    def run(self, node: AnyNorm, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        gain, offset = (step.row(name, node.conditional) for name in ("gain", "offset"))
        return self.normal(node, inputs[0], step.number("epsilon")) * gain + offset

    def check(self, node: AnyNorm, graph: Graph, shared: Set[str]) -> None:
        try:
            node.count(graph.tensors[node.name].shape)
        except ValueError as error:
            raise UnsupportedOperator(str(error)) from error

    def least_scales(
        self, node: AnyNorm, graph: Graph, parameters: Mapping[str, torch.Tensor]
    ) -> Iterator[tuple[str, float]]:
        """The ones with which epsilon and gain are integers."""
        epsilon, count = float(parameters[f"{node.name}.epsilon"]), node.count(graph.tensors[node.name].shape)
        yield node.inputs[0], MARGIN * count * (epsilon / LARGEST_EPSILON) ** 0.5
        yield node.name, MARGIN * float(parameters[f"{node.name}.gain"].abs().max()) / LARGEST_GAIN

    def lower(self, node: AnyNorm, lowering: Lowering) -> None:
        count = node.count(lowering.graph.tensors[node.name].shape)
        input_scale = lowering.scales[node.inputs[0]]
        output_scale = lowering.rows(lowering.scales[node.name], node.conditional)
        gain = lowering.parameter(node, "gain") / output_scale
        offset = lowering.parameter(node, "offset") / output_scale

        gain_bits = gain_fraction_bits(_largest_per_group(node, gain, lowering.graph))
        if gain_bits.min() < 0:
            raise UnsupportedOperator(f"{node.name}: a gain of {np.abs(gain).max():g} steps per deviation is too large")
        lowering.put(node, "gain", np.rint(gain * 2.0 ** lowering.rows(gain_bits, node.conditional)), np.int32)
        offsets = np.rint(offset * 2.0**SLOPE_BITS)
        lowering.put(node, "offset", offsets, np.int32 if np.abs(offsets).max() < 2**31 else np.int64)
        lowering.put(node, "gain_bits", gain_bits, np.int32)
        epsilon = lowering.parameter(node, "epsilon")
        lowering.put(node, "epsilon", np.maximum(1, np.rint(epsilon * (count / input_scale) ** 2)), np.int64)

    def qonnx(self, node: AnyNorm, inputs: Sequence[str], step: QonnxStep) -> str:
        """One node, which runs a graph of its own on every sample: those of all norms would be half of the model."""
        height, width, channels = step.graph.tensors[node.name].shape
        shape: tuple[int, int, int] = (height * width, self.groups(node), channels // self.groups(node))
        build = NodeBuilder(f"{node.name}/norm")
        given = f"{build.home}/members"
        body = Body(build, given, self._integers(node, build, given, shape, step), shape)
        members = step.reshape(inputs[0], (step.batch, *shape))
        found = step.op("Scan", members, body=body, num_scan_inputs=1)
        return step.reshape(found, (step.batch, height, width, channels))

    def _integers(
        self, node: AnyNorm, build: NodeBuilder, members: str, shape: tuple[int, int, int], step: QonnxStep
    ) -> str:
        """The contract's ``group_norm`` of one sample: int64 [pixels, groups, channels of a group]."""
        count = shape[2] * (shape[0] if self.over_pixels else 1)
        if count > SMALL_NORM:
            raise UnsupportedOperator(
                f"{node.name}: a norm group of {count} values needs uint64 products; up to {SMALL_NORM} have a form"
            )
        gain, offset = (step.table(node, name, node.conditional).reshape(shape[1:]) for name in ("gain", "offset"))
        axes = build.constant([0, 2] if self.over_pixels else [2])
        total = build.op("ReduceSum", members, axes, keepdims=1)
        squares = build.op("ReduceSum", build.op("Mul", members, members), axes, keepdims=1)
        spread = build.op("Sub", build.op("Mul", squares, build.constant(count)), build.op("Mul", total, total))
        root, half_exponent = _root(build, build.op("Add", spread, build.constant(step.number(node, "epsilon"))))
        mean = build.op("Mul", total, build.constant((1 << RECIPROCAL_BITS) // count))
        mean = build.round_shift(mean, RECIPROCAL_BITS - MEAN_BITS)
        fixed = lut.RSQRT_ENTRY_BITS + step.number(node, "gain_bits") - SLOPE_BITS
        shifts = np.minimum(fixed + HALF_EXPONENTS, MAX_SHIFT)  # by the largest every slope is 0, as by more
        scaled = build.op("Mul", root, build.constant(count * gain))
        rounded = build.op("Add", scaled, _power_of_two(build, shifts - 1, half_exponent))
        slope = build.floor_divide(rounded, _power_of_two(build, shifts, half_exponent))
        slope = build.clip(slope, (-LARGEST_SLOPE, LARGEST_SLOPE))
        moved = build.round_shift(build.op("Mul", mean, slope), MEAN_BITS)
        line = build.op("Add", build.op("Mul", members, slope), build.op("Sub", build.constant(offset), moved))
        return build.clip(build.round_shift(line, SLOPE_BITS), VALUE_RANGE)


class GroupNormOperator(NormOperator[GroupNorm]):
    """Every sample's pixels together, in groups of channels."""

    over_pixels = True

    def normal(self, node: GroupNorm, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        return F.group_norm(x, node.groups, eps=epsilon)

    def groups(self, node: GroupNorm) -> int:
        return node.groups


class LayerNormOperator(NormOperator[LayerNorm]):
    """Every pixel alone, all of its channels."""

    over_pixels = False

    def normal(self, node: LayerNorm, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        return F.layer_norm(x.movedim(1, 3), x.shape[1:2], eps=epsilon).movedim(3, 1)

    def groups(self, node: LayerNorm) -> int:
        return 1


def gain_fraction_bits(largest: np.ndarray) -> np.ndarray:
    """Fraction bits of a norm's gains of at most ``largest``: 21 bits in all, few enough for the slope's shift."""
    exponents = np.frexp(np.maximum(largest, 2.0**-20))[1].astype(np.int64)  # smallest e with x < 2**e
    return np.minimum(GAIN_BITS - exponents, 28)


def _largest_per_group(node: Norm, gain: np.ndarray, graph: Graph) -> np.ndarray:
    """Largest magnitudes [groups] of gains [groups, C] or [steps, labels, C]."""
    largest = np.abs(gain).reshape(len(gain), -1).max(axis=1)
    if node.conditional:
        of_step = np.array(graph.group_of_step)
        largest = np.array([largest[of_step == group].max() for group in range(graph.groups)])
    return largest


def _root(build: NodeBuilder, v: str) -> tuple[str, str]:
    """The contract's ``reciprocal_square_root``."""
    scale, step_bits = lut.RSQRT_MANTISSA_BITS, lut.RSQRT_STEP_BITS
    reached = build.op("GreaterOrEqual", v, build.constant(np.int64(1) << 2 * HALF_EXPONENTS[1:]))
    exponent = build.op("ReduceSum", build.cast(reached, INT64), build.constant([2]), keepdims=1)
    wide = build.op("Mul", v, _power_of_two(build, np.maximum(scale - 2 * HALF_EXPONENTS, 0), exponent))
    mantissa = build.op("Div", wide, _power_of_two(build, np.maximum(2 * HALF_EXPONENTS - scale, 0), exponent))
    step = build.constant(1 << step_bits)
    index = build.op("Sub", build.op("Div", mantissa, step), build.constant(1 << scale - step_bits))
    knots = lut.RECIPROCAL_SQUARE_ROOT.astype(np.int64)
    starts = (knots[:-1] << step_bits) + (1 << step_bits - 1)  # and half, to round
    rise = build.op("Mul", build.lookup(np.diff(knots), index), build.op("Mod", mantissa, step))
    return build.op("Div", build.op("Add", build.lookup(starts, index), rise), step), exponent


def _power_of_two(build: NodeBuilder, exponents: np.ndarray, index: str) -> str:
    """``2**exponents[index]``."""
    return build.lookup(np.int64(1) << exponents, index)


OPERATORS: dict[type[Node], Operator[Any]] = {GroupNorm: GroupNormOperator(), LayerNorm: LayerNormOperator()}
HANDLERS: dict[str, Handler] = {"aten.group_norm": _group_norm, "aten.layer_norm": _layer_norm}
