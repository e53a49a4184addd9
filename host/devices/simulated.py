"""What the devices without a board share: buffers in host memory, registers, and runs that begin with a check.

What a program and its parameter block say is not trusted: both are copied when a run begins, the copies are checked
(:mod:`...hls.machine.descriptor_rules`, :mod:`...hls.machine.scalar_rules`) and run. What may not be is refused as the
accelerator refuses: its ERROR register has 1 + the index of the first such descriptor, and nothing has run.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ...hls.contract.arithmetic import ceil_divide
from ...hls.machine.boards import find_board
from ...hls.machine.config import HardwareConfig
from ...hls.machine.descriptor_rules import check_count, check_descriptors
from ...hls.machine.isa import (
    CONFIG_HASH,
    CONTROL,
    DESCRIPTOR,
    DESCRIPTOR_COUNT,
    DONE,
    ERROR,
    IDLE,
    PROGRESS,
    SCALARS,
    START,
    Region,
    base_registers,
)
from ...hls.machine.refusal import Refusal
from ...hls.machine.scalar_rules import ScalarRules
from ..common.errors import DeviceError
from ..common.memory import SLACK
from .device import Ownership

READ_ONLY = (CONFIG_HASH, ERROR, PROGRESS, CONTROL)
PAGE = 4096
PROGRAMS = 4  # that are kept checked and prepared, the latest ones


@dataclass(eq=False)
class SimulatedBuffer:
    """Host memory that plays the board's: coherent, so flush and invalidate only mark what changed."""

    storage: np.ndarray  # data and SLACK bytes
    address: int
    device: weakref.ref[SimulatedDevice]
    version: int = 0

    @property
    def data(self) -> np.ndarray:
        """Its bytes uint8 [nbytes]; empty after it was freed."""
        return self.storage[:-SLACK]

    def flush(self, start: int = 0, stop: int | None = None) -> None:
        """Mark the buffer as changed: programs in it are checked again."""
        self.version += 1

    def invalidate(self, start: int = 0, stop: int | None = None) -> None:
        """Nothing: host and accelerator see the same bytes."""

    def free(self) -> None:
        """Give the memory back, and forget programs that were in it."""
        self.storage = np.zeros(SLACK, np.uint8)
        device = self.device()
        if device is not None:
            device.forget_programs()


def whole_pages(nbytes: int) -> int:
    """The bytes of the whole pages that ``nbytes`` take."""
    return ceil_divide(nbytes, PAGE) * PAGE


