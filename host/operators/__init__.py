"""The operators on the host, a file each: descriptor and scalars of a node, execution in software, costs, samples to check."""

from __future__ import annotations

from typing import Any

from ...hls.contract.operators import (
    GELU,
    Add,
    AveragePool,
    Concat,
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
    Upsample,
)
from ...hls.machine.isa import Opcode
from .activation import GELUOperator, ReLUOperator, SiLUOperator
from .attention import AttentionOperator
from .concat import ConcatOperator
from .convolution import ConvolutionOperator
from .linear import LinearOperator
from .norm import GroupNormOperator, LayerNormOperator
from .operator import Operator
from .pair import AddOperator, MultiplyOperator
from .pool import PoolOperator
from .quantize import QuantizeOperator
from .softmax import SoftmaxOperator
from .upsample import UpsampleOperator

OPERATORS: dict[type[Node], Operator[Any, Any]] = {
    Convolution: ConvolutionOperator(),
    MatMul: AttentionOperator(),
    Quantize: QuantizeOperator(),
    Add: AddOperator(),
    Multiply: MultiplyOperator(),
    GroupNorm: GroupNormOperator(),
    LayerNorm: LayerNormOperator(),
    SiLU: SiLUOperator(),
    GELU: GELUOperator(),
    ReLU: ReLUOperator(),
    Softmax: SoftmaxOperator(),
    Upsample: UpsampleOperator(),
    AveragePool: PoolOperator(),
    Concat: ConcatOperator(),
}
BY_OPCODE: dict[Opcode, Operator[Any, Any]] = {
    opcode: operator for operator in OPERATORS.values() for opcode in operator.opcodes
}
LINEAR_OPCODES = tuple(opcode for opcode, operator in BY_OPCODE.items() if isinstance(operator, LinearOperator))


def operator_of(node: Node) -> Operator[Any, Any]:
    """What the host knows of a node's kind."""
    return OPERATORS[type(node)]


def linear_operator_of(node: Node) -> LinearOperator[Any, Any]:
    """The same of a node on the linear unit; TypeError for any other."""
    operator = operator_of(node)
    if not isinstance(operator, LinearOperator):
        raise TypeError(f"found {type(node).__name__} {node.name}, expected an operator on the linear unit")
    return operator
