"""What the benches of the cores have in common: they drive memories and blocks with cocotb, and compare every sum."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from tests.hls.rtl.blocks import Block, Shape, pack, unpack

FILL = 40  # cycles of an empty core from a block to its last sum, at most


async def power_up(dut) -> None:
    dut.reset.value = 1
    cocotb.start_soon(Clock(dut.clk, 2, "ns").start())
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.reset.value = 0


class Bench(ABC):
    """Drives the memories and the core, and collects sums. ``pace``: how often the core may go on in a cycle.

    An operand is what a subclass makes of a block's input pixels.
    """

    PUTS: ClassVar[tuple[str, ...]]  # inputs that write an operand into a memory

    @abstractmethod
    def random(self, rng: np.random.Generator, largest: bool = False) -> tuple[Block, Any]:
        """A block and its operand; ``largest``: with the largest sums that there can be, of weights of -128."""

    @abstractmethod
    def expected(
        self, block: Block, operand: Any, weights: np.ndarray
    ) -> tuple[list[tuple[int, tuple[int, ...]]], int]:
        """The sums that the block stores, with their addresses, and its cycles by the cycle model."""

    @abstractmethod
    async def load(self, block: Block, operand: Any, bank: int) -> None: ...

    def __init__(self, dut, pace: float = 1.0, seed: int = 0):
        names = ("LANES", "OC_TILE", "DIGIT_DEPTH", "POSITIONS", "WEIGHT_DEPTH", "ACCUMULATOR_DEPTH")
        self.dut, self.pace, self.chance = dut, pace, random.Random(seed)
        self.shape = Shape(*(int(getattr(dut, name).value) for name in names))
        self.sums: list[tuple[int, int, tuple[int, ...]]] = []
        self.done: list[int] = []  # in which cycle each block was
        self.cycle = 0

    async def start(self) -> None:
        self.attach()
        await power_up(self.dut)

    def attach(self) -> None:
        """Drives all inputs from now on, and collects what comes out."""
        for name in (*self.PUTS, "weight_put", "block_valid"):
            if hasattr(self.dut, name):
                getattr(self.dut, name).value = 0
        self.gates = ["enable", "may_start"] if hasattr(self.dut, "may_start") else ["enable"]
        for gate in self.gates:
            getattr(self.dut, gate).value = 1
        cocotb.start_soon(self._watch())

    async def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            await RisingEdge(self.dut.clk)

    async def _watch(self) -> None:
        dut, shape = self.dut, self.shape
        bits = (shape.accumulator_depth - 1).bit_length()
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if int(dut.enable.value) and not int(dut.reset.value):
                if int(dut.sum_valid.value):
                    address = int(dut.sum_address.value)
                    values = unpack(int(dut.sum.value), 32, shape.oc_tile)
                    self.sums.append((address >> bits, address & ((1 << bits) - 1), values))
                if int(dut.block_done.value):
                    self.done.append(self.cycle)
            for gate in self.gates:
                getattr(dut, gate).value = int(self.chance.random() < self.pace)

    async def reset(self) -> None:
        self.dut.block_valid.value = 0
        self.dut.reset.value = 1
        await self.wait(self.chance.randint(1, 3))
        self.dut.reset.value = 0
        self.sums.clear()
        self.done.clear()

    async def load_weights(self, weights: np.ndarray) -> None:
        dut = self.dut
        for lane in range(self.shape.lanes):
            for place in range(self.shape.weight_depth):
                dut.weight_put.value = 1 << lane
                dut.weight_place.value = place
                dut.weight.value = pack(weights[lane, place], 8)
                await RisingEdge(dut.clk)
        dut.weight_put.value = 0

    async def send(self, block: Block, bank: int) -> None:
        dut = self.dut
        for name, value in (block.fields() | {"block_bank": bank, "block_sums": bank}).items():
            if hasattr(dut, name):
                handle = getattr(dut, name)
                handle.value = value & ((1 << len(handle)) - 1)
        dut.block_valid.value = 1
        while True:
            await RisingEdge(dut.clk)
            if int(dut.block_ready.value):
                break
        dut.block_valid.value = 0

    async def run(self, blocks: list[tuple[Block, Any]]) -> None:
        """All blocks, each into the bank that the last but one has left."""
        for index, (block, operand) in enumerate(blocks):
            while len(self.done) < index - 1:
                await RisingEdge(self.dut.clk)
            await self.load(block, operand, index % 2)
            await self.send(block, index % 2)
        while len(self.done) < len(blocks):
            await RisingEdge(self.dut.clk)

    def check(self, blocks: list[tuple[Block, Any]], weights: np.ndarray) -> None:
        expected = [
            (index % 2, *sums)
            for index, (block, operand) in enumerate(blocks)
            for sums in self.expected(block, operand, weights)[0]
        ]
        for index, (found, wanted) in enumerate(zip(self.sums, expected, strict=False)):
            assert found == wanted, f"sum {index} of {len(expected)}"
        assert len(self.sums) == len(expected)


def random_weights(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.integers(-128, 128, (shape.lanes, shape.weight_depth, shape.oc_tile))


async def check_random_blocks(bench: Bench) -> None:
    """Sums of many blocks, one after the other, the core being stopped at random."""
    rng = np.random.default_rng(1)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    blocks = [bench.random(rng) for _ in range(40)]
    await bench.run(blocks)
    bench.check(blocks, weights)


async def check_largest_sums(bench: Bench) -> None:
    rng = np.random.default_rng(2)
    await bench.start()
    weights = np.full((bench.shape.lanes, bench.shape.weight_depth, bench.shape.oc_tile), -128)
    await bench.load_weights(weights)
    blocks = [bench.random(rng, largest=True) for _ in range(4)]
    await bench.run(blocks)
    bench.check(blocks, weights)


async def check_resets(bench: Bench) -> None:
    """A reset in the middle of blocks leaves nothing behind: the same blocks, from the first one, have their sums."""
    rng = np.random.default_rng(3)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    blocks = [bench.random(rng) for _ in range(4)]
    for _ in range(10):
        running = cocotb.start_soon(bench.run(blocks))
        await bench.wait(int(rng.integers(1, 600)))
        running.cancel()
        for name in bench.PUTS:
            getattr(bench.dut, name).value = 0
        await bench.reset()
    await bench.run(blocks)
    bench.check(blocks, weights)


async def count_cycles(bench: Bench, blocks: int, repeats: int = 12) -> list[tuple[int, int]]:
    """Random blocks, each back to back, of an operand that stays: cycles by the model, and those that all repeats take."""
    rng = np.random.default_rng(4)
    await bench.start()
    weights = random_weights(rng, bench.shape)
    await bench.load_weights(weights)
    counted = []
    for _ in range(blocks):
        block, operand = bench.random(rng)
        sums, predicted = bench.expected(block, operand, weights)
        await bench.load(block, operand, 0)
        bench.sums.clear()
        bench.done.clear()
        began = bench.cycle
        for _ in range(repeats):
            await bench.send(block, 0)
        while len(bench.done) < repeats:
            await RisingEdge(bench.dut.clk)
        assert [each[1:] for each in bench.sums] == sums * repeats
        counted.append((repeats * predicted, bench.done[-1] - began))
    return counted


async def check_cycles(bench: Bench) -> None:
    """Those of the model and a fill."""
    for predicted, taken in await count_cycles(bench, 8):
        assert predicted <= taken <= predicted * 1.02 + FILL
