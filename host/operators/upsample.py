"""Nearest-neighbour upsampling, and copies, on the host."""

from __future__ import annotations

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.contract.operators import Upsample
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Flag, Opcode
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from .execution import ImageExecution
from .operator import Operator, SampleView
from .places import Places
from .vector_costs import streamed


class UpsampleExecution(ImageExecution[forms.Upsample]):
    """UPSAMPLE: every pixel repeated ``factor`` x ``factor`` times, as far as the result goes."""

    def run(self, scalars: np.void) -> list[Encoded]:
        form = self.form
        image = self.input.dense.reshape(-1, form.height, form.width, form.channels)
        rows, columns = (np.arange(size) // form.factor for size in (form.output_height, form.output_width))
        copies = image[:, rows[:, None], columns].reshape(len(image), -1, form.channels)
        self.output.buffer[:, :, : form.channels] = copies
        return []


class UpsampleOperator(Operator[Upsample, forms.Upsample]):
    """Every pixel as often as it is needed."""

    opcodes = (Opcode.UPSAMPLE,)
    form = forms.Upsample
    execution = UpsampleExecution
    keeps_row = True

    def opcode(self, node: Upsample) -> Opcode:
        return Opcode.UPSAMPLE

    def fields(self, node: Upsample, places: Places) -> dict[str, int]:
        return {"factor": node.factor, "factor_width": node.factor}

    def counts(self, config: HardwareConfig, form: forms.Upsample) -> Counts:
        size = 1 if form.has(Flag.CODE_INPUT) else 2
        words = ceil_divide(form.channels * size, config.bus_bytes)
        return streamed(config, form, form.batch * form.output_pixels * words)

    def sample(self, view: SampleView, node: Upsample) -> tuple[np.ndarray, np.ndarray]:
        """One copy."""
        row, column = view.random_pixel()
        return view.result[row, column], view.inputs[0][row // node.factor, column // node.factor]


OPERATORS = {Upsample: UpsampleOperator()}
