"""The accelerator in software: the same programs, registers and memory as on the board, the same bits, counted work.

A program's descriptors are prepared once (weights packed, views of memory made) and then executed for every step. The
integer products run on the thread pool of PyTorch or of NumPy's BLAS and nothing else has threads: two pools in a process
would fight for the cores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..hls.config import HardwareConfig
from ..hls.isa import (
    COUNTERS,
    DESCRIPTOR,
    DESCRIPTOR_COUNT,
    SCALARS,
    Opcode,
    Region,
)
from . import defo
from .counting import Encoded
from .cycles import CycleModel
from .execution import Execution, Memory, prepare
from .products import choose_backend
from .simulated import SimulatedDevice


class EmulatorDevice(SimulatedDevice):
    """The fast, bit-exact emulator behind the :class:`~ditto_zynq.host.device.Device` interface.

    ``counting`` fills the counter records (digits, bytes, cycles). ``differences`` really executes
    ``acc_ref + W . (q - q_ref)`` where a program asks for it; otherwise the emulator takes the shortcut ``W . q``, which
    the identity of DESIGN section 2 makes equal, and only counts the differences. ``backend`` forces an integer product
    (see :mod:`.products`). An ``observer`` sees every linear operation's index and operands, codes [B, pixels, C].
    """

    def __init__(
        self,
        config: HardwareConfig,
        counting: bool = True,
        differences: bool = False,
        backend: str | None = None,
    ):
        super().__init__("emulator", config, counting)
        self.differences = differences
        self.backend = choose_backend(backend)
        self.observer: Callable[[int, tuple[np.ndarray, ...]], None] | None = None
        self._prepared: tuple[tuple[int, ...], list[Execution]] | None = None
        self._model: CycleModel | None = None

    def execute(self) -> None:
        executions = self._prepare()
        count = len(executions)
        asked = self.region(Region.PARAMETERS).data[: count * SCALARS.itemsize].view(SCALARS)
        records = self.region(Region.COUNTERS).data[: count * COUNTERS.itemsize].view(COUNTERS)
        linear = np.array([execution.d["opcode"] <= Opcode.MIX for execution in executions]) & (asked["skip"] == 0)
        leaders = np.array([execution.d["leader"] for execution in executions], np.int64)
        taken = defo.decide(records, asked, linear, leaders)
        encoded: list[list[Encoded]] = []
        for index, (execution, scalars) in enumerate(zip(executions, taken, strict=True)):
            if self.observer is not None and linear[index]:
                self.observer(index, execution.operands)
            encoded.append([] if scalars["skip"] else execution.run(scalars))
        if self.counting:
            assert self._model is not None
            lean = self._model.fill(taken, encoded, records)
            defo.record(records, lean, asked, taken, linear, leaders)

    def _prepare(self) -> list[Execution]:
        """Executable descriptors; made again when program, weights or addresses have changed."""
        regions = {region: self.region(region) for region in Region}
        count = self.registers.get(DESCRIPTOR_COUNT, 0)
        fixed = (Region.PROGRAM, Region.WEIGHTS)
        key = (count, *(regions[r].address for r in Region), *(regions[r].version for r in fixed))
        if self._prepared is None or self._prepared[0] != key:
            descriptors = regions[Region.PROGRAM].data[: count * DESCRIPTOR.itemsize].view(DESCRIPTOR)
            memory = Memory({region: buffer.storage for region, buffer in regions.items()})
            self._prepared = (key, [prepare(descriptor, memory, self) for descriptor in descriptors])
            self._model = CycleModel(self.config, descriptors) if self.counting else None
        return self._prepared[1]
