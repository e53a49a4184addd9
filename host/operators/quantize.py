"""Quantizers on the host: fused, or alone as an ACTIVATE without an activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hls.contract.operators import Quantize
from ...hls.machine import forms
from ...hls.machine.isa import Flag, Opcode
from .activation import ActivateExecution
from .operator import Operator, Table


class QuantizeOperator(Operator[Quantize, forms.Activate]):
    """From values to codes."""

    form = forms.Activate
    execution = ActivateExecution

    def opcode(self, node: Quantize) -> Opcode:
        return Opcode.ACTIVATE

    def flags(self, node: Quantize, constant: frozenset[str]) -> Flag:
        return Flag.QUANTIZE | (Flag.FINE if node.fine else Flag(0))

    def scalars(self, node: Quantize, table: Table) -> dict[str, np.ndarray]:
        return {"quantize_multiplier": table(node, "multiplier"), "quantize_shift": table(node, "shift")}

    def may_follow(self, before: Operator[Any, Any]) -> bool:
        return before.takes_quantizer


OPERATORS = {Quantize: QuantizeOperator()}
