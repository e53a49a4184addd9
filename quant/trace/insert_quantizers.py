"""Quantizers between operators: codes in front of every linear one."""

from __future__ import annotations

import dataclasses

import torch

from ...hls.contract.graph import Graph, check_graph
from ...hls.contract.operators import Convolution, MatMul, Node, Quantize, Softmax, Upsample
from ...hls.contract.tensor import CODE, VALUE, Tensor
from .traced import CONTEXT, INPUT, Builder, UnsupportedOperator


def insert_quantizers(builder: Builder, output: str, group_of_step: tuple[int, ...], labels: int) -> Graph:
    """Give every linear operator int8 operands, with one quantizer per tensor however many operators read it.

    A linear operator whose result is read by linear operators only writes codes itself; a quantizer moves in front of
    an upsampling, where there is less to quantize. What else reads the sample or the context reads it through a convolution
    that turns codes to values.
    """
    nodes, tensors = builder.nodes, builder.tensors
    readers: dict[str, list[Node]] = {name: [] for name in tensors}
    for node in nodes.values():
        for source in node.inputs:
            readers[source].append(node)

    def wants_code(name: str) -> bool:
        """Only linear operators read this tensor, directly or through upsampling."""
        return name != output and all(
            isinstance(reader, (Convolution, MatMul)) or (isinstance(reader, Upsample) and wants_code(reader.name))
            for reader in readers[name]
        )

    ordered: list[Node] = []
    kinds = {INPUT: CODE, CONTEXT: CODE, **dict.fromkeys(builder.constants, VALUE)}
    codes: dict[str, str] = {}
    values: dict[str, str] = {}

    def as_code(name: str) -> str:
        if kinds[name] == CODE:
            return name
        if name not in codes:
            quantizer = Quantize(f"{name}.code", nodes[name].module, (name,))
            ordered.append(quantizer)
            tensors[quantizer.name] = Tensor(quantizer.name, CODE, tensors[name].shape)
            kinds[quantizer.name] = CODE
            codes[name] = quantizer.name
        return codes[name]

    def as_value(reader: Node, name: str) -> str:
        if kinds[name] == VALUE:
            return name
        if name not in (INPUT, CONTEXT):
            raise UnsupportedOperator(f"{type(reader).__name__} {reader.name} reads the codes of {name} directly")
        if name not in values:
            values[name] = add_identity(builder, name)
            kinds[values[name]] = VALUE
            ordered.append(nodes[values[name]])
        return values[name]

    for node in list(nodes.values()):
        if isinstance(node, (Convolution, MatMul)) or (isinstance(node, Upsample) and wants_code(node.name)):
            node = dataclasses.replace(node, inputs=tuple(as_code(source) for source in node.inputs))
        else:
            node = dataclasses.replace(node, inputs=tuple(as_value(node, source) for source in node.inputs))
        writes_code = isinstance(node, Softmax) or (
            isinstance(node, (Convolution, MatMul, Upsample)) and wants_code(node.name) and bool(readers[node.name])
        )
        kinds[node.name] = CODE if writes_code else VALUE
        tensors[node.name] = dataclasses.replace(tensors[node.name], kind=kinds[node.name])
        ordered.append(node)
    context = CONTEXT if CONTEXT in tensors else None
    constants = tuple(builder.constants)
    graph = Graph(
        tensors, tuple(ordered), INPUT, output, group_of_step, labels, context=context, constants=constants
    )  # fmt: skip
    check_graph(graph)
    return graph


def add_identity(builder: Builder, name: str) -> str:
    """A convolution whose result is ``name``; its name."""
    channels = builder.tensors[name].shape[2]
    identity = builder.add(Convolution(f"{name}.value", "", (name,)), VALUE, channels)
    builder.parameters[f"{identity}.weight"] = torch.eye(channels)[:, :, None, None]
    builder.parameters[f"{identity}.bias"] = torch.zeros(channels)
    return identity
