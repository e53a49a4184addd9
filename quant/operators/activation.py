"""Activations, functions of one value: one entry of ACTIVATIONS for each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from ...hls.contract.arithmetic import VALUE_RANGE
from ...hls.contract.graph import Graph
from ...hls.contract.operators import GELU, Node, ReLU, SiLU, StepTables
from ...hls.contract.operators.activation import Mish
from ...hls.contract.tables import ACTIVATION_FRACTION_BITS
from ...hls.contract.tensor import VALUE, Tensor
from ..builders.float_step import FloatStep
from ..builders.qonnx_step import QonnxStep
from ..builders.traced import Traced, module_path
from ..builders.translation import Handler, Translation
from ..common.unsupported import UnsupportedOperator
from .operator import Operator

NO_TABLES = StepTables({}, "", 0, 0, np.zeros(0, np.int64))


@dataclass(frozen=True)
class Activation(Operator[Node]):
    """Nodes of ``kind``: ``function`` of one value, the aten operators ``aten``; named by module path and ``suffix``."""

    kind: type[Node]
    aten: tuple[str, ...]
    suffix: str
    function: Callable[[torch.Tensor], torch.Tensor]

    def translate(self, translation: Translation, node: fx.Node) -> Traced:
        source, path = translation.operand(node.args[0]), module_path(node)
        name = translation.builder.add(self.kind(f"{path}{self.suffix}", path, (source.name,)), VALUE)
        return Traced(name, source.layout)

    def run(self, node: Node, inputs: Sequence[torch.Tensor], step: FloatStep, output: Tensor) -> torch.Tensor:
        return self.function(inputs[0])


@dataclass(frozen=True)
class Tabulated(Activation):
    """An activation by a table: operand and result have the scale 2**-fraction_bits, a field of the node."""

    def check(self, node: Node, graph: Graph, shared: Set[str]) -> None:
        for name in (node.inputs[0], node.name):
            if name in shared:
                raise UnsupportedOperator(
                    f"{name}: a tensor around an activation cannot share its scale with a concatenation"
                )

    def with_fixed_point(self, node: Node, reach: Callable[[str], float]) -> tuple[Node, float]:
        largest = max(reach(node.inputs[0]), reach(node.name))
        bits = min(ACTIVATION_FRACTION_BITS, math.floor(math.log2(2**15 / largest)))
        if bits < 1:
            raise UnsupportedOperator(
                f"{node.name}: values of {largest:g} leave no fraction bits in 16; the model has outliers"
            )
        return dataclasses.replace(node, fraction_bits=bits), 2.0**-bits  # type: ignore[call-arg]

    def qonnx(self, node: Node, inputs: Sequence[str], step: QonnxStep) -> str:
        """The contract's results of all values; negative ones count from the table's end."""
        every = np.r_[0 : VALUE_RANGE[1] + 1, VALUE_RANGE[0] : 0]
        return step.lookup(node.run((every,), NO_TABLES, step.graph.tensors[node.name]), inputs[0])


@dataclass(frozen=True)
class Homogeneous(Activation):
    """An activation with f(s x) = s f(x) for all scales s: operand and result have the same, whatever it is. ``form`` is that of
    int64 values in ONNX."""

    form: Callable[[QonnxStep, str], str]
    keeps_scale = True

    def qonnx(self, node: Node, inputs: Sequence[str], step: QonnxStep) -> str:
        return self.form(step, inputs[0])


ACTIVATIONS: tuple[Activation, ...] = (
    Tabulated(SiLU, ("aten.silu", "aten.silu_"), "", F.silu),
    # by tanh too, which is never farther from the exact one than 0.0005, a step of the finest table
    Tabulated(GELU, ("aten.gelu",), ".gelu", F.gelu),
    Tabulated(Mish, ("aten.mish", "aten.mish_"), ".mish", F.mish),
    Homogeneous(
        ReLU, ("aten.relu", "aten.relu_"), ".relu", F.relu, lambda step, x: step.op("Max", x, step.constant(0))
    ),
)
OPERATORS: dict[type[Node], Operator[Any]] = {each.kind: each for each in ACTIVATIONS}
HANDLERS: dict[str, Handler] = {name: each.translate for each in ACTIVATIONS for name in each.aten}
