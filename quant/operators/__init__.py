"""The integer graph's operators as the quantizer sees them, in files named as in :mod:`ditto_zynq.hls.contract.operators`."""

from __future__ import annotations

from typing import Any

from ...hls.contract.operators import Node
from ..builders.translation import Handler
from . import activation, attention, concat, convolution, norm, pair, pool, quantize, softmax, upsample
from .operator import ConditionedOperator, Operator

MODULES = (convolution, attention, norm, pair, activation, softmax, pool, upsample, concat, quantize)
OPERATORS: dict[type[Node], Operator[Any]] = {
    kind: operator for module in MODULES for kind, operator in module.OPERATORS.items()
}
"""By the nodes that they are of."""
CONDITIONED: dict[type[Node], ConditionedOperator[Any]] = {
    kind: operator for kind, operator in OPERATORS.items() if isinstance(operator, ConditionedOperator)
}
"""The ones among them that conditioning folds into."""
HANDLERS: dict[str, Handler] = {name: handler for module in MODULES for name, handler in module.HANDLERS.items()}
"""By the names of the aten operators that they make operators of the graph."""


def operator_of(node: Node) -> Operator[Any]:
    """The quantizer's side of ``node``."""
    return OPERATORS[type(node)]
