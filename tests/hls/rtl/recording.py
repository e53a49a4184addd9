"""Blocks that the C simulation's compute unit works on in a real layer, recorded with record.cpp."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ditto_zynq.hls.build.csim import FLAGS, vendor_headers
from ditto_zynq.hls.build.generate import KERNELS, generate
from ditto_zynq.hls.machine.config import HardwareConfig
from ditto_zynq.hls.machine.isa import POINTERS, Region
from ditto_zynq.host.counting.timeline import overlapped
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.simulated import Run

from .blocks import Block, Lists

SOURCE = Path(__file__).with_name("record.cpp")
HEADER = 21  # int32s of a block after its tag


@dataclass(frozen=True)
class RecordedBlock:
    """One core's part of a phase for a tile of output channels: the iterations of its loops, its sums [pixels, oc_tile]."""

    phase: int
    tile: int
    core: int
    taps: int
    cycles: int
    block: Block
    lists: Lists
    weights: int  # index of the set
    sums: np.ndarray


@dataclass(frozen=True)
class Recording:
    """``weights``: sets [lanes, weight_depth, oc_tile]."""

    weights: list[np.ndarray]
    blocks: list[RecordedBlock]

    def predicted(self, config: HardwareConfig) -> int:
        """Cycles of the compute unit by the cycle model, if encoding and finishing took no time."""
        compute = np.array([self.phases()])
        free = np.zeros_like(compute)
        return int(overlapped(free, compute, free, config.fill_cycles).sum())

    def phases(self) -> list[int]:
        """Of each phase the cycles of its slowest core."""
        slowest: dict[int, dict[int, int]] = {}
        for each in self.blocks:
            of_phase = slowest.setdefault(each.phase, {})
            of_phase[each.tile] = max(of_phase.get(each.tile, 0), each.taps, each.cycles)
        return [sum(of_phase.values()) for of_phase in slowest.values()]


class Recorder:
    """The C simulation of ``config``, compiled in ``folder``."""

    def __init__(self, config: HardwareConfig, folder: Path):
        self.config, self.folder = config, folder
        library = folder / "record.so"
        generate(config, folder)
        includes = [f"-I{path}" for path in (folder, KERNELS, vendor_headers())]
        subprocess.run(["g++", *FLAGS, *includes, str(SOURCE), "-o", str(library)], check=True)
        self._run = ctypes.CDLL(str(library)).ditto_record
        self._run.restype = ctypes.c_uint32

    def record(self, memory: dict[Region, np.ndarray], count: int, descriptor: int) -> Recording:
        """``memory``: bytes of each region before a step of ``count`` descriptors; ``descriptor``: which is recorded, from 0."""
        path = self.folder / "record.bin"
        regions = list(Region)
        pointers = (ctypes.c_void_p * len(regions))(*(memory[region].ctypes.data for region in regions))
        sizes = (ctypes.c_uint64 * len(regions))(*(memory[region].size for region in regions))
        of_pointer = (ctypes.c_uint32 * len(POINTERS))(*(regions.index(pointer.region) for pointer in POINTERS))
        error = self._run(
            pointers,
            sizes,
            ctypes.c_uint32(len(regions)),
            of_pointer,
            ctypes.c_uint32(count),
            ctypes.c_uint32(descriptor + 1),
            str(path).encode(),
        )
        if error:
            raise RuntimeError(f"the C simulation stopped with error {error}")
        weights: list[np.ndarray] = []
        blocks = list(_read(path.read_bytes(), self.config, weights))
        return Recording(weights, blocks)


def _read(data: bytes, config: HardwareConfig, weights: list[np.ndarray]) -> Iterator[RecordedBlock]:
    at, lanes, depth = 0, config.lanes, config.weight_depth

    def take(dtype: type, count: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    while at < len(data):
        [tag] = take(np.int32, 1)
        if tag == 1:
            weights.append(take(np.int8, lanes * depth * config.oc_tile).reshape(lanes, depth, config.oc_tile))
            continue
        header = take(np.int32, HEADER).tolist()
        phase, tile, core, taps, cycles = header[:5]
        block = Block(*header[5:])
        pixels, outputs = block.rows * block.width, block.output_rows * block.output_width
        counts = take(np.int16, pixels * lanes * 2).reshape(pixels, lanes, 2).transpose(1, 2, 0)
        entries = take(np.int16, pixels * block.words * lanes * 2).reshape(-1, lanes, 2).transpose(1, 2, 0)
        digits = ((entries & 31) ^ 16) - 16
        sums = take(np.int32, outputs * config.oc_tile).reshape(outputs, -1)
        yield RecordedBlock(
            phase, tile, core, taps, cycles, block, Lists(counts, digits, entries >> 5), len(weights) - 1, sums
        )


class RecordingDevice(CSimDevice):
    """The C simulation, of whose memory a copy is kept as it is before each of the ``wanted`` steps."""

    def __init__(self, config: HardwareConfig, wanted: set[int]):
        super().__init__(config)
        self.wanted, self.step = wanted, 0
        self.before: dict[int, tuple[dict[Region, np.ndarray], int]] = {}

    def execute(self, run: Run) -> None:
        if self.step in self.wanted:
            memory = {region: self.region(region).data.copy() for region in Region}
            self.before[self.step] = memory, len(run.descriptors)
        self.step += 1
        super().execute(run)
