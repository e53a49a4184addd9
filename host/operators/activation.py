"""Activations on the host: alone, or fused behind a norm."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from ...hls.contract.operators import GELU, Node, ReLU, SiLU
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from .execution import FinishedExecution
from .operator import Operator
from .places import Places
from .vector_costs import streamed, vectors_of

N = TypeVar("N", bound=Node)


class ActivateExecution(FinishedExecution[forms.Activate]):
    """ACTIVATE: an activation, a quantizer or both on a value."""

    def run(self, scalars: np.void) -> list[Encoded]:
        source, channels, team = self.input.buffer, self.form.channels, self.means.team
        activation, quantizer = self.activation, self.quantizer(scalars)
        if activation is not None:
            target = self.output.buffer if quantizer is None else np.empty((*source.shape[:2], channels), np.int16)
            vector.activate(source, channels, activation, target, team)
            source = target
        if quantizer is not None:
            vector.quantize(source, channels, quantizer, self.output.buffer, team)
        return []


class ActivationOperator(Operator[N, forms.Activate]):
    """An activation; ``flag`` says which."""

    opcodes = (Opcode.ACTIVATE,)
    form = forms.Activate
    execution = ActivateExecution
    takes_quantizer = True
    flag: Flag

    def opcode(self, node: N) -> Opcode:
        return Opcode.ACTIVATE

    def flags(self, node: N, constant: frozenset[str]) -> Flag:
        return self.flag

    def may_follow(self, before: Operator[Any, Any]) -> bool:
        return before.takes_activation

    def counts(self, config: HardwareConfig, form: forms.Activate) -> Counts:
        return streamed(config, form, vectors_of(config, form))


class TabledOperator(ActivationOperator[N]):
    """An activation by a table, of values with ``fraction_bits``."""

    def fields(self, node: N, places: Places) -> dict[str, int]:
        return {"activation_bits": node.fraction_bits}  # type: ignore[attr-defined]


class SiLUOperator(TabledOperator[SiLU]):
    """x * sigmoid(x)."""

    flag = Flag.SILU


class GELUOperator(TabledOperator[GELU]):
    """x * Phi(x)."""

    flag = Flag.GELU


class ReLUOperator(ActivationOperator[ReLU]):
    """max(x, 0)."""

    flag = Flag.RELU


OPERATORS = {SiLU: SiLUOperator(), GELU: GELUOperator(), ReLU: ReLUOperator()}
