"""Finer codes where rounding harms most, within 8-bit operands.

A few tensors disturb the samples far more than all others: in a U-Net those of the full-resolution skip path, first of all the
model's input and the operand and the weights of its last convolution (measured, see the bundled model's card). They get a
second part:

- codes: beside the codes q of x stand those of the rounding residue r, in 16ths of a step; the convolutions that read them have
  weights [W, W / 16] along input channels, so that they see ``q + r / 16``; a context of tokens has such codes too, for a text
  encoder's first token is many times as large as all others, and weighted prompts are larger than calibration's;
- the last convolution's weights: beside each row of integers stands a row with what their rounding left over, with a scale of
  its own; the host adds the two rows' results.

To the compute unit these are ordinary channels of ordinary convolutions.
"""

from __future__ import annotations

import dataclasses

import torch

from ...hls.contract.arithmetic import FINE_STEPS
from ...hls.contract.graph import Graph
from ...hls.contract.tensor import Tensor
from ..operators import operator_of
from ..trace.tracing import FloatModel
from .quantizers import weight_quantizer


def add_fine_ends(model: FloatModel) -> FloatModel:
    """Split the input, the context and the last convolution in two parts, each where only convolutions touch it."""
    graph, parameters = model.graph, dict(model.parameters)
    if _only_layers_read(graph, graph.input):
        graph = dataclasses.replace(_widen(graph, graph.input), input_parts=2)
    if graph.context is not None and _only_layers_read(graph, graph.context):
        graph = dataclasses.replace(_widen(graph, graph.context), context_parts=2)
    for node in graph.nodes:
        if graph.tensors[node.inputs[0]] != model.graph.tensors[node.inputs[0]]:
            parameters[f"{node.name}.weight"] = with_fine_inputs(parameters[f"{node.name}.weight"])
    last = next(node for node in graph.nodes if node.name == graph.output)
    if operator_of(last).has_weights and not any(graph.output in node.inputs for node in graph.nodes):
        graph = dataclasses.replace(_widen(graph, graph.output), output_parts=2)
        _split_rows(parameters, last.name)
    return FloatModel(graph, parameters)


def _split_rows(parameters: dict[str, torch.Tensor], layer: str) -> None:
    """Beside every row of weights, bias and gates, which are rounded, a row with what their rounding leaves over."""
    weight, bias = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
    with torch.no_grad():
        rounded = weight_quantizer(weight).quant_weight().value
    parameters[f"{layer}.weight"] = torch.cat([rounded, weight - rounded], dim=0)
    parameters[f"{layer}.bias"] = torch.cat([bias, torch.zeros_like(bias)], dim=-1)
    gate = parameters.get(f"{layer}.gate")
    if gate is not None:
        parameters[f"{layer}.gate"] = torch.cat([gate, gate], dim=-1)


def can_be_fine(graph: Graph, name: str) -> bool:
    """Whether the codes ``name`` come from a quantizer and go to convolutions only."""
    made = any(node.name == name and operator_of(node).in_two_parts(node) is not None for node in graph.nodes)
    return made and _only_layers_read(graph, name)


def with_fine_codes(graph: Graph, name: str) -> Graph:
    """The graph with a two-part quantizer ``name``. Its readers' weights must go through :func:`with_fine_inputs`."""
    nodes = tuple((operator_of(node).in_two_parts(node) or node) if node.name == name else node for node in graph.nodes)
    return dataclasses.replace(_widen(graph, name), nodes=nodes)


def with_fine_inputs(weight: torch.Tensor) -> torch.Tensor:
    """Weights [O, I, kh, kw] -> [O, 2 I, kh, kw], for operands in two parts."""
    return torch.cat([weight, weight / FINE_STEPS], dim=1)


def _only_layers_read(graph: Graph, name: str) -> bool:
    return all(operator_of(node).has_weights for node in graph.nodes if name in node.inputs)


def _widen(graph: Graph, name: str) -> Graph:
    """The graph with twice the channels in one tensor."""
    height, width, channels = graph.tensors[name].shape
    tensor = Tensor(name, graph.tensors[name].kind, (height, width, 2 * channels))
    return dataclasses.replace(graph, tensors={**graph.tensors, name: tensor})
