"""What the devices without a board share: buffers in host memory, registers, and regions found by their base addresses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ..hls.boards import find_board
from ..hls.config import HardwareConfig
from ..hls.isa import (
    BASE_ADDRESS,
    CONFIG_HASH,
    CONTROL,
    DESCRIPTOR_COUNT,
    DONE,
    ERROR,
    IDLE,
    PROGRESS,
    START,
    Region,
    base_registers,
)
from .device import DeviceError

READ_ONLY = (CONFIG_HASH, ERROR, PROGRESS, CONTROL)
PAGE = 4096
SLACK = 1 << 18  # bytes that follow each buffer, so that the last pixel of a slice can be viewed at full pitch


@dataclass(eq=False)
class SimulatedBuffer:
    """Host memory that plays the board's: coherent, so flush and invalidate only mark what changed."""

    storage: np.ndarray  # data and SLACK bytes
    address: int
    version: int = 0

    @property
    def data(self) -> np.ndarray:
        return self.storage[:-SLACK]

    def flush(self, start: int = 0, stop: int | None = None) -> None:
        self.version += 1

    def invalidate(self, start: int = 0, stop: int | None = None) -> None:
        pass

    def free(self) -> None:
        self.storage = np.zeros(SLACK, np.uint8)


class SimulatedDevice(ABC):
    """Base: ``execute`` runs the program that registers and memory hold, and may set the ERROR register."""

    def __init__(self, name: str, config: HardwareConfig, counting: bool):
        self.name = name
        self.config = config
        self.counting = counting
        self.registers: dict[int, int] = {}
        self.reset()
        self.buffers: list[SimulatedBuffer] = []
        self._next_address = 0x1000_0000

    def allocate(self, nbytes: int) -> SimulatedBuffer:
        buffer = SimulatedBuffer(np.zeros(nbytes + SLACK, np.uint8), self._next_address)
        self._next_address += -(-nbytes // PAGE) * PAGE
        self.buffers = [kept for kept in self.buffers if kept.data.size] + [buffer]
        return buffer

    def write_register(self, offset: int, value: int) -> None:
        if offset == CONTROL and value & START:
            self.start()
        elif offset not in READ_ONLY:
            self.registers[offset] = value

    def read_register(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def start(self) -> None:
        self.registers[ERROR] = self.registers[PROGRESS] = 0
        if self.registers.get(DESCRIPTOR_COUNT, 0):
            self.execute()
        self.registers[CONTROL] = DONE | IDLE

    @abstractmethod
    def execute(self) -> None: ...

    def wait(self, deadline_s: float) -> None:
        if not self.registers[CONTROL] & DONE:
            raise DeviceError(f"the {self.name} was not started; waited {deadline_s:g} s for nothing")

    def stop(self) -> None:
        self.registers[CONTROL] = IDLE  # whoever started it waited for it

    def reset(self) -> None:
        """Registers as they are before anything ran; memory stays."""
        self.registers = {CONFIG_HASH: self.config.register_hash, CONTROL: IDLE}

    def reload(self) -> None:
        self.reset()
        self.buffers = []

    def free_memory(self) -> int | None:
        """As much as the configuration's board has, less what is taken."""
        return (find_board(self.config.board).cma_mib << 20) - sum(buffer.data.size for buffer in self.buffers)

    def close(self) -> None:
        self.buffers = []

    def region(self, region: Region) -> SimulatedBuffer:
        addresses = {
            self.registers.get(register, 0) | self.registers.get(register + 4, 0) << 32
            for register in base_registers(region)
        }
        address = addresses.pop()
        if addresses:
            raise DeviceError(f"the pointers to {region.name} differ: {address:#x}, {addresses.pop():#x}")
        for buffer in self.buffers:
            if buffer.address == address and buffer.data.size:
                return buffer
        raise DeviceError(
            f"register {BASE_ADDRESS:#x}: {region.name} points to {address:#x}, where no buffer was allocated"
        )
