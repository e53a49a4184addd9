"""From a calibrated model to the integer tables of its graph (DESIGN section 3): every float constant becomes an integer here."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hls.contract.arithmetic import to_multiplier
from ...hls.contract.graph import Graph, check_graph, constant_tensors
from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Convolution,
    GroupNorm,
    LayerNorm,
    MatMul,
    Multiply,
    Node,
    Quantize,
    ReLU,
    SiLU,
    Softmax,
)
from ...hls.contract.operators.norm import SLOPE_BITS
from ...hls.contract.operators.softmax import ROW_BITS, ROW_RECIPROCAL_BITS
from ...hls.contract.tables import EXP_FRACTION_BITS, SILU_FRACTION_BITS
from ...hls.contract.tensor import VALUE
from ..trace.traced import UnsupportedOperator
from .calibration import MOVES, QuantizedNetwork
from .least_scales import least_scales, with_room_for_biases

HEADROOM = 2  # of int16 ranges over the largest magnitude seen in calibration, which other noise exceeds
GAIN_BITS = 21  # of a GroupNorm's gain: with 2**16 elements and a 23-bit root the product fits int64


@dataclass(frozen=True)
class IntegerModel:
    """``tables``: see :mod:`ditto_zynq.hls.contract.graph`; ``scales[tensor]`` float64 [groups]: real value of one step."""

    graph: Graph
    tables: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]


def check_lowering(graph: Graph) -> None:
    """UnsupportedOperator for a graph that has no integers whatever its numbers are, which is known before calibration."""
    tied = _tied_tensors(graph)
    sharing = Counter(tied.values())
    for node in graph.nodes:
        if isinstance(node, (GroupNorm, LayerNorm)):
            try:
                node.count(graph.tensors[node.name].shape)
            except ValueError as error:
                raise UnsupportedOperator(str(error)) from error
        elif isinstance(node, (SiLU, GELU)):
            for name in (node.inputs[0], node.name):
                if sharing[tied[name]] > 1:
                    raise UnsupportedOperator(
                        f"{name}: a tensor around an activation cannot share its scale with a concatenation"
                    )


def lower(model: QuantizedNetwork) -> IntegerModel:
    """Raises UnsupportedOperator where a layer does not fit the integers of the contract."""
    check_lowering(model.graph)
    graph, scales = _assign_scales(model)
    lowering = _Lowering(model, graph, scales)
    for name in graph.constants:
        lowering.constant(name)
    for node in graph.nodes:
        lowering.node(node)
    check_graph(graph)
    return IntegerModel(graph, lowering.tables, scales)


def _assign_scales(model: QuantizedNetwork) -> tuple[Graph, dict[str, np.ndarray]]:
    """Scales of all tensors: calibrated for codes; for values, common to what a concatenation or upsampling ties."""
    graph = model.graph
    tied = _tied_tensors(graph)
    largest: dict[str, np.ndarray] = {}
    for name, tensor in graph.tensors.items():
        if tensor.kind == VALUE:
            levels = model.scales(name).numpy() * 2**15
            root = tied[name]
            largest[root] = np.maximum(largest.get(root, 0.0), levels)
    for name, least in least_scales(graph, model.parameters_):
        largest[tied[name]] = np.maximum(largest[tied[name]], least * (2**15 - 1) / HEADROOM)
    scales = {
        name: HEADROOM * largest[tied[name]] / (2**15 - 1) if tensor.kind == VALUE else model.scales(name).numpy()
        for name, tensor in graph.tensors.items()
    }
    nodes = []
    for node in graph.nodes:
        if isinstance(node, (SiLU, GELU)):
            pair = (node.inputs[0], node.name)
            reach = HEADROOM * max(float(largest[tied[name]].max()) for name in pair)
            node = dataclasses.replace(node, fraction_bits=_fraction_bits(node, reach))
            for name in pair:
                scales[name] = np.full(graph.groups, 2.0**-node.fraction_bits)
        nodes.append(node)
    for name in constant_tensors(graph):  # measured once per step, so equal but for the rounding of sums
        scales[name] = np.full(graph.groups, scales[name].max())
    return dataclasses.replace(graph, nodes=tuple(nodes)), scales


def _fraction_bits(node: SiLU | GELU, reach: float) -> int:
    bits = min(SILU_FRACTION_BITS, math.floor(math.log2(2**15 / reach)))
    if bits < 1:
        raise UnsupportedOperator(
            f"{node.name}: values of {reach:g} leave no fraction bits in 16; the model has outliers"
        )
    return bits


def _tied_tensors(graph: Graph) -> dict[str, str]:
    """Representative of each tensor's set of tensors that must share one scale."""
    parent = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if isinstance(node, (*MOVES, ReLU)) and graph.tensors[node.name].kind == VALUE:
            for source in node.inputs:
                parent[find(source)] = find(node.name)
    return {name: find(name) for name in graph.tensors}


