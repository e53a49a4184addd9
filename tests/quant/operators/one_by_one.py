"""Operator by operator: whether the integers follow the fake-quantized model, each from the same inputs.

Of whole models only the sum of all roundings can be compared, which hides a wrong operator: here nothing adds up.
"""

from __future__ import annotations

import numpy as np
import torch
from ditto_zynq.hls.contract.arithmetic import CODE_RANGE, FINE_STEPS
from ditto_zynq.hls.contract.graph import constant_tensors
from ditto_zynq.hls.contract.interpreter import Interpreter
from ditto_zynq.hls.contract.operators import Convolution, Node, Quantize, Softmax
from ditto_zynq.hls.contract.references import Reference
from ditto_zynq.hls.contract.tensor import LIMITS
from ditto_zynq.quant.calibrate.lower import IntegerModel
from ditto_zynq.quant.calibrate.network import QUANTIZED, QuantizedNetwork
from ditto_zynq.quant.operators import OPERATORS
from ditto_zynq.quant.operators.activation import Activation
from ditto_zynq.quant.operators.norm import NormOperator
from ditto_zynq.quant.operators.softmax import SoftmaxOperator

ALLOWED: dict[type[Node], float] = {
    kind: 0 if operator.keeps_scale else 1
    for kind, operator in OPERATORS.items()
    if operator.keeps_scale or isinstance(operator, (Activation, NormOperator, SoftmaxOperator))
}
"""Steps of its result that an operator may be off, as README and hls/contract/operators promise; others are rounded once."""
FLOAT32 = 1 / 64  # and what the other side's float32 is off: 2**-21 of 16 bits


class Operators:
    """All operators of a calibrated model and of its integers, in step ``step`` and of rows ``labels`` [B].

    ``tensors`` are the integers of a run of the reference, from which every operator is computed anew, alone.
    """

    def __init__(
        self,
        quantized: QuantizedNetwork,
        integer: IntegerModel,
        tensors: dict[str, np.ndarray],
        step: int,
        labels: np.ndarray,
    ):
        self.quantized, self.integer, self.tensors, self.step, self.labels = quantized, integer, tensors, step, labels
        self.group = integer.graph.group_of_step[step]
        self.softmaxes = {node.name for node in integer.graph.nodes if isinstance(node, Softmax)}
        self.unchanging = constant_tensors(integer.graph)

    def beyond(self, node: Node, tables: dict[str, np.ndarray] | None = None) -> float:
        """How many steps of its result ``node`` is further off than it may be, at most; with other ``tables``, if given."""
        found = np.asarray(self.tensors[node.name], np.float64)
        if tables is not None:
            operands = tuple(self.tensors[name] for name in node.inputs)
            reference = Interpreter(self.integer.graph, tables)
            found = reference._run(node, operands, self.step, self.labels, Reference.ZERO).astype(np.float64)
        expected, allowed = self._expected(node), ALLOWED.get(type(node), 0.5) + FLOAT32
        if isinstance(node, Convolution):  # whose bias is rounded in steps of the accumulators
            allowed += 0.5 * self._accumulator_steps(node)
        if isinstance(node, Quantize) and node.fine:
            codes, residues = np.split(found, 2, axis=3)
            parts = np.abs(codes + residues / FINE_STEPS - expected)[np.abs(expected) <= CODE_RANGE[1]]
            both = float(parts.max(initial=0.0)) - (0.5 / FINE_STEPS + FLOAT32 / FINE_STEPS)
            return max(both, float(np.abs(codes - np.clip(expected, *CODE_RANGE)).max()) - allowed)
        return (
            float(np.abs(found - np.clip(expected, *LIMITS[self.integer.graph.tensors[node.name].kind])).max())
            - allowed
        )

    @torch.no_grad()
    def _expected(self, node: Node) -> np.ndarray:
        """The fake-quantized operator's result, not rounded, in steps."""
        network, step = self.quantized, 0 if node.name in self.unchanging else self.step
        network.mode, network.calibration.row = QUANTIZED, self.integer.graph.group_of_step[step]
        inputs = [torch.from_numpy(self._decoded(name)).float() for name in node.inputs]
        result = network.run_node(node, inputs, step, torch.from_numpy(self.labels)).double()
        if isinstance(node, Softmax):
            return (result / result.amax(dim=-1, keepdim=True) * CODE_RANGE[1]).numpy()
        steps = result.numpy() / self.integer.scales[node.name][self.group]
        return steps if self._is_attention(node.name) else steps.transpose(0, 2, 3, 1)

    def _decoded(self, name: str) -> np.ndarray:
        """A tensor as the fake-quantized model has it: images [B, C, H, W], rows of attention [B, heads, queries, keys]."""
        codes = np.asarray(self.tensors[name], np.float64)
        if name in self.softmaxes:
            return codes / codes.sum(axis=-1, keepdims=True)
        values = codes * self.integer.scales[name][self.group]
        return values if self._is_attention(name) else values.transpose(0, 3, 1, 2)

    def _is_attention(self, name: str) -> bool:
        node = next((node for node in self.integer.graph.nodes if node.name == name), None)
        return isinstance(node, Softmax) or getattr(node, "scores", False)

    def _accumulator_steps(self, node: Convolution) -> float:
        """The largest step of an accumulator, in steps of the result."""
        tables, name = self.integer.tables, node.name
        multiplier = tables[f"{name}.multiplier"][self.step if node.gated else self.group]
        return float(np.abs(multiplier).max() * 2.0 ** -int(tables[f"{name}.shift"][self.group]))
