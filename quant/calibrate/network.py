"""A traced model in PyTorch with a Brevitas quantizer on every tensor of the integer graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from torch import nn

from ...hls.contract.arithmetic import CODE_RANGE, FINE_STEPS
from ...hls.contract.layout import from_stored, to_stored
from ...hls.contract.operators import Node
from ...hls.contract.tensor import CODE
from ..builders.float_step import FloatStep
from ..common.options import Options
from ..operators import operator_of
from ..trace.tracing import FloatModel
from .fine_parts import with_fine_codes, with_fine_inputs
from .quantizers import (
    RANGE,
    SEARCH,
    Calibration,
    StepwiseScaling,
    activation_quantizer,
    scales,
    stepwise_scaling,
    weight_quantizer,
)
from .step_groups import group_steps, warn_of_few_levels

FLOAT, CALIBRATE, QUANTIZED = "float", "calibrate", "quantized"
CONTEXT_HEADROOM = 2  # of a context's codes in two parts, beyond the contexts of calibration


class QuantizedNetwork(nn.Module):
    """A traced model in PyTorch, with Brevitas quantizers: float, under calibration, or fake-quantized.

    ``weights[name]`` is a convolution's Brevitas layer, ``codes[name]`` and ``values[name]`` the quantizers of 8-bit and
    16-bit tensors. ``correction[name]`` [groups, O] is added to a convolution's result when quantized.
    """

    def __init__(self, model: FloatModel, options: Options):
        super().__init__()
        self.graph, self.parameters_ = model.graph, model.parameters
        self.calibration = Calibration(model.graph.steps)  # ranges are those of every step; then steps are grouped
        self.mode = FLOAT
        self.single: str | None = None  # a tensor, or a layer's weights, that is quantized in mode FLOAT too
        in_parts = ((model.graph.input, model.graph.input_parts), (model.graph.context, model.graph.context_parts))
        self.fine = {name for name, parts in in_parts if name is not None and parts == 2}
        self.weights, self.codes, self.values = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.correction: dict[str, torch.Tensor] = {}
        self.on_convolution: Callable[[str, torch.Tensor], torch.Tensor] | None = None
        for node in self.graph.nodes:
            if operator_of(node).has_weights:
                weight = self.parameters_[f"{node.name}.weight"]
                self.weights[_key(node.name)] = weight_quantizer(weight)
                self.correction[node.name] = torch.zeros(self.graph.groups, len(weight))
        self.moved = {node.name: node.inputs[0] for node in self.graph.nodes if operator_of(node).moves}
        self.fixed = {
            node.name: operator_of(node) for node in self.graph.nodes if operator_of(node).fixed_scale is not None
        }
        scaled = {self.graph.input, *self.graph.constants, *self.ranged}
        scaled |= {self.graph.context} if self.graph.context else set()
        for name in sorted(scaled):
            is_code = self.graph.tensors[name].kind == CODE
            table = self.codes if is_code else self.values
            bits, norm = (8, options.norm) if is_code else (16, 0.0)
            if name == self.graph.context and name in self.fine:
                norm = 0.0  # the second part makes room for the whole range, and more
            table[_key(name)] = activation_quantizer(bits, self.calibration, norm)
        self.eval()

    @property
    def ranged(self) -> list[str]:
        """Results of operators that have ranges of their own."""
        return [node.name for node in self.graph.nodes if node.name not in self.moved and node.name not in self.fixed]

    def scales(self, name: str) -> torch.Tensor:
        """float64 [groups]: step of tensor ``name``, that of its source where a tensor only moves data."""
        fixed = self.fixed[name].fixed_scale if name in self.fixed else None
        if fixed is not None:
            return torch.full((self.graph.groups,), fixed, dtype=torch.float64)
        while _key(name) not in self.codes and _key(name) not in self.values:
            name = self.moved[name]
        return scales(self._quantizer(name))

    def _scaling(self, name: str) -> StepwiseScaling:
        return stepwise_scaling(self._quantizer(name))

    def _quantizer(self, name: str) -> QuantIdentity:
        key = _key(name)
        return self.codes[key] if key in self.codes else self.values[key]  # type: ignore[return-value]

    def forward(
        self, sample: torch.Tensor, step: int, labels: torch.Tensor, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The model's output [B, ...] at step ``step`` of the schedule, for a sample [B, *sample_shape].

        ``labels`` int [B] are rows of conditional tables; ``context`` [B, tokens, channels] for a model that has one.
        """
        graph = self.graph
        self.calibration.row = step if self.calibration.phase == RANGE else graph.group_of_step[step]
        tensors = {graph.input: self._pass(graph.input, self._stored(sample))}
        if graph.context is not None:
            assert context is not None
            tensors[graph.context] = self._pass(graph.context, context.mT.unsqueeze(3))
        for name in graph.constants:
            value = self.parameters_[f"{name}.value"].permute(2, 0, 1)
            tensors[name] = self._pass(name, value.expand(len(sample), *value.shape))
        last_reader = {source: node.name for node in graph.nodes for source in node.inputs}
        for node in graph.nodes:
            result = self.run_node(node, [tensors[name] for name in node.inputs], step, labels)
            tensors[node.name] = self._pass(node.name, result)
            for source in set(node.inputs):
                if last_reader[source] == node.name:
                    del tensors[source]
        output = tensors[graph.output]
        if graph.output_parts == 2:
            output = torch.stack(output.chunk(2, dim=1)).sum(dim=0)
        return torch.from_numpy(from_stored(output.permute(0, 2, 3, 1).numpy(), graph.output_axes))

    def _stored(self, sample: torch.Tensor) -> torch.Tensor:
        """A sample [B, *sample_shape] as images [B, C, H, W]."""
        height, width, channels = self.graph.tensors[self.graph.input].shape
        shape = (height, width, channels // self.graph.input_parts)
        return torch.from_numpy(to_stored(sample.numpy(), self.graph.sample_axes, shape)).permute(0, 3, 1, 2)

    def regroup(self) -> None:
        """After a range pass: scales per step group, of steps with inputs of similar size."""
        ranges = self._scaling(self.graph.input).threshold.tolist()
        groups = group_steps(self.graph.group_of_step, ranges)
        self.graph = dataclasses.replace(self.graph, group_of_step=groups)
        for quantizer in (*self.codes.values(), *self.values.values()):
            stepwise_scaling(quantizer).regroup(groups)  # type: ignore[arg-type]
        if self.graph.context is not None and self.graph.context in self.fine:
            self._scaling(self.graph.context).threshold *= CONTEXT_HEADROOM
        self.calibration.phase = SEARCH  # from here on scales are those of groups
        warn_of_few_levels(groups, ranges)

    def check_ranges(self, step: int, timestep: float) -> None:
        """ValueError that names the first tensor whose range in a step is not finite."""
        for name in (self.graph.input, *self.ranged):
            if not bool(self._scaling(name).threshold[step].isfinite()):
                raise ValueError(
                    f"step {step} (timestep {timestep:g}): found NaN or infinity in {name}, expected finite numbers; the "
                    "model or its scheduler does not run on this schedule in float either"
                )

    def make_fine(self, name: str) -> None:
        """Give the codes ``name`` a second part."""
        self.graph = with_fine_codes(self.graph, name)
        self.fine.add(name)
        for node in self.graph.nodes:
            if operator_of(node).has_weights and name in node.inputs:
                weight = self._layer(node.name).weight.detach()
                self.weights[_key(node.name)] = weight_quantizer(with_fine_inputs(weight))

    def _pass(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Through the tensor's quantizer, as the mode says. 16-bit rounding is left out of the fake-quantized model."""
        if name in self.fixed:
            return self.fixed[name].rounded(x) if self.mode == QUANTIZED else x
        key = _key(name)
        quantized = (self.mode == QUANTIZED and key in self.codes) or name == self.single
        observed = self.mode == CALIBRATE and (key in self.codes or key in self.values)
        coarse = self._quantizer(name)(x) if quantized or observed else x
        if name not in self.fine:
            return coarse
        scale = self.scales(name)[self.calibration.row].float()
        residue = ((x - coarse) / scale * FINE_STEPS).round().clamp(*CODE_RANGE) * scale  # zero where not quantized
        return torch.cat([coarse, residue], dim=1)

    def run_node(self, node: Node, inputs: Sequence[torch.Tensor], step: int, labels: torch.Tensor) -> torch.Tensor:
        """One operator's result, before its quantizer."""
        read = FloatStep(self.parameters_, self, node.name, step, labels)
        return operator_of(node).run(node, inputs, read, self.graph.tensors[node.name])

    # What Layers asks for, of the layers with weights.

    def _layer(self, name: str) -> QuantConv2d:
        return self.weights[_key(name)]  # type: ignore[return-value]

    def weight(self, name: str) -> torch.Tensor:
        layer = self._layer(name)
        coarse = self.mode == QUANTIZED or self.single == f"{name}.weight"
        return layer.quant_weight().value if coarse else layer.weight

    def corrected(self, name: str, y: torch.Tensor) -> torch.Tensor:
        if self.mode == QUANTIZED:
            y = y + self.correction[name][self.calibration.row][:, None, None]
        return self.on_convolution(name, y) if self.on_convolution else y

    def integer_weight(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        quantized = self._layer(name).quant_weight()
        scale = quantized.scale.detach().double().numpy().reshape(-1)
        return quantized.int(float_datatype=False).numpy(), scale

    def correction_of(self, name: str) -> np.ndarray:
        return self.correction[name].double().numpy()


def _key(name: str) -> str:
    return name.replace(".", "/")  # a ModuleDict's keys hold no dots
