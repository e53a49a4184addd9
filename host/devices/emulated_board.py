"""A board that real pynq drives and that is not there: registers, memory and the accelerator of an emulated ``pynq.Device``.

The accelerator is one of the devices without a board (:mod:`.emulator`, :mod:`.csim`), run by a thread of its own. Memory behaves
as on a Zynq without coherent ports: host and accelerator see what the other wrote only after a flush or an invalidation.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pynq
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynqmetadata.frontends import Metadata

from ...hls.build import bitstreams
from ...hls.build.bitstreams import Bitstream
from ...hls.build.handoff import ACCELERATOR, RESET, VLNV, bitstream_name, cells, handoff
from ...hls.machine.boards import find_board
from ...hls.machine.config import HardwareConfig
from ...hls.machine.isa import CONFIG_HASH, CONTROL, DONE, ERROR, IDLE, PROGRESS, START
from ..common.errors import DeviceError
from .simulated import SimulatedBuffer, SimulatedDevice, whole_pages

READY = 8
MOST_REGISTERS = 4096  # of the processing system that anybody may write
MOST_ABANDONED = 4  # runs that go on though the accelerator was reset
PLL_60 = 60 << 8 | 0x10000  # feedback divider 60, output halved: 33.333 MHz x 60 / 2 = 1,000 MHz (UG1087)
ZYNQ_PLL_20 = 20 << 12  # 50 MHz x 20 (UG585)
PS_REGISTERS = {0xFF5E_0020: PLL_60, 0xFF5E_0030: PLL_60, 0xFD1A_002C: PLL_60}
PS_REGISTERS |= dict.fromkeys((0xF800_0100, 0xF800_0104, 0xF800_0108), ZYNQ_PLL_20)


class EmulatedBoard(pynq.Device):
    """A board whose programmable logic is ``fabric``. ``cma_bytes``: contiguous memory (default: as the configuration's board).

    ``run`` is one run of the accelerator; a subclass that does something else shows what the driver makes of it.
    """

    def __init__(self, fabric: SimulatedDevice, cma_bytes: int | None = None, name: str | None = None):
        board = find_board(fabric.config.board)
        self.name = name or f"emulated-{board.name}-{os.getpid()}"
        super().__init__(self.name)
        self.capabilities = {"REGISTER_RW": True}
        self.arch = board.architecture
        self.fabric = fabric
        self.cma_bytes = (board.cma_mib << 20) if cma_bytes is None else cma_bytes
        self.default_memory = _Memory(self)
        self.processing_system: dict[int, int] = dict(PS_REGISTERS)
        self._accelerator, self._reset = (
            next(cell for cell in cells(fabric.config) if cell.name == wanted) for wanted in (ACCELERATOR, RESET)
        )
        self._is_configured = False
        self._worker = self._new_worker()
        self._abandoned: list[_Worker] = []
        self._has_run = False

    # ------------------------------------------------------------------------------------------------- pynq's side

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> RuntimeMetadataParser:
        """What the .hwh beside a .bit says of its design. FileNotFoundError where there is none."""
        path = Path(bitfile_name).with_suffix(".hwh")
        if not path.is_file():
            raise FileNotFoundError(f"found no {path}, which belongs to {bitfile_name}")
        parser = RuntimeMetadataParser(Metadata(input=path))
        parser.refresh_hierarchy_dict()
        return parser

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Configure the programmable logic, as pynq's ``Overlay.download`` has it done."""
        self.configure()
        super().post_download(bitstream, parser, self.name)

    def get_memory(self, description: Any) -> _Memory:
        """The board's contiguous memory, of which there is one."""
        return self.default_memory

    def read_registers(self, address: int, length: int) -> bytes:
        """``length`` bytes of registers from ``address`` on, multiples of 4."""
        return b"".join(struct.pack("<I", self.read_word(address + offset)) for offset in range(0, length, 4))

    def write_registers(self, address: int, data: bytes) -> None:
        """Write ``data``, whole words, to registers from ``address`` on. DeviceError for more registers than anybody needs."""
        for offset, (value,) in enumerate(struct.iter_unpack("<I", bytes(data))):
            self.write_word(address + 4 * offset, value)

    def read_file(self, path: str) -> bytes:
        """The contents of those of Linux's files that the driver looks at. FileNotFoundError for others."""
        if path == "/proc/meminfo":
            return f"CmaTotal: {self.cma_bytes >> 10} kB\nCmaFree: {self.default_memory.free_bytes >> 10} kB\n".encode()
        raise FileNotFoundError(path)

    def flush(self, bo: Allocation, offset: int, virtual_address: int, nbytes: int) -> None:
        """Make what the host wrote to bytes [offset, offset + nbytes) of a buffer visible to the accelerator."""
        bo.simulated.data[offset : offset + nbytes] = bo.host[offset : offset + nbytes]
        bo.simulated.flush()

    def invalidate(self, bo: Allocation, offset: int, virtual_address: int, nbytes: int) -> None:
        """Make what the accelerator wrote to bytes [offset, offset + nbytes) of a buffer visible to the host."""
        bo.host[offset : offset + nbytes] = bo.simulated.data[offset : offset + nbytes]

    # ------------------------------------------------------------------------------------------------- the board's side

    def configure(self) -> None:
        """Behave as when a bitstream was loaded: registers are as after a reset, and memory stays."""
        self._reset_accelerator()
        self._is_configured = True

    def switch_on(self) -> None:
        """Behave as when power came: nothing is configured, and registers are as after a reset."""
        self._reset_accelerator()
        self._is_configured = False
        self.processing_system = dict(PS_REGISTERS)

    def power_cycle(self) -> None:
        """Lose everything: configuration, registers and the contents of memory."""
        self.switch_on()
        for buffer in self.fabric.buffers:
            buffer.data[:] = 0xA5
            buffer.flush()

    def _reset_accelerator(self) -> None:
        if self._worker.is_busy:
            self._worker.stop()  # whatever it does until then is nothing to the board
            self._abandoned = [each for each in (*self._abandoned, self._worker) if each.is_running]
            if self._worker.is_running:
                self.fabric.leave_running()
            self._worker = self._new_worker()
        self.fabric.reset()
        self._has_run = False

    def _new_worker(self) -> _Worker:
        """A thread for the accelerator, which ends with the board."""
        worker = _Worker()
        weakref.finalize(self, worker.stop)
        return worker

    def read_word(self, address: int) -> int:
        """A 32-bit register of the accelerator or the processing system; 0 where there is none."""
        offset = address - self._accelerator.address
        if not 0 <= offset <= self._accelerator.last_address - self._accelerator.address:
            return self.processing_system.get(address, 0)
        if not self._is_configured:
            return 0
        if offset == CONTROL:
            return START if self._worker.is_busy else IDLE | (DONE | READY if self._has_run else 0)
        if offset == CONFIG_HASH and not self._has_run:
            return 0  # the accelerator writes it when it runs
        return self.fabric.read_register(offset)

    def write_word(self, address: int, value: int) -> None:
        """Write a 32-bit register, start or reset the accelerator. DeviceError for more registers or runs than anybody needs."""
        offset = address - self._accelerator.address
        if address == self._reset.address and value & 1:
            self._reset_accelerator()
        elif not 0 <= offset <= self._accelerator.last_address - self._accelerator.address:
            if len(self.processing_system) >= MOST_REGISTERS and address not in self.processing_system:
                raise DeviceError(
                    f"found {MOST_REGISTERS + 1} registers that were written, expected at most {MOST_REGISTERS}"
                )
            self.processing_system[address] = value
        elif self._is_configured and offset == CONTROL and value & START:
            if not self._worker.is_busy:
                self._abandoned = [each for each in self._abandoned if each.is_running]
                if len(self._abandoned) >= MOST_ABANDONED:
                    raise DeviceError(f"{MOST_ABANDONED} runs go on that were reset; wait until one of them ends")
                self._has_run = True
                self._worker.start(self.run)
        elif self._is_configured and offset != CONTROL:
            self.fabric.write_register(offset, value)

    def run(self) -> None:
        """Run the program that registers and memory hold, once. One for which this machine has no memory is refused."""
        registers = self.fabric.registers
        try:
            self.fabric.start()
        except MemoryError:
            registers[ERROR] = max(registers[PROGRESS], 1)


class _Worker:
    """A thread that runs the accelerator, always the same one: libraries keep thread pools per thread.

    A run that raises never finishes, as a real accelerator that meets a bus error; Python prints what it raised.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.is_busy = False
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether its run goes on; one that has raised is busy and does not."""
        return self.is_busy and self._thread.is_alive()

    def start(self, run: Callable[[], None]) -> None:
        self.is_busy = True
        self._work.put(run)

    def stop(self) -> None:
        """End the thread, after the run that it is in."""
        self._work.put(None)

    def _loop(self) -> None:
        while (run := self._work.get()) is not None:
            run()
            del run  # it holds the board
            self.is_busy = False


class Allocation:
    """A buffer as host and accelerator see it."""

    def __init__(self, simulated: SimulatedBuffer):
        self.simulated = simulated
        self.host = np.zeros(simulated.data.size, np.uint8)


class _Memory:
    """Contiguous memory: allocates pynq's own buffers and takes them back."""

    def __init__(self, board: EmulatedBoard):
        self._board = board
        self.allocations: dict[int, Allocation] = {}

    @property
    def free_bytes(self) -> int:
        return self._board.cma_bytes - sum(whole_pages(each.host.size) for each in self.allocations.values())

    def reserve(self, nbytes: int) -> Allocation:
        if whole_pages(nbytes) > self.free_bytes:
            raise RuntimeError("Failed to allocate Memory!")  # as pynq says it
        allocation = Allocation(self._board.fabric.allocate(nbytes))
        self.allocations[allocation.simulated.address] = allocation
        return allocation

    def allocate(self, shape: Any, dtype: Any = "u4", **_: Any) -> pynq.buffer.PynqBuffer:
        allocation = self.reserve(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        address = allocation.simulated.address
        buffer = pynq.buffer.PynqBuffer(
            shape, dtype, device=self._board, device_address=address, bo=allocation, buffer=allocation.host.data
        )
        buffer.memory = buffer.return_to = self  # pynq gives the pointer back with the buffer
        buffer.pointer = address
        buffer.freed = True  # it is not mapped memory: pynq 4.0.0 would unmap it when it is freed twice
        return buffer

    def return_pointer(self, address: int) -> None:
        allocation = self.allocations.pop(address, None)
        if allocation is not None:
            allocation.simulated.free()


def placeholder_bitstream(config: HardwareConfig, folder: Path) -> Bitstream:
    """A .bit that configures nothing but emulated boards, with the .hwh of ``config``'s design and a manifest that says so."""
    folder.mkdir(parents=True, exist_ok=True)
    name = bitstream_name(config)
    (folder / f"{name}.bit").write_bytes(_bit_file(f"{name};emulated only", find_board(config.board).part))
    (folder / f"{name}.hwh").write_text(handoff(config))
    manifest: Mapping[str, Any] = {
        "name": name,
        "digest": config.digest,
        "vlnv": VLNV,
        "built": False,
        "kind": "placeholder for emulated boards",
    }
    target = folder / "placeholder"
    bitstreams.publish(folder, config, manifest, target)
    return bitstreams.find_bitstream(config, target)


def _bit_file(design: str, part: str) -> bytes:
    """A .bit file's header fields and an empty configuration."""
    header = struct.pack(">h", 9) + bytes.fromhex("0ff00ff00ff00ff000") + struct.pack(">h", 1)
    for key, text in zip("abcd", (design, part, "2000/01/01", "00:00:00"), strict=True):
        content = text.encode() + b"\0"
        header += key.encode() + struct.pack(">h", len(content)) + content
    payload = b"\xff" * 64
    return header + b"e" + struct.pack(">i", len(payload)) + payload
