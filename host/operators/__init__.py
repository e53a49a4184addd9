"""The operators on the host, a file each: descriptor and scalars of a node, execution in software, costs, samples to check."""

from __future__ import annotations

from typing import Any

from ...hls.contract.operators import Node
from ...hls.machine.isa import Opcode
from . import activation, attention, concat, convolution, norm, pair, pool, quantize, softmax, upsample
from .linear import LinearOperator
from .operator import Operator

MODULES = (convolution, attention, quantize, pair, norm, activation, softmax, upsample, pool, concat)
OPERATORS: dict[type[Node], Operator[Any, Any]] = {
    node: operator for module in MODULES for node, operator in module.OPERATORS.items()
}
BY_OPCODE: dict[Opcode, Operator[Any, Any]] = {
    opcode: operator for operator in OPERATORS.values() for opcode in operator.opcodes
}
LINEAR_OPCODES = tuple(opcode for opcode, operator in BY_OPCODE.items() if isinstance(operator, LinearOperator))


def operator_of(node: Node) -> Operator[Any, Any]:
    """What the host knows of a node's kind."""
    return OPERATORS[type(node)]


def linear_operator_of(node: Node) -> LinearOperator[Any, Any]:
    """What the host knows of a node on the linear unit; TypeError for any other node."""
    operator = operator_of(node)
    if not isinstance(operator, LinearOperator):
        raise TypeError(f"found {type(node).__name__} {node.name}, expected an operator on the linear unit")
    return operator