@dataclass(frozen=True)
class Key:
    """What a program that may be run is known by: sizes and addresses of its regions, how often they were flushed."""

    count: int
    addresses: frozenset[int]
    places: tuple[tuple[int, int], ...]
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Descriptors as they were when they were checked, records [n] of the ISA, and the rules of their scalars."""

    descriptors: np.ndarray
    rules: ScalarRules


@dataclass(frozen=True)
class Run:
    """What a run works on, taken when it begins: no register that is written and no buffer that is freed meanwhile changes it.

    ``memory``: of each region the bytes and SLACK more, of PARAMETERS a copy; ``key``: what program and weights are known by.
    """

    program: Program
    memory: dict[Region, np.ndarray]
    registers: dict[int, int]
    key: Key

    @property
    def descriptors(self) -> np.ndarray:
        """Records [n] of the program."""
        return self.program.descriptors

    @property
    def scalars(self) -> np.ndarray:
        """Records [n] of the parameter block, one for each descriptor."""
        return self.memory[Region.PARAMETERS][: len(self.descriptors) * SCALARS.itemsize].view(SCALARS)


Made = TypeVar("Made")


class OfPrograms(Generic[Made]):
    """Keeps what was made of the latest few programs."""

    def __init__(self) -> None:
        self._made: dict[Key, Made] = {}

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        """What was made of the program ``key``, or is made now."""
        made = self._made.pop(key, None)
        made = make() if made is None else made
        self._made = dict([*list(self._made.items())[1 - PROGRAMS :], (key, made)])
        return made

    def keep(self, addresses: set[int]) -> None:
        """Keep only what is of programs all of whose buffers are at ``addresses``."""
        self._made = {key: made for key, made in self._made.items() if key.addresses <= addresses}


class SimulatedDevice(ABC):
    """Base of the devices without a board: ``execute`` runs the program that registers and memory hold. ``refusal``: why the last
    one was refused, if it was."""

    check = True  # reading registers costs nothing here

    def __init__(self, name: str, config: HardwareConfig, counting: bool):
        self.name = name
        self.config = config
        self.counting = counting
        self.ownership = Ownership()
        self.refusal: Refusal | None = None
        self._programs: OfPrograms[Program | Refusal] = OfPrograms()
        self.registers: dict[int, int] = {}
        self.reset()
        self.buffers: list[SimulatedBuffer] = []
        self._next_address = 0x1000_0000

    def allocate(self, nbytes: int) -> SimulatedBuffer:
        """Memory of the host, at an address of its own. DeviceError for less than a byte."""
        if nbytes < 1:
            raise DeviceError(f"found a buffer of {nbytes} bytes, expected at least 1")
        buffer = SimulatedBuffer(np.zeros(nbytes + SLACK, np.uint8), self._next_address, weakref.ref(self))
        self._next_address += whole_pages(nbytes)
        self.buffers = [*self._held(), buffer]
        return buffer

    def forget_programs(self) -> None:
        """Forget programs whose memory has been freed."""
        self._keep_programs({buffer.address for buffer in self._held()})

    def _keep_programs(self, addresses: set[int]) -> None:
        """Keep what was made of programs all of whose buffers are at ``addresses``, and nothing else."""
        self._programs.keep(addresses)

    def leave_running(self) -> None:
        """Let what still runs, in another thread, keep the memory that it has: every buffer goes on with a copy."""
        for buffer in self._held():
            buffer.storage = buffer.storage.copy()
            buffer.version += 1  # nothing that was made for the old memory is taken for the new one
        self._keep_programs(set())

    def _held(self) -> list[SimulatedBuffer]:
        """Buffers that have not been freed."""
        return [buffer for buffer in self.buffers if buffer.data.size]

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register; START in CONTROL runs the program, and returns when it has ended."""
        if offset == CONTROL and value & START:
            self.start()
        elif offset not in READ_ONLY:
            self.registers[offset] = value

    def read_register(self, offset: int) -> int:
        """A 32-bit register; 0 where nothing was written."""
        return self.registers.get(offset, 0)

    def start(self) -> None:
        """Check the program that registers and memory hold, and run it, or refuse it in the ERROR register."""
        registers = self.registers  # a reset while this runs makes others
        registers[ERROR] = registers[PROGRESS] = 0
        self.refusal = None
        count = registers.get(DESCRIPTOR_COUNT, 0)
        if count:
            begun = self._begin(count, registers)
            if isinstance(begun, Refusal):
                self.refusal = begun
                registers[ERROR] = registers[PROGRESS] = begun.index + 1
            else:
                self.execute(begun)
        registers[CONTROL] = DONE | IDLE

    def _begin(self, count: int, registers: dict[int, int]) -> Run | Refusal:
        buffers, memory = {}, {}
        for region in Region:
            buffer = self._find(region, registers)
            storage = None if buffer is None else buffer.storage
            if buffer is None or storage is None or storage.size == SLACK:
                return Refusal(0, f"pointers to {region.name} that are one buffer's address")
            buffers[region], memory[region] = buffer, storage
        if len({buffer.address for buffer in buffers.values()}) < len(Region):
            return Refusal(0, "a buffer of its own for each region")
        sizes = {region: storage.size - SLACK for region, storage in memory.items()}
        uncounted = check_count(count, sizes)
        if uncounted is not None:
            return uncounted
        addresses = {region: buffers[region].address for region in Region}
        del addresses[Region.PARAMETERS]  # blocks come in turns
        places = (*((address, sizes[region]) for region, address in addresses.items()), (0, sizes[Region.PARAMETERS]))
        versions = tuple(buffers[region].version for region in (Region.PROGRAM, Region.WEIGHTS))
        key = Key(count, frozenset(addresses.values()), places, versions)
        records = memory[Region.PROGRAM][: count * DESCRIPTOR.itemsize]
        program = self._programs.get(key, lambda: self._check(records.copy().view(DESCRIPTOR), sizes))
        if isinstance(program, Refusal):
            return program
        memory[Region.PARAMETERS] = memory[Region.PARAMETERS].copy()
        run = Run(program, memory, registers, key)
        return program.rules.check(run.scalars) or run

    def _check(self, descriptors: np.ndarray, sizes: dict[Region, int]) -> Program | Refusal:
        refusal = check_descriptors(self.config, descriptors, sizes)
        return refusal or Program(descriptors, ScalarRules(descriptors, sizes))

    @abstractmethod
    def execute(self, run: Run) -> None:
        """Run a checked program on its memory."""

    def wait(self, deadline_s: float) -> None:
        """Return at once, for ``start`` did not before the run had ended. DeviceError where nothing was started."""
        if not self.registers[CONTROL] & DONE:
            raise DeviceError(f"the {self.name} was not started; waited {deadline_s:g} s for nothing")

    def stop(self) -> None:
        """Leave the accelerator idle: whoever started it waited for it."""
        self.registers[CONTROL] = IDLE

    def reset(self) -> None:
        """Set the registers to what they hold before anything ran; memory stays."""
        self.registers = {CONFIG_HASH: self.config.register_hash, CONTROL: IDLE}

    def reload(self) -> None:
        """Configure the accelerator again: nothing is left in registers and memory."""
        self.reset()
        self.buffers = []
        self.forget_programs()
        self.ownership.lose()

    def free_memory(self) -> int | None:
        """Bytes of contiguous memory: as many as the configuration's board has, less those that are taken."""
        return (find_board(self.config.board).cma_mib << 20) - sum(buffer.data.size for buffer in self._held())

    def close(self) -> None:
        """Give all memory back."""
        self.buffers = []
        self.forget_programs()

    def region(self, region: Region) -> SimulatedBuffer:
        """The buffer that the registers point to; DeviceError where they point to none, or to several."""
        buffer = self._find(region, self.registers)
        if buffer is None:
            raise DeviceError(f"found pointers to {region.name} that are no buffer's address, expected one buffer's")
        return buffer

    def _find(self, region: Region, registers: dict[int, int]) -> SimulatedBuffer | None:
        addresses = {
            registers.get(register, 0) | registers.get(register + 4, 0) << 32 for register in base_registers(region)
        }
        found = [buffer for buffer in self._held() if {buffer.address} == addresses]
        return found[0] if found else None
