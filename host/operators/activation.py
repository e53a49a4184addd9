"""Activations on the host: alone, or fused behind a norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...hls.contract.operators import activation
from ...hls.contract.operators.activation import Activation
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from .execution import FinishedExecution
from .operator import Operator
from .places import Places
from .vector_costs import streamed, vectors_of


class ActivateExecution(FinishedExecution[forms.Activate]):
    """ACTIVATE: an activation, a quantizer or both on a value."""

    def run(self, scalars: np.void) -> list[Encoded]:
        source, channels, team = self.input.buffer, self.form.channels, self.means.team
        fused, quantizer = self.activation, self.quantizer(scalars)
        if fused is not None:
            target = self.output.buffer if quantizer is None else np.empty((*source.shape[:2], channels), np.int16)
            vector.activate(source, channels, fused, target, team)
            source = target
        if quantizer is not None:
            vector.quantize(source, channels, quantizer, self.output.buffer, team)
        return []


class ActivationOperator(Operator[Activation, forms.Activate]):
    """An activation, whichever it is."""

    opcodes = (Opcode.ACTIVATE,)
    form = forms.Activate
    execution = ActivateExecution
    takes_quantizer = True

    def opcode(self, node: Activation) -> Opcode:
        return Opcode.ACTIVATE

    def fields(self, node: Activation, places: Places) -> dict[str, int]:
        return {"activation": node.number, "activation_bits": node.fraction_bits}

    def may_follow(self, before: Operator[Any, Any]) -> bool:
        return before.takes_activation

    def counts(self, config: HardwareConfig, form: forms.Activate) -> Counts:
        return streamed(config, form, vectors_of(config, form))


OPERATORS = dict.fromkeys(activation.OPERATORS, ActivationOperator())