class _Lowering:
    def __init__(self, model: QuantizedNetwork, graph: Graph, scales: dict[str, np.ndarray]):
        self.model, self.graph, self.scales = model, graph, scales
        self.unchanging = constant_tensors(graph)
        self.tables: dict[str, np.ndarray] = {}

    def node(self, node: Node) -> None:
        if isinstance(node, Convolution):
            self._convolution(node)
        elif isinstance(node, MatMul):
            left, right = (self.scales[name] for name in node.inputs)
            product = left * right if node.scores else right * 2.0 ** (ROW_BITS - ROW_RECIPROCAL_BITS)
            self._multiplier(node, product * self._parameter(node, "factor") / self.scales[node.name])
        elif isinstance(node, Quantize):
            self._multiplier(node, self.scales[node.inputs[0]] / self.scales[node.name])
        elif isinstance(node, Add):
            operands = np.stack([self.scales[name] for name in node.inputs], axis=1)
            self._multiplier(node, operands * self._parameter(node, "factors") / self.scales[node.name][:, None])
        elif isinstance(node, Multiply):
            left, right = (self.scales[name] for name in node.inputs)
            self._multiplier(node, left * right * self._parameter(node, "factor") / self.scales[node.name])
        elif isinstance(node, AveragePool):
            self._multiplier(node, self.scales[node.inputs[0]] / node.size**2 / self.scales[node.name])
        elif isinstance(node, Softmax):
            self._multiplier(node, self.scales[node.inputs[0]] * math.log2(math.e) * 2**EXP_FRACTION_BITS)
        elif isinstance(node, (GroupNorm, LayerNorm)):
            self._norm(node)

    def constant(self, name: str) -> None:
        value = self.model.parameters_[f"{name}.value"].double().numpy()
        self.tables[f"{name}.value"] = np.rint(value / self.scales[name][0]).astype(np.int16)  # within HEADROOM

    def _parameter(self, node: Node, name: str) -> np.ndarray:
        return self.model.parameters_[f"{node.name}.{name}"].double().numpy()

    def _set(self, node: Node, name: str, values: np.ndarray, dtype: type) -> None:
        limits: Any = np.iinfo(dtype)
        if np.any(values < limits.min) or np.any(values > limits.max):
            raise UnsupportedOperator(
                f"{node.name}: {name} reaches {np.max(np.abs(values)):g}, more than {limits.dtype} holds"
            )
        self.tables[f"{node.name}.{name}"] = np.ascontiguousarray(values.astype(dtype))

    def _multiplier(self, node: Node, factors: np.ndarray) -> None:
        """``factors`` [groups, ...] as int32 mantissas with one shift per group."""
        rows = [to_multiplier(row) for row in factors]
        self._set(node, "multiplier", np.stack([mantissa for mantissa, _ in rows]), np.int32)
        self._set(node, "shift", np.array([shift for _, shift in rows]), np.int32)

    def _gates(self, node: Convolution, factors: np.ndarray) -> None:
        """Multipliers [steps, labels, C] with one shift per group; ``factors`` [groups, C] without the gates."""
        of_step = np.array(self.graph.group_of_step)
        gated = self._parameter(node, "gate") * factors[of_step][:, None]
        multiplier, shift = np.zeros(gated.shape, np.int32), np.zeros(self.graph.groups, np.int32)
        for group in range(self.graph.groups):
            multiplier[of_step == group], shift[group] = to_multiplier(gated[of_step == group])
        self._set(node, "multiplier", multiplier, np.int32)
        self._set(node, "shift", shift, np.int32)

    def _per_row(self, node: Convolution | GroupNorm | LayerNorm, per_group: np.ndarray) -> np.ndarray:
        """A [groups, ...] array in the rows of the node's tables: [groups, 1 or C] or [steps, 1, 1 or C]."""
        per_group = per_group.reshape(self.graph.groups, -1)
        return per_group[list(self.graph.group_of_step)][:, None] if node.conditional else per_group

    def _convolution(self, node: Convolution) -> None:
        layer = self.model.weights[node.name.replace(".", "/")]
        quantized = layer.quant_weight()  # type: ignore[operator,union-attr]
        weight = quantized.int(float_datatype=False).numpy()
        input_scale, output_scale = self.scales[node.inputs[0]], self.scales[node.name]
        accumulator_scale = input_scale[:, None] * quantized.scale.detach().double().numpy().reshape(-1)
        correction = self.model.correction[node.name].double().numpy()
        if node.name in self.unchanging:
            correction = np.broadcast_to(correction[:1], correction.shape)
        bias = self._parameter(node, "bias") + self._per_row(node, correction)
        weight, growth = with_room_for_biases(weight, bias / self._per_row(node, accumulator_scale))
        accumulator_scale = accumulator_scale * growth
        self._set(node, "weight", weight.transpose(0, 2, 3, 1), np.int8)
        self._set(node, "bias", np.rint(bias / self._per_row(node, accumulator_scale)), np.int32)
        factors = accumulator_scale / output_scale[:, None]
        if node.gated:
            self._gates(node, factors)
        else:
            self._multiplier(node, factors)

        try:
            node.check_tables(self.tables)
        except ValueError as error:
            raise UnsupportedOperator(str(error)) from error

    def _norm(self, node: GroupNorm | LayerNorm) -> None:
        count = node.count(self.graph.tensors[node.name].shape)
        epsilon = float(self.model.parameters_[f"{node.name}.epsilon"])
        input_scale, output_scale = self.scales[node.inputs[0]], self.scales[node.name]
        gain = self._parameter(node, "gain") / self._per_row(node, output_scale)
        offset = self._parameter(node, "offset") / self._per_row(node, output_scale)

        gain_bits = gain_fraction_bits(self._largest_per_group(node, gain))
        if gain_bits.min() < 0:
            raise UnsupportedOperator(f"{node.name}: a gain of {np.abs(gain).max():g} steps per deviation is too large")
        self._set(node, "gain", np.rint(gain * 2.0 ** self._per_row(node, gain_bits)), np.int32)
        offsets = np.rint(offset * 2.0**SLOPE_BITS)
        self._set(node, "offset", offsets, np.int32 if np.abs(offsets).max() < 2**31 else np.int64)
        self._set(node, "gain_bits", gain_bits, np.int32)
        self._set(node, "epsilon", np.maximum(1, np.rint(epsilon * (count / input_scale) ** 2)), np.int64)

    def _largest_per_group(self, node: GroupNorm | LayerNorm, gain: np.ndarray) -> np.ndarray:
        largest = np.abs(gain).reshape(len(gain), -1).max(axis=1)
        if node.conditional:
            of_step = np.array(self.graph.group_of_step)
            largest = np.array([largest[of_step == group].max() for group in range(self.graph.groups)])
        return largest


def gain_fraction_bits(largest: np.ndarray) -> np.ndarray:
    """Fraction bits of a GroupNorm's gains of at most ``largest``: 21 bits in all, few enough for the slope's shift."""
    return np.minimum(GAIN_BITS - _exponent(np.maximum(largest, 2.0**-20)), 28)


def _exponent(x: np.ndarray) -> np.ndarray:
    """Smallest integer e with x < 2**e."""
    return np.frexp(x)[1].astype(np.int64)
