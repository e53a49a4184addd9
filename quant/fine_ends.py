"""Finer codes at both ends of a model, within its 8-bit operands.

Nothing disturbs the samples as much as the rounding of the model's input and that of its last convolution's weights
(measured, see the bundled model's card): an error there reaches the sample directly, in every step. Both get a second part:

- input: beside the codes q of x come those of the rounding residue, in 16ths of a step; the first convolution's weights W
  become [W, W / 16] along input channels, so that it sees ``q + r / 16``;
- output: beside each row of integer weights stands a row with what their rounding left over, with a scale of its own; the
  host adds the two rows' results.

To the accelerator these are ordinary channels of ordinary operators, in layers that are small and leave most of the array idle.
"""

from __future__ import annotations

import dataclasses

import torch

from ..hls.arithmetic import FINE_STEPS
from ..hls.graph import Convolution, Graph, Tensor
from .quantizers import weight_quantized_convolution
from .trace import FloatModel


def add_fine_ends(model: FloatModel) -> FloatModel:
    """Split input and output in two parts, each where only convolutions touch it."""
    graph, parameters = model.graph, dict(model.parameters)
    readers = [node for node in graph.nodes if graph.input in node.inputs]
    if all(isinstance(node, Convolution) for node in readers):
        graph = dataclasses.replace(_widen(graph, graph.input), input_parts=2)
        for node in readers:
            weight = parameters[f"{node.name}.weight"]
            parameters[f"{node.name}.weight"] = torch.cat([weight, weight / FINE_STEPS], dim=1)
    last = next(node for node in graph.nodes if node.name == graph.output)
    if isinstance(last, Convolution) and not any(graph.output in node.inputs for node in graph.nodes):
        graph = dataclasses.replace(_widen(graph, graph.output), output_parts=2)
        weight, bias = parameters[f"{last.name}.weight"], parameters[f"{last.name}.bias"]
        with torch.no_grad():
            rounded = weight_quantized_convolution(weight, last.stride).quant_weight().value
        parameters[f"{last.name}.weight"] = torch.cat([rounded, weight - rounded], dim=0)
        parameters[f"{last.name}.bias"] = torch.cat([bias, torch.zeros_like(bias)], dim=-1)
    return FloatModel(graph, parameters)


def _widen(graph: Graph, name: str) -> Graph:
    """The graph with twice the channels in one tensor."""
    height, width, channels = graph.tensors[name].shape
    tensor = Tensor(name, graph.tensors[name].kind, (height, width, 2 * channels))
    return dataclasses.replace(graph, tensors={**graph.tensors, name: tensor})
