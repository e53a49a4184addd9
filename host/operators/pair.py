"""Operators of two values on the host."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import numpy as np

from ...hls.contract.operators import Add, Multiply, Node
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from .execution import FinishedExecution, Slice
from .operator import Operator, Table
from .places import Places
from .vector_costs import row_beats, streamed, vectors_of

N = TypeVar("N", bound=Node)


class PairExecution(FinishedExecution[forms.Pair]):
    """ADD or MULTIPLY of two values, with a fused quantizer."""

    other: Slice

    def set_up(self) -> None:
        super().set_up()
        form = self.form
        self.other = self.view(form.other, form.other_pitch, form.input_pixels, form.channels, False)

    def run(self, scalars: np.void) -> list[Encoded]:
        channels, quantizer = self.form.channels, self.quantizer(scalars)
        target = self.output.buffer
        if quantizer is not None:
            target = np.empty((*self.input.buffer.shape[:2], channels), np.int16)
        self.combine(channels, scalars, target)
        if quantizer is not None:
            vector.quantize(target, channels, quantizer, self.output.buffer, self.means.team)
        return []

    @abstractmethod
    def combine(self, channels: int, scalars: np.void, target: np.ndarray) -> None:
        """The values of both operands -> ``target`` int16."""


class AddExecution(PairExecution):
    """ADD: of values of different scales."""

    def combine(self, channels: int, scalars: np.void, target: np.ndarray) -> None:
        multipliers = (int(scalars["multiplier0"]), int(scalars["multiplier1"]))
        operands, shift = (self.input.buffer, self.other.buffer), int(scalars["shift"])
        vector.add(*operands, channels, multipliers, shift, target, self.means.team)


class MultiplyExecution(PairExecution):
    """MULTIPLY: a product, rounded once."""

    def combine(self, channels: int, scalars: np.void, target: np.ndarray) -> None:
        operands, numbers = (self.input.buffer, self.other.buffer), (int(scalars["multiplier1"]), int(scalars["shift"]))
        vector.multiply(*operands, channels, *numbers, target, self.means.team)


class PairOperator(Operator[N, forms.Pair]):
    """Common to both."""

    form = forms.Pair
    takes_quantizer = True

    def fields(self, node: N, places: Places) -> dict[str, int]:
        other = places.tensor(places.graph.tensors[node.inputs[1]])
        return {"other": other.offset, "other_pitch": other.pitch}

    def counts(self, config: HardwareConfig, form: forms.Pair) -> Counts:
        bus, pixels = config.bus_bytes, form.batch * form.input_pixels
        first, second = (
            int(row_beats(start, pitch * 2, form.channels * 2, pixels, bus)[0])
            for start, pitch in ((form.input, form.input_pitch), (form.other, form.other_pitch))
        )
        return streamed(config, form, vectors_of(config, form), first + second)


class AddOperator(PairOperator[Add]):
    """A sum."""

    opcodes = (Opcode.ADD,)
    execution = AddExecution

    def opcode(self, node: Add) -> Opcode:
        return Opcode.ADD

    def scalars(self, node: Add, table: Table) -> dict[str, np.ndarray]:
        first, second = table(node, "multiplier")
        return {"shift": table(node, "shift"), "multiplier0": first, "multiplier1": second}


class MultiplyOperator(PairOperator[Multiply]):
    """A product."""

    opcodes = (Opcode.MULTIPLY,)
    execution = MultiplyExecution

    def opcode(self, node: Multiply) -> Opcode:
        return Opcode.MULTIPLY

    def scalars(self, node: Multiply, table: Table) -> dict[str, np.ndarray]:
        return {"shift": table(node, "shift"), "multiplier1": table(node, "multiplier")}


OPERATORS = {Add: AddOperator(), Multiply: MultiplyOperator()}
