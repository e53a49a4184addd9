"""Concatenation on the host: no operation, for its parts are written side by side."""

from __future__ import annotations

from ...hls.contract.operators import Concat
from ...hls.machine.forms import Form
from ...hls.machine.isa import Opcode
from .operator import Operator


class ConcatOperator(Operator[Concat, Form]):
    """Addressing alone."""

    def opcode(self, node: Concat) -> Opcode:
        raise ValueError(f"{node.name}: found a concatenation to run, expected its parts side by side in memory")


OPERATORS = {Concat: ConcatOperator()}
