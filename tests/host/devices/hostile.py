"""Damages programs and parameter blocks at random, as a hostile client would, and runs what is left of them.

    python -m tests.host.devices.hostile emulator 300 0

in a process of its own, for what goes wrong may end it: every case is announced before it runs. Exit code 0 where each was
refused with an error status or ran to its end, and nothing but its own regions changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ditto_zynq.hls.artefact.model import QuantizedModel
from ditto_zynq.hls.contract.graph import Graph
from ditto_zynq.hls.contract.random_graphs import GraphBuilder, random_unet
from ditto_zynq.hls.machine.isa import (
    CONTROL,
    DESCRIPTOR,
    DESCRIPTOR_COUNT,
    DONE,
    ERROR,
    SCALARS,
    Region,
    base_registers,
)
from ditto_zynq.host.common.memory import SLACK
from ditto_zynq.host.devices.csim import CSimDevice
from ditto_zynq.host.devices.emulator import EmulatorDevice
from ditto_zynq.host.devices.simulated import SimulatedDevice
from ditto_zynq.host.program.compiler import Program, compile_program
from ditto_zynq.host.runtime.session import FLOWS, Session, reference_of

from tests.hls.configs import TINY

CONFIG = TINY  # whose small buffers make every kind of tiling, and parts of a batch that take turns
SEEDS = (None, 5, 8, 3, 7, 0)  # of networks that are damaged in turn; None: the one with channel groups
REGISTERS = [DESCRIPTOR_COUNT, *(register for region in Region for register in base_registers(region))]


def device_of(kind: str, cache: Path | None = None) -> SimulatedDevice:
    return CSimDevice(CONFIG, cache=cache) if kind == "csim" else EmulatorDevice(CONFIG, differences=True)


def network(seed: int | None) -> tuple[GraphBuilder, Graph]:
    """A random one, or one whose first convolution and GroupNorm run group by group."""
    if seed is not None:
        return random_unet(seed)
    build = GraphBuilder(0)
    first = build.convolution(build.input((6, 4, 3)), 4 * CONFIG.oc_tile, (3, 3), padding=(1, 1, 1, 1))
    code = build.quantize(build.silu(build.group_norm(first, 4)), fine=True)
    return build, build.graph(build.convolution(code, 3))


def scalars_of(block: np.ndarray, program: Program) -> np.ndarray:
    """The records of scalars that a parameter block begins with, a view."""
    return block[: len(program.descriptors) * SCALARS.itemsize].view(SCALARS)


class Victim:
    """A program on a device, beside the memory of somebody else, and what it was before it is damaged."""

    def __init__(self, device: SimulatedDevice, seed: int | None):
        build, graph = network(seed)
        self.device = device
        self.foreign = device.allocate(4096)
        self.foreign.data[:] = 0x5A
        artefact = QuantizedModel(
            graph, build.tables, {name: np.ones(graph.groups) for name in graph.tensors}, {}, {}, {}
        )
        self.batch = 1 if seed is None else 1 + seed % 3
        self.program = compile_program(graph, build.tables, CONFIG, self.batch)
        self.session = Session(self.program, artefact, device)
        random = np.random.default_rng(build.seed)
        for region in (Region.ACTIVATIONS, Region.STATE):
            data = self.session.buffers[region].data
            data[:] = random.integers(0, 256, data.size)
        self.memory = {region: buffer.data.copy() for region, buffer in self.session.buffers.items()}
        self.registers = dict(device.registers)

    def restore(self, random: np.random.Generator) -> None:
        """Everything as it was, with the block of some step and flow."""
        for region, content in self.memory.items():
            self.session.buffers[region].data[:] = content
        graph, flow = self.program.graph, FLOWS[random.integers(len(FLOWS))]
        step = int(random.integers(graph.steps - 1))
        labels = random.integers(0, graph.labels, self.batch)
        block = self.program.parameters.block(step, labels, reference_of(flow, step), flow in FLOWS[1:2] + FLOWS[3:])
        self.session.buffers[Region.PARAMETERS].data[: block.size] = block
        self.device.registers = dict(self.registers)

    @property
    def descriptors(self) -> np.ndarray:
        return self.session.buffers[Region.PROGRAM].data.view(DESCRIPTOR)

    @property
    def scalars(self) -> np.ndarray:
        count = len(self.program.descriptors)
        return self.session.buffers[Region.PARAMETERS].data[: count * SCALARS.itemsize].view(SCALARS)

    def run(self) -> int:
        """The ERROR register. AssertionError where the run did not end, or anything of somebody else's changed."""
        for buffer in self.session.buffers.values():
            buffer.flush()
        self.device.start()
        assert self.device.registers[CONTROL] & DONE, "it does not end"
        for buffer in self.session.buffers.values():
            assert not buffer.storage[-SLACK:].any(), "bytes behind a buffer were written"
        assert (self.foreign.data == 0x5A).all(), "somebody else's memory was written"
        return self.device.registers[ERROR]


def damage(victim: Victim, random: np.random.Generator) -> str:
    """One to three changes; what they are."""
    changes = []
    for _ in range(1 + int(random.integers(3)) // 2 * int(random.integers(1, 3))):
        kind = random.random()
        if kind < 0.05:
            register = int(random.choice(REGISTERS))
            value = int(
                random.choice(
                    [0, 1, 1 << 20, (1 << 32) - 1, victim.registers[register] + 1, *victim.registers.values()]
                )
            )
            victim.device.registers[register] = value
            changes.append(f"register {register:#x} = {value:#x}")
            continue
        records = victim.descriptors if kind < 0.75 else victim.scalars
        index = int(random.integers(len(records)))
        name = str(random.choice(records.dtype.names))
        limits, now = np.iinfo(records.dtype[name]), int(records[name][index])
        others = [int(each) for each in random.choice(records[name], 2)]
        near = [now - 1, now + 1, 2 * now, now // 2, now ^ (1 << int(random.integers(limits.bits)))]
        ends = [0, 1, -1, limits.min, limits.max, limits.max // 2 + 1, int(random.integers(limits.min, limits.max))]
        value = int(random.choice(np.array([*near, *ends, *others], object)))
        records[name][index] = np.array(value % (1 << limits.bits), np.uint64).astype(records.dtype[name])
        changes.append(f"{'descriptor' if kind < 0.75 else 'scalars'} {index}: {name} {now} -> {value}")
    return "; ".join(changes)


def main(kind: str, count: int, first: int, cache: Path | None = None) -> None:
    device, ran = device_of(kind, cache), 0
    victims = [Victim(device, seed) for seed in SEEDS]
    for case in range(first, first + count):
        random, victim = np.random.default_rng(case), victims[case % len(SEEDS)]
        victim.restore(random)
        print(f"case {case}: {damage(victim, random)}", flush=True)
        ran += victim.run() == 0
    print(f"{ran} of {count} ran, the others were refused")
    assert count < 20 or 0 < ran < count


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
