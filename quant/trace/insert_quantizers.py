"""Quantizers between operators: codes in front of every linear one."""

from __future__ import annotations

import dataclasses

from ...hls.contract.graph import Graph, check_graph
from ...hls.contract.operators import Node, Quantize
from ...hls.contract.tensor import CODE, VALUE, Tensor
from ..builders.traced import CONTEXT, INPUT, Builder
from ..common.unsupported import UnsupportedOperator
from ..operators import operator_of
from ..operators.convolution import add_identity
from ..operators.operator import EITHER


def insert_quantizers(builder: Builder, output: str, group_of_step: tuple[int, ...], labels: int) -> Graph:
    """Give every linear operator int8 operands, with one quantizer per tensor however many operators read it.

    A linear operator whose result is read by linear operators only writes codes itself; a quantizer moves in front of
    an upsampling, where there is less to quantize. What else reads the sample or the context reads it through a convolution
    that turns codes to values.
    """
    nodes = _Insertion(builder, output).run()
    context = CONTEXT if CONTEXT in builder.tensors else None
    constants = tuple(builder.constants)
    graph = Graph(builder.tensors, nodes, INPUT, output, group_of_step, labels, context=context, constants=constants)
    check_graph(graph)
    return graph


class _Insertion:
    """``kinds`` of the tensors so far, and the names of tensors that have been made ``codes`` or ``values`` of others."""

    def __init__(self, builder: Builder, output: str):
        self.builder, self.output = builder, output
        self.readers: dict[str, list[Node]] = {name: [] for name in builder.tensors}
        for node in builder.nodes.values():
            for source in node.inputs:
                self.readers[source].append(node)
        self.ordered: list[Node] = []
        self.kinds = {INPUT: CODE, CONTEXT: CODE, **dict.fromkeys(builder.constants, VALUE)}
        self.codes: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def run(self) -> tuple[Node, ...]:
        tensors = self.builder.tensors
        for node in list(self.builder.nodes.values()):
            as_read = self._as_code if self._reads_code(node) else self._as_value
            node = dataclasses.replace(node, inputs=tuple(as_read(node, source) for source in node.inputs))
            self.kinds[node.name] = CODE if self._writes_code(node) else VALUE
            tensors[node.name] = dataclasses.replace(tensors[node.name], kind=self.kinds[node.name])
            self.ordered.append(node)
        return tuple(self.ordered)

    def _wants_code(self, name: str) -> bool:
        """Whether only operators that take codes read this tensor, directly or through what takes either kind."""
        return name != self.output and all(self._reads_code(reader) for reader in self.readers[name])

    def _reads_code(self, node: Node) -> bool:
        reads = operator_of(node).reads
        return reads == CODE or (reads == EITHER and self._wants_code(node.name))

    def _writes_code(self, node: Node) -> bool:
        writes, is_read = operator_of(node).writes, bool(self.readers[node.name])
        return writes == CODE or (writes == EITHER and is_read and self._wants_code(node.name))

    def _as_code(self, reader: Node, name: str) -> str:
        if self.kinds[name] == CODE:
            return name
        if name not in self.codes:
            tensors = self.builder.tensors
            quantizer = Quantize(f"{name}.code", self.builder.nodes[name].module, (name,))
            self.ordered.append(quantizer)
            tensors[quantizer.name] = Tensor(quantizer.name, CODE, tensors[name].shape)
            self.kinds[quantizer.name] = CODE
            self.codes[name] = quantizer.name
        return self.codes[name]

    def _as_value(self, reader: Node, name: str) -> str:
        if self.kinds[name] == VALUE:
            return name
        if name not in (INPUT, CONTEXT):
            raise UnsupportedOperator(f"{type(reader).__name__} {reader.name} reads the codes of {name} directly")
        if name not in self.values:
            self.values[name] = add_identity(self.builder, name)
            self.kinds[self.values[name]] = VALUE
            self.ordered.append(self.builder.nodes[self.values[name]])
        return self.values[name]
