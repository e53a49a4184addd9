"""Quantizers between operators: codes in front of every linear one."""

from __future__ import annotations

import dataclasses

from ..hls.graph import CODE, VALUE, Convolution, Graph, MatMul, Node, Quantize, Softmax, Tensor, Upsample, check_graph
from .traced import CONTEXT, INPUT, Builder, UnsupportedOperator


def insert_quantizers(builder: Builder, output: str, group_of_step: tuple[int, ...], labels: int) -> Graph:
    """Give every linear operator int8 operands, with one quantizer per tensor however many operators read it.

    A linear operator whose result is read by linear operators only writes codes itself; a quantizer moves in front of
    an upsampling, where there is less to quantize.
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

    for node in nodes.values():
        if isinstance(node, (Convolution, MatMul)) or (isinstance(node, Upsample) and wants_code(node.name)):
            node = dataclasses.replace(node, inputs=tuple(as_code(source) for source in node.inputs))
        writes_code = isinstance(node, Softmax) or (
            isinstance(node, (Convolution, MatMul, Upsample)) and wants_code(node.name) and bool(readers[node.name])
        )
        if not isinstance(node, (Convolution, MatMul, Upsample)) and any(
            kinds[source] == CODE for source in node.inputs
        ):
            raise UnsupportedOperator(
                f"{type(node).__name__} {node.name} reads the sample, the context or codes directly"
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
