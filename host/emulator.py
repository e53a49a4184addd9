"""The accelerator in software: the same programs, registers and memory as on the board, the same bits, counted work.

A program's descriptors are prepared once (weights packed, views of memory made) and then executed for every step. The
integer products run on the thread pool of PyTorch or of NumPy's BLAS and nothing else has threads: two pools in a process
would fight for the cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..hls.config import HardwareConfig
from ..hls.isa import (
    BASE_ADDRESS,
    CONFIG_HASH,
    CONTROL,
    COUNTER_NAMES,
    COUNTERS,
    DESCRIPTOR,
    DESCRIPTOR_COUNT,
    DONE,
    ERROR,
    IDLE,
    SCALARS,
    START,
    Region,
    base_register,
)
from .cycles import fill_cycles
from .device import DeviceError
from .execution import SLACK, Execution, Memory, prepare
from .products import choose_backend

PAGE = 4096


@dataclass(eq=False)
class EmulatedBuffer:
    """Host memory that plays the board's: coherent, so flush and invalidate only mark what changed."""

    storage: np.ndarray  # data and SLACK bytes
    address: int
    version: int = 0

    @property
    def data(self) -> np.ndarray:
        return self.storage[:-SLACK]

    def flush(self) -> None:
        self.version += 1

    def invalidate(self) -> None:
        pass

    def free(self) -> None:
        self.storage = np.zeros(SLACK, np.uint8)


class EmulatorDevice:
    """The fast, bit-exact emulator behind the :class:`~ditto_zynq.host.device.Device` interface.

    ``counting`` fills the counter records (digits, bytes, cycles). ``differences`` really executes
    ``acc_prev + W . (q - q_prev)`` where a program asks for it; otherwise the emulator takes the shortcut ``W . q``, which
    the identity of DESIGN section 2 makes equal, and only counts the differences. ``backend`` forces an integer product
    (see :mod:`.products`).
    """

    def __init__(
        self,
        config: HardwareConfig,
        counting: bool = True,
        differences: bool = False,
        backend: str | None = None,
    ):
        self.name = "emulator"
        self.config = config
        self.counting = counting
        self.differences = differences
        self.backend = choose_backend(backend)
        self.registers: dict[int, int] = {CONFIG_HASH: config.register_hash, CONTROL: IDLE}
        self.buffers: list[EmulatedBuffer] = []
        self._next_address = 0x1000_0000
        self._prepared: tuple[tuple[int, ...], list[Execution]] | None = None

    def allocate(self, nbytes: int) -> EmulatedBuffer:
        buffer = EmulatedBuffer(np.zeros(nbytes + SLACK, np.uint8), self._next_address)
        self._next_address += -(-nbytes // PAGE) * PAGE
        self.buffers = [kept for kept in self.buffers if kept.data.size] + [buffer]
        return buffer

    def write_register(self, offset: int, value: int) -> None:
        if offset == CONTROL and value & START:
            self.start()
        elif offset not in (CONFIG_HASH, ERROR, CONTROL):
            self.registers[offset] = value

    def read_register(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def start(self) -> None:
        self.registers[ERROR] = 0
        executions = self._prepare()
        counted = _run(executions, self._region(Region.PARAMETERS).data)
        if self.counting:
            self._store_counters(counted)
        self.registers[CONTROL] = DONE | IDLE

    def wait(self, deadline_s: float) -> None:
        if not self.registers[CONTROL] & DONE:
            raise DeviceError(f"the emulator was not started; waited {deadline_s:g} s for nothing")

    def _region(self, region: Region) -> EmulatedBuffer:
        low, high = (self.registers.get(base_register(region) + word, 0) for word in (0, 4))
        address = low | high << 32
        for buffer in self.buffers:
            if buffer.address == address and buffer.data.size:
                return buffer
        raise DeviceError(
            f"register {BASE_ADDRESS:#x}: {region.name} points to {address:#x}, where no buffer was allocated"
        )

    def _prepare(self) -> list[Execution]:
        """Executable descriptors; made again when program, weights or addresses have changed."""
        regions = {region: self._region(region) for region in Region}
        count = self.registers.get(DESCRIPTOR_COUNT, 0)
        fixed = (Region.PROGRAM, Region.WEIGHTS)
        key = (count, *(regions[r].address for r in Region), *(regions[r].version for r in fixed))
        if self._prepared is None or self._prepared[0] != key:
            descriptors = regions[Region.PROGRAM].data[: count * DESCRIPTOR.itemsize].view(DESCRIPTOR)
            memory = Memory({region: buffer.storage for region, buffer in regions.items()})
            self._prepared = (key, [prepare(descriptor, memory, self) for descriptor in descriptors])
        return self._prepared[1]

    def _store_counters(self, counted: np.ndarray) -> None:
        count = self.registers[DESCRIPTOR_COUNT]
        descriptors = self._region(Region.PROGRAM).data[: count * DESCRIPTOR.itemsize].view(DESCRIPTOR)
        scalars = self._region(Region.PARAMETERS).data[: count * SCALARS.itemsize].view(SCALARS)
        records = self._region(Region.COUNTERS).data[: count * COUNTERS.itemsize].view(COUNTERS)
        for name, column in zip(COUNTER_NAMES, counted.T, strict=True):
            records[name] = column
        fill_cycles(self.config, descriptors, scalars, records)


def _run(executions: list[Execution], parameters: np.ndarray) -> np.ndarray:
    """Run all descriptors; returns counts int64 [descriptors, counters]."""
    counted = np.zeros((len(executions), len(COUNTER_NAMES)), np.int64)
    for index, execution in enumerate(executions):
        offset = execution.scalars
        counts = execution.run(parameters[offset : offset + SCALARS.itemsize].view(SCALARS)[0])
        if counts is not None:
            for name, value in counts.items():
                counted[index, COUNTER_NAMES.index(name)] = value
    return counted
