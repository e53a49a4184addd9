"""Means over windows on the host."""

from __future__ import annotations

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.contract.operators import AveragePool
from ...hls.machine import forms
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import Opcode
from ..compute import vector
from ..counting.digits import Encoded
from ..counting.product_cycles import Counts
from ..counting.traffic import beats
from .execution import ImageExecution
from .operator import Operator, SampleView, Table
from .places import Places
from .vector_costs import streamed


class PoolExecution(ImageExecution[forms.Pool]):
    """AVERAGE_POOL: windowed sums, requantized."""

    def run(self, scalars: np.void) -> list[Encoded]:
        form, size = self.form, self.form.window
        rows, columns, channels = form.output_height, form.output_width, form.channels
        image = self.input.dense.reshape(-1, form.height, form.width, channels)[:, : rows * size, : columns * size]
        windows = image.reshape(-1, rows, size, columns, size, channels)
        total = windows.sum(axis=(2, 4), dtype=np.int32).reshape(len(image), -1, channels)
        bias = np.zeros((1, channels), np.int32)
        multiplier = np.array([[scalars["multiplier0"]]], np.int32)
        vector.requantize_rows(total, bias, multiplier, int(scalars["shift"]), self.output.buffer, team=self.means.team)
        return []


class PoolOperator(Operator[AveragePool, forms.Pool]):
    """A mean over windows that do not overlap."""

    opcodes = (Opcode.AVERAGE_POOL,)
    form = forms.Pool
    execution = PoolExecution
    keeps_row = True

    def opcode(self, node: AveragePool) -> Opcode:
        return Opcode.AVERAGE_POOL

    def fields(self, node: AveragePool, places: Places) -> dict[str, int]:
        return {"window": node.size, "window_width": node.size}

    def scalars(self, node: AveragePool, table: Table) -> dict[str, np.ndarray]:
        return {"shift": table(node, "shift"), "multiplier0": table(node, "multiplier")}

    def counts(self, config: HardwareConfig, form: forms.Pool) -> Counts:
        vectors = form.batch * form.output_pixels * ceil_divide(form.channels, config.vector_width)
        return streamed(config, form, vectors * (form.window**2 + 1), self._window_beats(config, form))

    def _window_beats(self, config: HardwareConfig, form: forms.Pool) -> int:
        """Beats of the pixels of all windows; rows and columns that fill no window are not read."""
        image = np.arange(form.batch * form.input_pixels).reshape(form.batch, form.height, form.width)
        used = image[:, : form.output_height * form.window, : form.output_width * form.window]
        return int(beats(form.input + 2 * used * form.input_pitch, 2 * form.channels, config.bus_bytes).sum())

    def sample(self, view: SampleView, node: AveragePool) -> tuple[np.ndarray, np.ndarray]:
        """One window."""
        (x,), (row, column), size = view.inputs, view.random_pixel(), node.size
        window = x[row * size : (row + 1) * size, column * size : (column + 1) * size]
        return view.result[row, column].astype(np.int64), view.run(node, (window[None],))[0, 0, 0]


OPERATORS = {AveragePool: PoolOperator()}
