"""Softmax on the host."""

from __future__ import annotations

import numpy as np

from ...hls.contract.operators import Softmax
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from .execution import ImageExecution
from .operator import Operator, Table
from .vector_costs import streamed, vectors_of


class SoftmaxExecution(ImageExecution[forms.Softmax]):
    """SOFTMAX of rows of logits."""

    def run(self, scalars: np.void) -> list[Encoded]:
        logits, target = self.input.dense, self.output.buffer
        whole = target.shape == logits.shape
        codes = target if whole else np.empty(logits.shape, np.int8)
        vector.softmax(logits, int(scalars["multiplier0"]), int(scalars["shift"]), codes, self.means.team)
        if not whole:  # a part of a wider buffer
            target[:, :, : logits.shape[2]] = codes
        return []


class SoftmaxOperator(Operator[Softmax, forms.Softmax]):
    """Softmax before its division."""

    opcodes = (Opcode.SOFTMAX,)
    form = forms.Softmax
    execution = SoftmaxExecution
    passes = 2
    keeps_row = True

    def opcode(self, node: Softmax) -> Opcode:
        return Opcode.SOFTMAX

    def scalars(self, node: Softmax, table: Table) -> dict[str, np.ndarray]:
        return {"shift": table(node, "shift"), "multiplier0": table(node, "multiplier")}

    def counts(self, config: HardwareConfig, form: forms.Softmax) -> Counts:
        return streamed(config, form, self.passes * vectors_of(config, form))


OPERATORS = {Softmax: SoftmaxOperator()}
